"""Who comes next in loops and ways, in a first life and in a later one."""

from __future__ import annotations

from orchestrator import control, operators, states
from orchestrator.definition import Expression, ForEachStep, RepeatStep
from orchestrator.rows import Row
from tests.unit.flying import TRUE, Flight, reply, service

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
