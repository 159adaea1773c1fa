"""Who comes next in loops and ways, in a first life and in a later one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator import control, operators, states
from orchestrator.definition import Expression, ForEachStep, RepeatStep
from orchestrator.rows import Row
from tests.unit.flying import TRUE, Flight, block, reply, service

MANY = 3000
UNTIL = Expression(source="false")


def each(*, concurrency: int = 2) -> ForEachStep:
    return ForEachStep(id="each", items=TRUE, steps=(service("one"),), concurrency=concurrency)


def test_iterations_begin_in_order_and_only_as_many_as_may_run_side_by_side() -> None:
    flight = Flight.of(each(), service("last"))
    flight.run("each", control.Listed(items=[1, 2, 3]))
    assert flight.states() == {"each": "RUNNING", "one[0]": "READY", "one[1]": "READY"}
    flight.run("one[1]")
    assert flight.state("one[2]") == "READY"
    flight.run("one[0]")
    flight.run("one[2]")
    assert flight.state("each") == "SUCCEEDED"
    assert flight.state("last") == "READY"


def test_thousands_of_iterations_that_stand_are_passed_without_a_call_within_a_call() -> None:
    flight = Flight.of(each(concurrency=1), service("last"))
    flight.run("each", control.Listed(items=[]))
    done = [Row(step=f"one[{at}]", phase="do", order=1, queue="legs", state=states.SUCCEEDED) for at in range(MANY)]
    flight.rows |= {row.key: row for row in done}
    flight.run("last", reply("rejected", error="no"))
    flight.apply(operators.retry)
    flight.run("each", control.Listed(items=list(range(MANY))))
    assert flight.state("each") == "SUCCEEDED"
    assert flight.state("last") == "READY"


def exhausted(**rest: object) -> Flight:
    flight = Flight.of(RepeatStep(id="again", until=UNTIL, max=1, steps=(service("ask"),), **rest))  # type: ignore[arg-type]
    if rest:
        flight.run("again", control.Opened())
    flight.run("ask[0]")
    flight.run("again", control.Checked(is_done=False))
    assert (flight.status, flight.header.reason) == ("FAILED", "exhausted")
    flight.apply(operators.retry)
    return flight


def test_an_exhausted_repeat_is_allowed_as_many_rounds_again() -> None:
    flight = exhausted()
    flight.run("again", control.Checked(is_done=False))
    assert flight.state("ask[1]") == "READY"


def test_a_repeat_with_a_condition_is_opened_anew_in_a_later_life_and_not_taken_for_one_to_be_looked_at() -> None:
    flight = exhausted(when=TRUE)
    attempt = flight.claim("again")
    assert attempt is not None
    assert attempt.begun == 0
    flight.land(attempt, control.Opened())
    flight.run("again", control.Checked(is_done=False))
    assert flight.state("ask[1]") == "READY", "it is allowed as many rounds again"


def test_hundreds_of_blocks_that_stand_are_passed_without_a_call_within_a_call() -> None:
    blocks = [block(f"k{at}", service(f"x{at}"), service(f"y{at}")) for at in range(400)]
    flight = Flight.of(*blocks, service("last"))
    done = {row.key: row for row in flight.rows.values()}
    for place in flight.plan.ids[:-1]:
        is_block = flight.plan.block(place) is not None
        state = states.SUCCEEDED if not is_block else states.SKIPPED
        row = Row(step=place, phase="do", order=0, queue="legs", state=state, reason="ended" if is_block else None)
        done[row.key] = row
    flight.rows = done
    flight.header = replace(flight.header, status=states.FAILED, outcome="failed", cause="rejected")
    flight.apply(operators.retry)
    assert flight.state("last") == "READY"


def test_a_repeat_that_was_exhausted_and_tolerated_is_done_again_when_its_inside_was_undone() -> None:
    loop = RepeatStep(id="again", until=UNTIL, max=1, steps=(service("ask", undo="key.unask"),), on_error="continue")
    flight = Flight.of(loop, service("last"))
    flight.run("ask[0]")
    flight.run("again", control.Checked(is_done=False))
    flight.run("last", reply("rejected", error="no"))
    flight.run("ask[0]", phase="undo")
    flight.apply(operators.retry)
    flight.run("ask[0]")
    flight.run("again", control.Checked(is_done=False))
    assert flight.state("again") == "FAILED", "no more rounds than it may have"
    assert flight.state("last") == "READY"


@pytest.mark.parametrize("name", ["one[x]", "one[]", "one[", "one[0]x", "one[01]", "one[-1]", "one[٣]", "one[0][0]", "one",
                                  "each[0]", "one[" + "9" * 5000 + "]", "", "[0]"])  # fmt: skip
def test_what_is_no_steps_name_is_taken_for_none(name: str) -> None:
    assert not Flight.of(each()).plan.has(name)
