"""A broker that goes away and comes back: a worker takes messages again by itself, within seconds, and is not taken for
deaf meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from urllib.error import HTTPError
from urllib.parse import quote

import pytest

from orchestrator import embedded
from orchestrator.settings import Settings
from orchestrator.system import System
from tests import flights, rabbitmq, servers

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

PATIENCE = 4.0  # seconds of silence before a worker counts as deaf
AWAY = 10.0  # seconds without a broker: by then Celery's own would wait longer and longer between two tries
SHORT = "id: short\nsteps: [{id: only, service: held.pass_by}]"
SERVICES = "services:\n  held: {transport: local, module: tests.held_lane}\n"
LINGERING = """
from celery.worker import loops

drain = loops._quick_drain

def until_it_ends(connection):
    loops._quick_drain = drain
    while connection.connected:
        drain(connection)
    print("its end was swallowed", flush=True)

loops._quick_drain = until_it_ends
"""


class Broker(Protocol):
    """One of this test's own, of the kind that the session tests with."""

    url: str

    def kill(self) -> None: ...

    def start(self) -> object: ...


@dataclass
class Valkey:
    server: embedded.Server

    @property
    def url(self) -> str:
        return self.server.url

    def kill(self) -> None:
        self.server.process.kill()
        self.server.process.wait()

    def start(self) -> None:
        self.server.start()


@dataclass
class RabbitMq:
    node: rabbitmq.Node
    held: ExitStack

    @property
    def url(self) -> str:
        return self.node.url

    def kill(self) -> None:
        self.held.close()

    def start(self) -> None:
        self.held.enter_context(self.node.up())


@contextmanager
def own_broker() -> Iterator[Valkey | RabbitMq]:
    if os.environ.get(servers.BROKER, "").startswith("amqp"):
        if shutil.which("rabbitmq-server") is None:
            servers.missing("RabbitMQ is not here")
        with rabbitmq.node() as node, ExitStack() as held:
            broker = RabbitMq(node, held)
            broker.start()
            yield broker
    else:
        with servers.data_directory() as folder, embedded.broker(folder) as server:
            yield Valkey(server)


def close_whoever_consumes(node: rabbitmq.Node) -> None:
    """As a broker that shuts down does, or an operator: with a word, which a connection that was cut has not."""
    consumers = json.loads(servers.ask(node.url, "GET", f"{node.api}/api/consumers"))
    for name in {consumer["channel_details"]["connection_name"] for consumer in consumers}:
        with suppress(HTTPError):  # gone
            servers.ask(node.url, "DELETE", f"{node.api}/api/connections/{quote(name, safe='')}")


@pytest.fixture
def broker() -> Iterator[Valkey | RabbitMq]:
    with own_broker() as found:
        yield found


@pytest.fixture
def broker_url(broker: Valkey | RabbitMq) -> str:
    return broker.url


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    services = tmp_path / "services.yaml"
    services.write_text(SERVICES)
    return replace(settings, services_file=str(services), workflows_dir=str(tmp_path), deaf_after=PATIENCE)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "PATIENCE", 100.0)


def test_a_worker_consumes_again_within_seconds_of_its_brokers_return(
    system: System, broker: Valkey | RabbitMq, tmp_path: Path
) -> None:
    said = tmp_path / "worker.log"
    path = f"{Path.cwd()}:{':'.join(sys.path)}"
    flights.define(system, SHORT)
    with said.open("wb") as output, flights.worker_process(system, output=output, PYTHONPATH=path) as process:
        flights.ended(system, flights.start(system, "short", {}))
        broker.kill()
        instance = flights.start(system, "short", {})
        away_until = time.monotonic() + AWAY
        flights.until(lambda: time.monotonic() > away_until, "the end of the outage")
        broker.start()
        began = time.monotonic()
        assert flights.ended(system, instance)["status"] == "COMPLETED"
        print(f"consuming {time.monotonic() - began:.1f} s after the broker's return")
        assert process.poll() is None

    assert "hears nothing" not in said.read_text(), "who cannot be heard is not deaf"


def test_a_connection_that_ends_in_the_moment_in_which_it_was_made_is_missed_at_once(
    system: System, broker: Valkey | RabbitMq, tmp_path: Path
) -> None:
    """Celery drains a new connection for a tenth of a second, and says nothing of what goes wrong then."""
    if isinstance(broker, Valkey):
        pytest.skip("only AMQP's connections are drained")
    (tmp_path / "sitecustomize.py").write_text(LINGERING)
    said = tmp_path / "worker.log"
    path = f"{tmp_path}:{Path.cwd()}:{':'.join(sys.path)}"
    flights.define(system, SHORT)
    with said.open("wb") as output, flights.worker_process(system, output=output, PYTHONPATH=path):
        flights.ended(system, flights.start(system, "short", {}))

        def is_swallowed() -> bool:
            close_whoever_consumes(broker.node)
            return "its end was swallowed" in said.read_text()

        flights.until(is_swallowed, "an end of the connection while it is drained")
        flights.ended(system, flights.start(system, "short", {}))

    assert "hears nothing" not in said.read_text()
