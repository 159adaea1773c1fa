"""The database's primary dies in mid-flight and its standby takes over: nothing is lost and nothing repeated where the
standby knew all that was committed; where it lagged, it is a restore to an earlier point, and has to be told as one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from orchestrator.servers.stack import environment
from orchestrator.settings import Settings
from orchestrator.store.database import is_away, upgrade
from tests import flights, services
from tests.chaos.standby import Replicated, replicated
from tests.clock import Clock
from tests.services import Airport, Answer
from tests.tower import run

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.timeout(300)]

ORDER = """
id: order
steps:
  - {id: reserve, service: keyed.reserve, compensate: keyed.release}
  - {id: charge, service: keyed.charge, compensate: keyed.refund}
  - {id: hold, pause: true}
  - {id: ship, service: blind.ship}
"""
DONE = ["reserve:g1:do", "charge:g1:do", "ship:g1:do"]


@contextmanager
def field(database: Replicated, broker_url: str, folder: Path) -> Iterator[Airport]:
    """Without a worker."""
    with services.serving() as service:
        lanes = folder / "services.yaml"
        lanes.write_text(services.LANES.format(url=service.url))
        upgrade(database.url)
        settings = Settings(
            database_url=database.url, broker_url=broker_url, services_file=str(lanes), auth="local", lease=3.0,
            sweep_every=0.1, republish_after=1.0, workflows_dir=str(folder),
        )  # fmt: skip
        with services.composed(settings) as system:
            airport = Airport(system=system, service=service, clock=Clock(database.url))
            airport.define(ORDER)
            yield airport


def waiting(airport: Airport) -> str:
    instance = airport.start("order")
    airport.step_is(instance, "hold", "WAITING")
    return instance


def approve(airport: Airport, *instances: str) -> None:
    for instance in instances:
        airport.decide(instance, "hold", decision="approved")


def start_in_the_end(airport: Airport, key: str) -> str:
    """As a caller does who has been refused: again, with the same key."""

    def started() -> str | None:
        try:
            return airport.start("order", idempotency_key=key)
        except DBAPIError as error:
            if is_away(error):  # a caller is told to come back
                return None
            raise

    return flights.until(started, "the start to be taken")


def test_a_synchronous_standby_takes_over_in_mid_flight_and_nothing_is_lost_or_repeated(
    broker_url: str, tmp_path: Path
) -> None:
    answered = threading.Event()
    with replicated(synchronous=True) as database, field(database, broker_url, tmp_path) as airport:
        with flights.worker_process(airport.system) as worker:
            waits = waiting(airport)
            airport.service.tell("charge", Answer(effect=True, at_once=True, until=answered))
            called = airport.start("order")
            airport.service.came("charge", 2)
            database.fail_over()
            answered.set()
            late = start_in_the_end(airport, "a key")

            for one in (waits, called, late):
                airport.step_is(one, "hold", "WAITING")
                approve(airport, one)
                assert airport.ended(one)["status"] == "COMPLETED"
            assert worker.poll() is None
        assert [airport.service.done(one) for one in (waits, called, late)] == [DONE] * 3
        assert not airport.service.doubles()


def test_a_standby_that_lagged_repeats_no_effect_once_it_is_told_as_a_restore(broker_url: str, tmp_path: Path) -> None:
    with replicated(synchronous=False) as database, field(database, broker_url, tmp_path) as airport:
        with flights.worker_process(airport.system):
            beyond, behind = waiting(airport), waiting(airport)
            database.lag()
            approve(airport, beyond)
            assert airport.ended(beyond)["status"] == "COMPLETED"
        database.fail_over()
        airport.system.database.engine.dispose()
        assert airport.step_is(beyond, "hold", "WAITING"), "the standby knows nothing of its end"
        airport.system.database.engine.dispose()  # nobody may be connected now
        told = run("db", "restored", **environment(airport.system.settings))
        assert (told.returncode, told.stderr) == (0, "")

        with flights.worker_process(airport.system):
            approve(airport, beyond, behind)
            for one in (beyond, behind):
                airport.step_is(one, "ship", "UNKNOWN")
        assert airport.service.done(beyond) == DONE
        assert airport.service.done(behind) == DONE[:2]
