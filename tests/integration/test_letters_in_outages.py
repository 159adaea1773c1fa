"""Dead letters while a server is away: no database holds up the loop that hears the broker, and no outage is poison."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celery import signals
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Reject
from kombu import Connection

from orchestrator import canvas
from orchestrator.servers.ports import free_port
from orchestrator.store.database import Database
from orchestrator.store.definitions import Plans
from orchestrator.system import System
from tasks import dead_letters, landed, legs, unread
from tests import flights, servers, services
from tests.integration.test_dead_letters import GOOD_EMBED, NOWHERE, QUEUE, body, headers, publish

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]


@pytest.fixture
def lonely(
    postgres_server: str, database_template: str, broker_places: servers.BrokerPlaces, tmp_path: Path
) -> Iterator[System]:
    with services.airport(postgres_server, database_template, broker_places, tmp_path) as found:
        yield found.system


@contextmanager
def silent_postgres() -> Iterator[str]:
    """It accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"postgresql://nobody@127.0.0.1:{server.getsockname()[1]}/none"


def with_database(system: System, url: str) -> System:
    database = Database(url)
    return replace(system, database=database, plans=Plans(database, system.lanes))


@contextmanager
def worker_of(system: System) -> Iterator[None]:
    """Its consumer and its tasks, without the threads beside them."""
    legs.register(system.app, system)
    landed.register(system.app, system)
    dead_letters.register(system.app, system)
    system.app.task(name=flights.WAKE, shared=False)(flights._nothing)
    with start_worker(system.app, pool="threads", concurrency=4, perform_ping_check=False, loglevel="WARNING",
                      shutdown_timeout=30):  # fmt: skip
        try:
            yield
        finally:
            flights._wake_to_stop(system)


def test_no_database_is_asked_in_the_loop_that_hears_the_broker(lonely: System) -> None:
    """Each look at this one takes five seconds."""
    heard = threading.Event()
    with silent_postgres() as url:
        system = with_database(lonely, url)
        system.app.task(name="tests.heard", shared=False)(heard.set)
        with worker_of(system):
            with system.app.connection_for_write() as connection:
                leg = body([[NOWHERE]], {"version": NOWHERE, "start": "a"}, GOOD_EMBED)
                publish(connection, leg, headers=headers(canvas.LEG, redelivered=True))
                for _ in range(10):
                    publish(connection, body([], {}, GOOD_EMBED), headers=headers("os.system"))
            system.app.send_task("tests.heard", queue=QUEUE)
            flights.until(heard.is_set, "what came after them")
    assert {one.reason for one in system.letterbox.take()} == {"unknown_task"}


@pytest.mark.parametrize(
    ("task", "arguments", "words"),
    [(canvas.LEG, [[NOWHERE]], {"version": NOWHERE, "start": "a"}), (canvas.SWEEP, [], {})],
)
def test_who_raises_because_postgres_is_away_is_no_poison(
    lonely: System, task: str, arguments: list[Any], words: dict[str, Any]
) -> None:
    system = with_database(lonely, f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    assert raised_by(system, task, arguments, words) == []


def test_who_raises_because_the_broker_is_away_is_no_poison(lonely: System) -> None:
    scheme, once = lonely.app.connection_for_write().transport_cls, {"max_retries": 1, "interval_start": 0}

    def publishes() -> None:
        with Connection(f"{scheme}://127.0.0.1:{free_port()}//", transport_options=once) as connection:
            connection.Producer().publish({}, routing_key="x", retry=False)

    lonely.app.task(name="tests.publishes", shared=False)(publishes)
    assert raised_by(lonely, "tests.publishes", [], {}) == []


def test_who_raises_because_of_what_the_message_says_is_poison(lonely: System) -> None:
    def stumbles() -> None:
        raise ValueError

    lonely.app.task(name="tests.stumbles", shared=False)(stumbles)
    assert raised_by(lonely, "tests.stumbles", [], {}) == ["raised"]


def raised_by(system: System, task: str, arguments: list[Any], words: dict[str, Any]) -> list[str]:
    """The reasons of the letters that there are once a task has raised."""
    failed = threading.Event()

    def note(sender: Any, **_: Any) -> None:
        if sender.name == task:
            failed.set()

    with worker_of(system):
        signals.task_failure.connect(note)
        system.app.send_task(task, arguments, words, queue=QUEUE)
        flights.until(failed.is_set, "its failure")
    return [one.reason for one in system.letterbox.take()]


def test_both_brokers_tell_a_worker_that_a_message_came_back(lonely: System) -> None:
    said: list[object] = []

    def returns(self: Any) -> None:
        said.append(unread.is_redelivered(self.request))
        if len(said) < 3:
            raise Reject(requeue=True)

    lonely.app.task(name="tests.returns", shared=False, bind=True, acks_late=True)(returns)
    with worker_of(lonely):
        lonely.app.send_task("tests.returns", queue=QUEUE)
        flights.until(lambda: len(said) == 3, "its third delivery")
    assert said == [False, True, True]
