"""The decision core under a simulated transport: half of the schedules; `test_simulation_again` flies the others, on
another core. `python -m tests.unit.simulation` flies as many as one likes."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import states
from tests.unit.simulation import coverage
from tests.unit.simulation.choices import Choices, Shrinker
from tests.unit.simulation.explore import Broken, Reached, explore, fly, kind_of, replay, shrink, told
from tests.unit.simulation.mutations import MUTATIONS
from tests.unit.simulation.swift import replace, swiftly
from tests.unit.simulation.worker import on_its_clock

SCHEDULES = 150_000
LEAST = 50  # times that each fault has come, and each kind of transition has ended the last branch of a join


def explored(seed: str, schedules: int = SCHEDULES) -> Reached:
    """What so many schedules of a seed reach. Whatever is wrong with them is told with the command that repeats it."""
    again = f"again: python -m tests.unit.simulation --schedules {schedules} --seed '{seed}'"
    try:
        reached = explore(seed, schedules)
    except Broken as broken:
        small = shrink(broken)
        raise AssertionError(
            f"{again}\nor: python -m tests.unit.simulation --replay '{small}'\n{told(small)}"
        ) from broken
    missing = list(coverage.missing(reached, least=LEAST))
    assert not missing, f"not reached: {missing}\n{again}\n{coverage.told(reached)}"
    assert reached.schedules == schedules
    return reached


@pytest.mark.timeout(1800)  # three minutes of a core that is free
def test_whatever_happens_between_commit_and_effect_the_ledgers_and_the_history_keep_the_promises() -> None:
    explored("the first half")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_hypothesis_finds_no_schedule_that_violates_a_law(random: Random) -> None:
    with swiftly(), on_its_clock():
        fly(Choices(random.randrange))


# -- that the simulation is one


def test_the_same_numbers_fly_the_same_schedule() -> None:
    with swiftly(), on_its_clock():
        first = fly(Choices.seeded("again"))
        again = fly(Choices.of(first.world.choices.taken))
    assert first.world.history == again.world.history
    assert first.world.service.ledger == again.world.service.ledger


def test_a_schedule_without_faults_completes() -> None:
    with swiftly(), on_its_clock():
        assert fly(Choices.of([])).world.header.status == states.COMPLETED


def test_a_schedule_that_violates_a_law_is_shrunk_to_one_that_violates_the_same() -> None:
    mutation = next(one for one in MUTATIONS if one.says == "undone in the order of the definition")
    with mutation.planted():
        with pytest.raises(Broken) as caught:
            explore("shrinking", 5_000)
        small = shrink(caught.value, tries=600)
        assert kind_of(replay(small)) == kind_of(caught.value.error) == "AssertionError REVERSE-ORDER LAW"
        assert "REVERSE-ORDER LAW" in told(small)
    assert len(small) < len(caught.value.numbers) / 2
    assert replay(small) is None, "without the bug it flies"


def test_what_is_wrong_with_a_seed_is_told_with_the_commands_that_repeat_it() -> None:
    mutation = next(one for one in MUTATIONS if one.says == "a join is counted twice")
    with (
        mutation.planted(),
        pytest.raises(AssertionError, match=r"(?s)--schedules 500 --seed 'planted'.*--replay") as caught,
    ):
        explored("planted", 500)
    assert "ValueError" in str(caught.value)
    with pytest.raises(AssertionError, match=r"(?s)not reached: .*--schedules 8 --seed 'too few'"):
        explored("too few", 8)


def test_shrinking_leaves_the_fewest_and_the_smallest_numbers() -> None:
    def fails(numbers: Sequence[int]) -> bool:
        return sum(number >= 7 for number in numbers) >= 2

    assert Shrinker(fails, [1, 9, 3, 3, 12, 0, 8, 7]).run() == [7, 7]


def test_what_replaces_quickly_refuses_a_column_that_there_is_not() -> None:
    with swiftly(), on_its_clock():
        row = next(iter(fly(Choices.of([])).world.rows.values()))
    assert replace(row, attempt=7).attempt == 7
    with pytest.raises(TypeError, match="no"):
        replace(row, atempt=7)


def test_an_exploration_that_does_not_reach_everything_says_what_it_misses() -> None:
    missed = list(coverage.missing(explore("too few", 8), least=LEAST))
    assert any(one.startswith("step verb") for one in missed)
    assert any(one.startswith("message lost") for one in missed)
