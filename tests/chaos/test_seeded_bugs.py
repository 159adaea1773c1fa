"""Bugs planted in the engine and really executed: the checker reports each by its kind, and nothing without them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import tasks.legs
from orchestrator import attempts, children, compensation, conclusions, flow
from orchestrator.attempts import Attempt
from orchestrator.instance import Instance
from orchestrator.lane import Call
from orchestrator.rows import Row
from orchestrator.store import due, transitions
from orchestrator.sweep import sweep
from orchestrator.system import System
from tests import flights, servers
from tests.chaos import checker, recorded
from tests.chaos.shapes import PAYLOAD
from tests.services import LEASE, LOST_AFTER, REJECTED, Airport

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

Plant = Callable[[pytest.MonkeyPatch], None]

SEQUENCE = """
id: sequence
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua, retry: {backoff: 1ms}}
  - {id: b, service: keyed.b, compensate: keyed.ub}
"""
BRANCHES = """
id: branches
steps:
  - id: both
    branches:
      one: [{id: x, service: keyed.x}]
      other: [{id: y, service: keyedFar.y}]
  - {id: last, service: keyed.last}
"""
NEIGHBOURS = """
id: neighbours
steps:
  - {id: x, service: keyed.x, parallel: true}
  - {id: y, service: keyedFar.y, parallel: true}
  - {id: last, service: keyed.last}
"""


@dataclass(frozen=True, kw_only=True)
class Scene:
    airport: Airport
    ledger: Path

    def kinds(self) -> set[str]:
        return checker.check(self.airport.system.database.url, self.ledger).kinds


@pytest.fixture
def scene(
    postgres_server: str, database_template: str, broker_places: servers.BrokerPlaces, tmp_path: Path
) -> Iterator[Scene]:
    with recorded.place(postgres_server, database_template, broker_places, tmp_path) as airport:
        yield Scene(airport=airport, ledger=tmp_path / "ledger.jsonl")


def nothing(_: pytest.MonkeyPatch) -> None:
    """No bug."""


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


# The sweep


def lose_the_sweep(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks for lost leases."""
    patch.setattr(due, "lost_instances", lambda *_: [])


@pytest.mark.parametrize(("plant", "reported"), [(nothing, set()), (lose_the_sweep, {"not-ended"})])
def test_a_lost_lease_that_nobody_finds(
    plant: Plant, reported: set[str], scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    airport = scene.airport
    instance = airport.fly(SEQUENCE, PAYLOAD)
    assert airport.claim(instance, "a", worker="one that dies")
    airport.clock.advance(LEASE * 3)
    sweep(airport.system)
    airport.run(instance, "a")
    assert scene.kinds() == reported


def park_what_was_lost(patch: pytest.MonkeyPatch) -> None:
    """Whatever was lost is left for a person, on every lane: nothing doubles, everything is visibly parked."""

    def park(instance: Instance, row: Row, **_: object) -> None:
        attempts.doubt(instance, row, reason=attempts.UNCERTAIN, error="lost")

    patch.setattr(attempts, "lose", park)


@pytest.mark.parametrize(("plant", "reported"), [(nothing, set()), (park_what_was_lost, {"doubt-needless"})])
def test_a_lost_attempt_that_is_left_for_a_person_although_it_may_be_repeated(
    plant: Plant, reported: set[str], scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    airport = scene.airport
    instance = airport.fly("id: one\nsteps: [{id: a, service: keyed.a}]", PAYLOAD)
    assert airport.claim(instance, "a", worker="one that dies")
    airport.clock.advance(LEASE * 3)
    sweep(airport.system)
    airport.run(instance, "a")
    assert scene.kinds() == reported


def lose_the_sweep_of_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(due, "overdue_instances", lambda *_: [])


@pytest.mark.parametrize(("plant", "reported"), [(nothing, set()), (lose_the_sweep_of_waits, {"not-ended"})])
def test_a_wait_that_nobody_ends(
    plant: Plant, reported: set[str], scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    airport = scene.airport
    instance = airport.fly("id: timer\nsteps: [{id: rest, wait: 1h}]")
    airport.run(instance, "rest")
    assert scene.kinds() == set()
    airport.clock.advance(3601)
    sweep(airport.system)
    assert scene.kinds() == reported


def forget_the_parent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(children, "carry", lambda _: 0)


@pytest.mark.parametrize(("plant", "reported"), [(nothing, set()), (forget_the_parent, {"not-ended"})])
def test_a_parent_that_is_never_told(
    plant: Plant, reported: set[str], scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    airport = scene.airport
    airport.define("id: site\nsteps: [{id: visit, service: keyed.visit}]")
    parent = airport.fly("id: permit\nsteps: [{id: inspection, workflow: site}]", PAYLOAD)
    airport.run(parent, "inspection")
    [[child]] = airport.query("SELECT id FROM instance WHERE parent_id IS NOT NULL")
    airport.run(child.hex, "visit")
    sweep(airport.system)
    assert scene.kinds() == reported


# The join


def count_an_arrival_twice(patch: pytest.MonkeyPatch) -> None:
    """The join is ready when the first branch has ended."""
    arrive = flow._arrive

    def twice(instance: Instance, block: str) -> None:
        row = instance.row(block)
        assert row is not None
        instance.amend(row, branches_left=row.branches_left - 1)
        arrive(instance, block)

    patch.setattr(flow, "_arrive", twice)


def pass_the_join_twice(patch: pytest.MonkeyPatch) -> None:
    """What follows is begun once more when it has ended, as by a late message that nobody drops."""
    leave, begun = flow._leave, set()

    def again(instance: Instance, step: str) -> None:
        if step == "last" and instance.header.id not in begun:
            begun.add(instance.header.id)
            flow._ready(instance, step, instance.row(step))
        else:
            leave(instance, step)

    patch.setattr(flow, "_leave", again)


@pytest.mark.parametrize("definition", [BRANCHES, NEIGHBOURS], ids=["branches", "neighbours"])
@pytest.mark.parametrize(
    ("plant", "reported"),
    [
        (nothing, set()),
        (count_an_arrival_twice, {"join-early", "effect-out-of-order"}),
        (pass_the_join_twice, {"join-doubled", "effect-doubled"}),
    ],
)
def test_a_join_that_is_counted_twice(
    plant: Plant, reported: set[str], definition: str, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    airport = scene.airport
    held = airport.service.hold("y")
    with flights.worker(airport.system):
        instance = airport.fly(definition, PAYLOAD)
        airport.service.came("y")
        if plant is count_an_arrival_twice:
            airport.service.came("last")
        held.set()
        assert airport.ended(instance)["status"] == "COMPLETED"
    assert scene.kinds() == reported
