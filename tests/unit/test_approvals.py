from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator import approvals, operators, states
from orchestrator.approvals import Answer, Ruling
from orchestrator.rows import Row
from tests.unit.flying import Flight, block, reply, service

YES, NO = Answer(decision="approved", by="clerk"), Answer(decision="rejected", comment="blurred", by="clerk")
WAITS = Row(step="a", phase="do", order=0, queue="legs", state=states.WAITING, service="key.a", generation=2)


def waiting(*more: Any, **rest: Any) -> Flight:
    flight = Flight.of(service("a", pause=True, **rest), *more)
    flight.run("a")
    return flight


def decide(flight: Flight, answer: Answer, step: str = "a", phase: Any = "do") -> None:
    flight.on(step, approvals.decide, phase, answer=answer)


# -- who wins, in the order of the interface's table


def test_the_same_decision_again_is_repeated_even_when_the_instance_has_ended() -> None:
    decided = replace(WAITS, state=states.SUCCEEDED, decision="approved")
    assert approvals.rule(decided, "COMPLETED", YES, 2) == Ruling(kind="repeated", present="approved")


def test_whoever_decides_otherwise_is_told_the_winner() -> None:
    decided = replace(WAITS, state=states.SUCCEEDED, decision="approved")
    assert approvals.rule(decided, "RUNNING", NO, 1) == Ruling(kind="conflict", present="approved")


def test_an_instance_that_has_ended_is_decided_no_more() -> None:
    assert approvals.rule(WAITS, "CANCELLED", YES, 1) == Ruling(kind="conflict", present="CANCELLED")


def test_who_was_escalated_away_is_told_so() -> None:
    assert approvals.rule(WAITS, "WAITING", YES, 1).kind == "gone"
    assert approvals.rule(WAITS, "WAITING", YES, 2).kind == "made"


def test_a_person_without_a_token_decides_what_waits_now() -> None:
    assert approvals.rule(WAITS, "WAITING", NO, None) == Ruling(kind="made", present="rejected")


@pytest.mark.parametrize("state", [states.RUNNING, states.RETRYING, states.UNKNOWN])
def test_a_service_may_answer_before_its_leg_has_parked_or_after_its_reply_was_lost(state: str) -> None:
    assert approvals.rule(replace(WAITS, state=state), "RUNNING", YES, 2).kind == "made"


@pytest.mark.parametrize("state", sorted(set(states.STEP_STATES) - approvals.RESOLVABLE))
def test_what_neither_runs_nor_waits_cannot_be_decided(state: str) -> None:
    assert approvals.rule(replace(WAITS, state=state), "RUNNING", YES, 2) == Ruling(kind="conflict", present=state)


@pytest.mark.parametrize("generation", [None, 1])
def test_a_block_is_ended_by_its_branches_and_by_nobody_else(generation: int | None) -> None:
    flight = Flight.of(block("par", service("a"), service("b")), service("last"))
    ruling = approvals.rule(flight.row("par"), flight.status, YES, generation)
    assert ruling == Ruling(kind="conflict", present="RUNNING")


# -- what a decision does


def test_an_approval_goes_on_with_its_result() -> None:
    flight = waiting(service("b"))
    flight.on(
        "a", approvals.decide, answer=Answer(decision="approved", result={"stamp": 7}, comment="fine", by="clerk")
    )
    assert (flight.state("a"), flight.row("a").decision, flight.state("b")) == ("SUCCEEDED", "approved", "READY")
    told = next(one for one in flight.history if one.verb == "resolve")
    assert told.output == {"decision": "approved", "result": {"stamp": 7}, "comment": "fine"}


def test_a_rejection_fails_the_instance_and_undoes_what_was_done_before() -> None:
    flight = Flight.of(service("z", undo="key.uz"), service("a", pause=True, undo="key.ua"))
    flight.run("z")
    flight.run("a")
    decide(flight, NO)
    assert (flight.state("a"), flight.row("a").reason, flight.state("z")) == ("FAILED", "rejected", "COMPENSATING")
    assert next(one.error for one in flight.history if one.verb == "reject") == "blurred"
    flight.run("z", phase="undo")
    assert (flight.undone(), flight.status, flight.header.reason) == (["z"], "COMPENSATED", "rejected")


def test_a_rejection_may_be_a_result_to_branch_on() -> None:
    flight = waiting(service("b"), on_reject="continue")
    decide(flight, NO)
    assert (flight.state("a"), flight.row("a").decision, flight.state("b")) == ("SUCCEEDED", "rejected", "READY")


def test_a_leg_that_comes_back_after_the_callback_changes_nothing() -> None:
    flight = Flight.of(service("a", pause=True), service("b"))
    attempt = flight.claim("a")
    decide(flight, YES)
    before = flight.rows
    assert attempt is not None
    assert not flight.land(attempt)
    assert flight.rows == before


def test_a_wait_that_was_decided_while_suspended_is_recorded_and_its_successor_held_back() -> None:
    flight = waiting(service("b"))
    flight.apply(operators.suspend)
    decide(flight, YES)
    assert (flight.status, flight.state("b"), flight.claim("b")) == ("SUSPENDED", "READY", None)


def test_a_compensation_can_be_answered_later_too() -> None:
    flight = Flight.of(service("a", undo="key.ua"), service("last"))
    flight.run("a")
    flight.fall()
    flight.run("a", reply("done", later=True), "undo")
    assert flight.state("a", "undo") == "WAITING"
    decide(flight, YES, phase="undo")
    assert (flight.state("a"), flight.status) == ("COMPENSATED", "COMPENSATED")


def test_the_decision_on_a_compensation_does_not_outlive_its_renewal() -> None:
    flight = Flight.of(service("a", undo="key.ua"), service("last"))
    flight.run("a")
    flight.fall()
    flight.run("a", reply("done", later=True), "undo")
    decide(flight, NO, phase="undo")
    assert (flight.status, flight.header.reason) == ("STUCK", "undo_failed")
    flight.apply(operators.retry)
    assert flight.row("a", "undo").decision is None
    flight.run("a", reply("done", later=True), "undo")
    assert approvals.rule(flight.row("a", "undo"), flight.status, YES, 2).kind == "made"


def test_a_failure_that_does_not_say_whether_it_was_done_changes_nothing_when_it_is_told_again() -> None:
    flight = Flight.of(service("a", "none.a"))
    flight.run("a", reply("done", later=True))
    failure = Answer(decision="rejected", error="killed", uncertain=True)
    decide(flight, failure)
    before = flight.header, flight.rows
    decide(flight, failure)
    assert (flight.header, flight.rows) == before
    assert flight.state("a") == states.UNKNOWN
