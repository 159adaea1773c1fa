"""The other half of the schedules, and bugs planted in the core for the simulation to find."""

from __future__ import annotations

import pytest

from tests.unit.simulation import coverage
from tests.unit.simulation.explore import replay
from tests.unit.simulation.mutations import MUTATIONS, Mutation, found_in
from tests.unit.test_simulation import LEAST, SCHEDULES, explored

AT_MOST = 10_000  # schedules until a bug is found, of each seed: far fewer than are flown
SEEDS = ("mutations", "a")


@pytest.mark.timeout(1800)
def test_the_other_half_of_the_schedules_keeps_the_promises_as_well() -> None:
    reached = explored("the second half")
    assert reached.schedules == SCHEDULES
    assert not list(coverage.missing(reached, least=LEAST)), coverage.told(reached)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.says.replace(" ", "-"))
def test_a_bug_in_the_core_is_found(mutation: Mutation) -> None:
    found = next(filter(None, (found_in(mutation, seed, AT_MOST) for seed in SEEDS)), None)
    assert found is not None, f"not found in {AT_MOST} schedules: {mutation.says}"
    assert replay(found.numbers) is None, "the simulation itself is broken: it fails without the bug, too"
