from __future__ import annotations

import pytest

from orchestrator.definition import Expression, Template
from orchestrator.plan import Fork, Leg, Names, Plan
from tests.unit.flying import TRUE, block, gate, plan_of, service


def leg(*steps: str, queue: str = "legs") -> Leg:
    return Leg(steps=steps, queue=queue)


def segment(plan: Plan, start: str | None = None) -> tuple[Leg | Fork, ...]:
    return plan.segment(start or plan.first)


def test_places_are_numbered_in_the_order_of_the_definition_with_a_block_before_its_branches() -> None:
    plan = plan_of(service("a"), block("b", (service("c"), service("d")), service("e")), service("f"))
    assert plan.ids == ("a", "b", "c", "d", "e", "f")
    assert [plan.place(name).order for name in plan.ids] == list(range(6))


def test_a_place_knows_its_block_and_what_comes_after_it_there() -> None:
    plan = plan_of(block("b", (service("c"), service("d")), service("e")), service("f"))
    found = {name: (plan.place(name).block, plan.place(name).after) for name in plan.ids}
    assert found == {"b": (None, "f"), "c": ("b", "d"), "d": ("b", None), "e": ("b", None), "f": (None, None)}
    assert plan.heads("b") == ("c", "e")
    assert plan.heads("c") == ()


def test_neighbours_on_one_queue_are_one_leg() -> None:
    assert segment(plan_of(service("a"), service("b"), service("c"))) == (leg("a", "b", "c"),)


def test_another_queue_is_another_leg_of_the_same_segment() -> None:
    plan = plan_of(service("a"), service("b", "other.b"), service("c", "other.c"), service("d"))
    assert segment(plan) == (leg("a"), leg("b", "c", queue="others"), leg("d"))


@pytest.mark.parametrize("pause", [gate("b"), service("b", pause=True)])
def test_a_segment_ends_with_a_pause_for_only_postgres_can_wait(pause: object) -> None:
    plan = plan_of(service("a"), pause, service("c"))  # type: ignore[arg-type]
    assert segment(plan) == (leg("a", "b"),)
    assert segment(plan, "c") == (leg("c"),)


def test_a_segment_can_begin_anywhere() -> None:
    plan = plan_of(service("a"), service("b"), service("c"))
    assert segment(plan, "b") == (leg("b", "c"),)


def test_a_block_forks_and_what_follows_its_join_is_laid_out_too() -> None:
    plan = plan_of(service("a"), block("b", (service("c"), service("d")), service("e", "other.e")), service("f"))
    fork = Fork(block="b", branches=((leg("c", "d"),), (leg("e", queue="others"),)))
    assert segment(plan) == (leg("a"), fork, leg("f"))


def test_a_pause_within_a_branch_cuts_only_that_branch() -> None:
    plan = plan_of(block("b", (gate("c"), service("d")), service("e")), service("f"))
    assert segment(plan) == (Fork(block="b", branches=((leg("c"),), (leg("e"),))), leg("f"))


def test_a_segment_that_begins_in_a_branch_stays_in_it() -> None:
    plan = plan_of(block("b", (service("c"), service("d")), service("e")), service("f"))
    assert segment(plan, "d") == (leg("d"),)


def test_a_blocks_condition_is_asked_by_the_leg_before_it() -> None:
    plan = plan_of(service("a"), block("b", service("c"), service("d"), when=TRUE))
    assert segment(plan) == (leg("a", "b"), Fork(block="b", branches=((leg("c"),), (leg("d"),))))


def test_blocks_nest() -> None:
    inner = block("c", service("d"), service("e"))
    plan = plan_of(block("b", (inner, service("f")), service("g")))
    nested = Fork(block="c", branches=((leg("d"),), (leg("e"),)))
    assert segment(plan) == (Fork(block="b", branches=((nested, leg("f")), (leg("g"),))),)


def test_what_calls_no_service_is_on_the_queue_of_no_lane() -> None:
    plan = plan_of(gate("a"), block("b", service("c", "other.c"), service("d")))
    assert (plan.queue("a"), plan.queue("b"), plan.queue("c")) == ("legs", "legs", "others")


def test_a_compensation_goes_to_the_queue_of_its_own_lane() -> None:
    plan = plan_of(service("a", undo="other.undo"))
    assert (plan.queue("a"), plan.undo_queue("a")) == ("legs", "others")


def test_a_block_calls_no_service() -> None:
    plan = plan_of(block("b", service("c"), service("d")))
    with pytest.raises(TypeError, match="b calls no service"):
        plan.service("b")
    assert plan.block("c") is None


def test_needs_are_the_steps_that_a_condition_and_an_input_name_each_once() -> None:
    told = Template(value={}, steps=("a", "b"))
    plan = plan_of(service("a"), service("b"), service("c", when=Expression(source="x", steps=("b",)), input=told))
    assert plan.needs == {"a": Names(), "b": Names(), "c": Names(steps=("b", "a"))}


def test_a_long_definition_is_laid_out_without_recursion() -> None:
    plan = plan_of(*(service(f"s{at}", f"{'other' if at % 2 else 'key'}.x") for at in range(3000)))
    assert len(segment(plan)) == 3000
