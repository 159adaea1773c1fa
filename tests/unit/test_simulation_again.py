"""The other half of the schedules, in CI others every time; and bugs planted in the core for the simulation to find."""

from __future__ import annotations

import os
import secrets
import sys

import pytest

from tests.unit.simulation.explore import explore, replay
from tests.unit.simulation.mutations import MUTATIONS, Mutation, found_in
from tests.unit.simulation.scenes import ANYTHING, Scene
from tests.unit.test_simulation import explored

AT_MOST = 10_000  # schedules until a bug is found, of each seed: far fewer than are flown
SEEDS = ("mutations", "a")


def seed_of_this_run() -> str:
    """In CI another one every time: what was never flown is found there, and a laptop is spared surprises."""
    return str(secrets.randbelow(1_000_000)) if os.environ.get("CI", "").lower() == "true" else "the second half"


@pytest.mark.timeout(1800)
def test_the_other_half_of_the_schedules_keeps_the_promises_as_well(capfd: pytest.CaptureFixture[str]) -> None:
    seed = seed_of_this_run()
    with capfd.disabled():  # a worker of pytest-xdist has no other way to the terminal
        print(f"\nsimulation: seed '{seed}'", file=sys.stderr, flush=True)
    explored(seed)


def test_in_ci_the_seed_is_another_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    assert len({seed_of_this_run() for _ in range(5)}) > 1
    monkeypatch.delenv("CI")
    assert seed_of_this_run() == "the second half"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.says.replace(" ", "-"))
def test_a_bug_in_the_core_is_found(mutation: Mutation) -> None:
    found = next(filter(None, (found_in(mutation, seed, AT_MOST) for seed in SEEDS)), None)
    assert found is not None, f"not found in {AT_MOST} schedules: {mutation.says}"
    assert replay(found.numbers, mutation.scene) is None, (
        "the simulation itself is broken: it fails without the bug, too"
    )


@pytest.mark.parametrize("scene", [one.scene for one in MUTATIONS if one.scene is not ANYTHING])
def test_without_its_bug_every_schedule_of_a_scene_keeps_the_promises(scene: Scene) -> None:
    assert explore("scenes", 2_000, scene).schedules == 2_000
