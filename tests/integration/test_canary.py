"""The canary: one tiny instance for all workers, every interval; its age is told, and nobody sees it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest
from flask.testing import FlaskClient

from orchestrator import canary, queries
from orchestrator.api.app import create_app
from orchestrator.rows import CANARY
from orchestrator.settings import Settings
from orchestrator.store import health
from orchestrator.store.canary import newest
from orchestrator.system import System
from tests import flights
from tests.clock import Clock

pytestmark = pytest.mark.integration

EVERY = 60.0


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, canary=EVERY)


@pytest.fixture
def clock(clock: Clock) -> Clock:
    """At the beginning of an interval, so that none ends while a test looks."""
    clock.advance(EVERY - clock.now().timestamp() % EVERY + 1)
    return clock


@pytest.fixture
def api(system: System) -> FlaskClient:
    return create_app(system).test_client()


@pytest.fixture
def unsent(system: System) -> Iterator[System]:
    """A worker whose own timer sends none, so that the test alone does."""
    quiet = flights.compose(replace(system.settings, canary=0.0))
    with flights.worker(quiet):
        yield quiet
    quiet.close()


def statuses(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [
            row[0] for row in connection.execute("SELECT status FROM instance WHERE tenant = %s ORDER BY id", [CANARY])
        ]


def through(system: System) -> None:
    """The canary of this interval has come through."""
    assert canary.send(system)
    flights.until(lambda: set(statuses(system.database.url)) == {"COMPLETED"}, "the canary")


def test_ten_workers_at_once_send_one_in_an_interval_and_one_in_the_next(system: System, clock: Clock) -> None:
    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(lambda _: canary.send(system), range(10))) == 1
        assert sum(pool.map(lambda _: canary.send(system), range(10))) == 0
        clock.advance(EVERY)
        assert sum(pool.map(lambda _: canary.send(system), range(10))) == 1
    assert len(statuses(system.database.url)) == 2


def test_a_worker_sends_it_by_itself_and_brings_it_through(settings: Settings) -> None:
    system = flights.compose(replace(settings, canary=0.5))
    with flights.worker(system):
        flights.until(lambda: queries.proof(system) == {"age": pytest.approx(0, abs=5), "late": False}, "a proof")
    system.close()


def test_it_comes_through_dispatcher_broker_and_claims(system: System, unsent: System, clock: Clock) -> None:
    through(system)
    with psycopg.connect(system.database.url) as connection:
        found = connection.execute(
            "SELECT step, verb FROM history WHERE tenant = %s AND step IS NOT NULL ORDER BY seq", [CANARY]
        ).fetchall()
    assert [verb for step, verb in found if step == "hop"][:2] == ["ready", "claim"]
    assert [verb for step, verb in found if step == "chirp"][:2] == ["ready", "claim"]


def test_its_age_is_told_by_ready_and_metrics(system: System, unsent: System, clock: Clock, api: FlaskClient) -> None:
    assert api.get("/readyz").get_json()["canary"] == {"age": None, "late": True}
    assert "orchestrator_canary" not in api.get("/metrics").text
    through(system)
    clock.advance(2 * EVERY)
    told = api.get("/readyz").get_json()["canary"]
    assert told["age"] == pytest.approx(2 * EVERY, abs=20)
    assert told["late"] is False
    measured = {line.split()[0]: float(line.split()[1]) for line in api.get("/metrics").text.splitlines() if "canary" in line and line[0] != "#"}  # fmt: skip
    assert measured["orchestrator_canary_age_seconds"] == pytest.approx(2 * EVERY, abs=20)
    assert 0 <= measured["orchestrator_canary_duration_seconds"] < 20


def test_a_late_one_is_a_503_only_for_who_asks_for_that(
    system: System, unsent: System, clock: Clock, api: FlaskClient
) -> None:
    through(system)
    assert api.get("/readyz?canary=strict").status_code == 200
    clock.advance(canary.LATE * EVERY)
    relaxed, strict = api.get("/readyz"), api.get("/readyz?canary=strict")
    assert (relaxed.status_code, relaxed.get_json()["canary"]["late"]) == (200, True)
    assert (strict.status_code, strict.get_json()["canary"]["late"]) == (503, True)


def test_switched_off_it_is_neither_sent_nor_told(settings: Settings, clock: Clock) -> None:
    system = flights.compose(replace(settings, canary=0.0))
    assert not canary.send(system)
    answer = create_app(system).test_client().get("/readyz?canary=strict")
    assert (answer.status_code, answer.get_json()["canary"]) == (200, None)
    system.close()


def test_those_that_came_through_go_but_for_the_newest(system: System, unsent: System, clock: Clock) -> None:
    for _ in range(4):
        through(system)
        assert len(statuses(system.database.url)) <= 2
        clock.advance(EVERY)


def test_those_that_nobody_brings_through_are_given_up(system: System, clock: Clock) -> None:
    for _ in range(20):
        canary.send(system)
        clock.advance(EVERY)
    assert len(statuses(system.database.url)) <= canary.KEPT + 1


def test_the_proof_stays_while_its_successors_do_not_come_through(
    system: System, settings: Settings, clock: Clock
) -> None:
    quiet = flights.compose(replace(settings, canary=0.0))
    with flights.worker(quiet):
        through(system)
    quiet.close()
    for _ in range(20):
        clock.advance(EVERY)
        canary.send(system)
    with system.database.transaction() as connection:
        proof = newest(connection)
    assert proof is not None
    assert proof.age == pytest.approx(20 * EVERY, abs=20)


def test_nobody_sees_it(system: System, clock: Clock, api: FlaskClient) -> None:
    canary.send(system)
    with psycopg.connect(system.database.url) as connection:
        connection.execute("UPDATE instance SET status = 'STUCK' WHERE tenant = %s", [CANARY])
        connection.execute("UPDATE step SET ready_at = ready_at - interval '1 hour' WHERE tenant = %s", [CANARY])
    assert api.get("/api/workflows").get_json()["items"] == []
    assert [one["id"] for one in api.get("/api/definitions").get_json()["items"] if one["id"] == "canary"] == []
    counted = [line for line in api.get("/metrics").text.splitlines() if not line.startswith("#")]
    assert [line for line in counted if line.startswith(("orchestrator_instances", "orchestrator_steps"))] == []
    assert "canary" not in api.get("/ui").text
    with system.database.transaction() as connection:
        assert health.stuck(connection) == 0
        assert health.waiting(connection) == []
