"""Parents and children: what one learns of the other, in whatever order and how often it is told."""

from __future__ import annotations

from typing import Any

from orchestrator import compensation, control, kinship, operators, states
from orchestrator.children import Refused
from orchestrator.definition import EndStep, WorkflowStep
from orchestrator.kinship import End
from tests.unit.flying import Flight, service

SUB = WorkflowStep(id="sub", workflow="child")


def parent() -> Flight:
    flight = Flight.of(SUB, service("last"))
    flight.run("sub", control.AwaitsChild(id="child"))
    return flight


def end(status: str = states.COMPLETED, **changed: Any) -> End:
    told = {
        "step": "sub",
        "generation": 1,
        "status": status,
        "output": {"status": status},
        "error": "no",
    }
    return End(**{**told, **changed})


def learn(flight: Flight, told: End) -> None:
    flight.apply(lambda instance: kinship.learn(instance, told))


def test_the_end_of_an_earlier_generations_child_is_nothing_to_the_present_one() -> None:
    flight = parent()
    learn(flight, end(states.CANCELLED))
    flight.apply(operators.retry)
    flight.run("sub", control.AwaitsChild(id="another"))
    learn(flight, end(states.CANCELLED))
    assert flight.state("sub") == "WAITING"
    learn(flight, end(generation=2))
    assert flight.state("sub") == "SUCCEEDED"


def test_after_a_child_has_ended_nothing_is_in_doubt_and_a_later_life_starts_another() -> None:
    """The leg that was to start it was lost so often that a person had to let it go on. Was the same child awaited once
    more, nobody would ever tell of it: its end has been told."""
    flight = Flight.of(SUB)
    for _ in range(2):
        flight.claim("sub")
        flight.lose("sub", losses=2)
    assert flight.state("sub") == "UNKNOWN"
    flight.apply(operators.retry)
    flight.run("sub", control.AwaitsChild(id="child"))
    learn(flight, end(states.CANCELLED))
    flight.apply(operators.retry)
    assert (flight.state("sub"), flight.row("sub").generation) == ("READY", 2)


def test_a_doubt_that_an_older_program_has_left_does_not_keep_a_later_life_from_another_child() -> None:
    flight = parent()
    learn(flight, end(states.CANCELLED))
    flight.apply(lambda instance: instance.amend(flight.row("sub"), uncertain=True))
    flight.apply(operators.retry)
    assert (flight.state("sub"), flight.row("sub").generation) == ("READY", 2)


def test_what_is_told_twice_is_heard_once() -> None:
    flight = parent()
    learn(flight, end())
    before = flight.rows
    learn(flight, end())
    assert flight.rows == before


def test_a_child_that_ends_while_its_parent_falls_is_undone_when_it_completed() -> None:
    flight = parent()
    flight.apply(operators.cancel)
    assert flight.status == "COMPENSATING"
    learn(flight, end())
    assert flight.state("sub") == "COMPENSATING"
    flight.run("sub", control.AwaitsChild(id="child"), "undo")
    learn(flight, end(states.COMPENSATED))
    assert flight.status == "CANCELLED"


def test_a_child_that_completed_and_has_nothing_to_undo_is_cancelled_by_its_recall() -> None:
    flight = Flight.of(service("one"))
    flight.run("one")
    flight.apply(kinship.recall)
    assert (flight.status, flight.header.reason) == ("CANCELLED", "recalled")


def test_a_child_that_was_undone_tells_again_when_it_is_recalled_again() -> None:
    flight = Flight.of(service("one", undo="key.none"))
    flight.run("one")
    flight.apply(kinship.recall)
    flight.run("one", phase="undo")
    assert flight.status == "COMPENSATED"
    flight.apply(lambda instance: instance.mark(parent_told=True))
    flight.apply(kinship.recall)
    assert not flight.header.parent_told
    assert flight.status == "COMPENSATED"


def test_a_child_is_abandoned_once() -> None:
    flight = Flight.of(service("one"))
    flight.apply(lambda instance: compensation.fall(instance, compensation.DEADLINE, "deadline"))
    before = flight.header
    assert not flight.apply(kinship.abandon)
    assert flight.header == before


def test_an_early_end_cancels_a_child_and_completes_when_it_is_over() -> None:
    flight = parent()
    flight.apply(lambda instance: compensation.end_early(instance, "enough"))
    assert flight.status == "WAITING"
    learn(flight, end(states.CANCELLED))
    assert (flight.status, flight.header.reason) == ("COMPLETED", "enough")


def test_an_instance_that_ends_early_goes_on_doing_so_when_it_is_resumed() -> None:
    flight = Flight.of(SUB, EndStep(id="stop", kind="end", reason="enough"))
    flight.run("sub", control.AwaitsChild(id="child"))
    flight.apply(lambda instance: compensation.end_early(instance, "enough"))
    flight.apply(operators.suspend)
    flight.apply(operators.resume)
    assert flight.status == "WAITING"


def test_a_child_that_cannot_be_had_fails_the_step() -> None:
    flight = Flight.of(SUB, service("last"))
    flight.run("sub", Refused(error="no such workflow"))
    assert (flight.status, flight.header.reason) == ("FAILED", "rejected")
