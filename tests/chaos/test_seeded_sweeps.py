"""Bugs planted in what finds lost leases, waits that are over, and families: something has not ended, or needlessly so."""

from __future__ import annotations

import pytest

from orchestrator import attempts, children
from orchestrator.instance import Instance
from orchestrator.rows import Row
from orchestrator.store import due
from orchestrator.sweep import sweep
from tests.chaos.seeded import SEQUENCE, Plant, Scene, nothing
from tests.chaos.shapes import PAYLOAD
from tests.services import LEASE, Airport

pytestmark = [pytest.mark.chaos, pytest.mark.integration]


def lose(airport: Airport, flight: str) -> None:
    """Its first step is claimed by one that dies, and what a sweep makes of that is run."""
    instance = airport.fly(flight, PAYLOAD)
    assert airport.claim(instance, "a", worker="one that dies")
    airport.clock.advance(LEASE * 3)
    sweep(airport.system)
    airport.run(instance, "a")


def lose_the_sweep(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks for lost leases."""
    patch.setattr(due, "lost_instances", lambda *_: [])


@pytest.mark.parametrize(("plant", "reported"), [(nothing, set()), (lose_the_sweep, {"not-ended"})])
def test_a_lost_lease_that_nobody_finds(
    plant: Plant, reported: set[str], scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    lose(scene.airport, SEQUENCE)
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
    lose(scene.airport, "id: one\nsteps: [{id: a, service: keyed.a}]")
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
