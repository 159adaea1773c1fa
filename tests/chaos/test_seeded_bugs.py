"""Bugs planted in how an attempt is fenced, keyed and answered: the checker reports each by its kind, and nothing without."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

import tasks.legs
from orchestrator import attempts, compensation, conclusions
from orchestrator.attempts import Attempt
from orchestrator.instance import Instance
from orchestrator.lane import Call
from orchestrator.store import transitions
from orchestrator.sweep import sweep
from orchestrator.system import System
from tests import flights
from tests.chaos.seeded import SEQUENCE, Plant, Scene, nothing
from tests.chaos.shapes import PAYLOAD
from tests.services import LEASE, LOST_AFTER, REJECTED

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

# The fence


def drop_the_fence(patch: pytest.MonkeyPatch) -> None:
    """Whoever comes with a result is taken for the attempt that runs."""
    conclude = conclusions.conclude

    def unfenced(system: System, instance: Instance, attempt: Attempt, result: object) -> None:
        row = instance.row(attempt.step, attempt.phase)
        conclude(system, instance, replace(attempt, attempt=row.attempt if row else 0), result)  # type: ignore[arg-type]

    patch.setattr(conclusions, "conclude", unfenced)


@pytest.mark.parametrize(("plant", "reported"), [(nothing, set()), (drop_the_fence, {"stale-write"})])
def test_a_zombie_that_records_for_its_successor(
    plant: Plant, reported: set[str], scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    airport = scene.airport
    first, second = airport.service.hold("a"), airport.service.hold("a")
    instance = airport.fly(SEQUENCE, PAYLOAD)
    zombie = threading.Thread(target=airport.run, args=(instance, "a"))
    zombie.start()
    airport.service.came("a")
    airport.clock.advance(LEASE * 2)
    sweep(airport.system)  # it has lost its lease: somebody else takes over
    other = replace(airport, system=replace(airport.system, worker="the other one"))
    successor = threading.Thread(target=other.run, args=(instance, "a"))
    successor.start()
    airport.service.came("a", 2)
    first.set()
    zombie.join()
    second.set()
    successor.join()
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert scene.kinds() == reported


# The key


def put_the_attempt_in_the_key(patch: pytest.MonkeyPatch) -> None:
    key = attempts.idempotency_key

    def of_attempt(attempt: Attempt) -> str:
        head, phase = key(attempt.instance, attempt.step, attempt.generation, attempt.phase).rsplit(":", 1)
        return f"{head}:a{attempt.attempt}:{phase}"

    patch.setattr(Attempt, "key", property(of_attempt))


def take_the_attempt_for_the_generation(patch: pytest.MonkeyPatch) -> None:
    """The key has the form of one."""
    patch.setattr(
        Attempt, "key", property(lambda one: attempts.idempotency_key(one.instance, one.step, one.attempt, one.phase))
    )


@pytest.mark.parametrize(
    ("plant", "reported"),
    [
        (nothing, set()),
        (put_the_attempt_in_the_key, {"effect-doubled", "effect-unknown"}),
        (take_the_attempt_for_the_generation, {"effect-doubled", "effect-unknown"}),
    ],
)
def test_a_key_that_differs_from_attempt_to_attempt(
    plant: Plant, reported: set[str], scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    scene.airport.service.tell("a", LOST_AFTER)
    with flights.worker(scene.airport.system):
        instance = scene.airport.fly(SEQUENCE, PAYLOAD)
        assert scene.airport.ended(instance)["status"] == "COMPLETED"
    assert scene.kinds() == reported


# The errback


def _living(system: System) -> list[str]:
    with system.database.transaction() as connection:
        found = connection.exec_driver_sql("SELECT id FROM instance WHERE ended_at IS NULL AND outcome IS NULL")
        return [row[0].hex for row in found]


def let_the_errback_compensate(patch: pytest.MonkeyPatch) -> None:
    """It fells whatever it finds."""

    def fell(system: System) -> None:
        transitions.transition(
            system.database,
            system.plans,
            _living(system),
            lambda one: compensation.fall(one, "failed"),
            worker="errback",
        )

    patch.setattr("tasks.legs.dispatch", fell)


def let_the_errback_refund(patch: pytest.MonkeyPatch) -> None:
    """It calls the compensation itself, and tells nobody."""

    def refund(system: System) -> None:
        for trace in _living(system):
            call = Call(
                tenant=flights.TENANT, trace=trace, step="a", lane="keyed", operation="ua", key=f"{trace}:a:g1:undo",
                attempt=1, payload=PAYLOAD, input=PAYLOAD, timeout=10.0, callback_url="", undo=True,
            )  # fmt: skip
            system.caller.call(system.lanes["keyed"], call)

    patch.setattr("tasks.legs.dispatch", refund)


@pytest.mark.parametrize(
    ("plant", "reported"),
    [
        (nothing, set()),
        (let_the_errback_compensate, {"refund-of-what-lives"}),
        (let_the_errback_refund, {"refund-of-what-lives", "effect-unknown"}),
    ],
)
def test_an_errback_that_compensates_what_lives(
    plant: Plant, reported: set[str], scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    airport, told = scene.airport, threading.Event()
    errback: Callable[[System], object] = vars(tasks.legs)["dispatch"]

    def tell(system: System) -> None:
        errback(system)
        told.set()

    monkeypatch.setattr("tasks.legs.dispatch", tell)
    airport.service.tell("fails", REJECTED)
    with flights.worker(airport.system):
        lives = airport.fly(
            "id: lives\nsteps: [{id: a, service: keyed.a, compensate: keyed.ua}, {id: b, pause: true}]", PAYLOAD
        )
        airport.step_is(lives, "b", "WAITING")
        fails = airport.fly("id: fails\nsteps: [{id: c, service: keyed.fails}]", PAYLOAD)
        assert airport.ended(fails)["status"] == "FAILED"
        assert told.wait(flights.PATIENCE)
        if airport.status(lives)["status"] == "WAITING":
            airport.decide(lives, "b", decision="approved")
        airport.ended(lives)
    assert scene.kinds() == reported
