from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orchestrator import approvals, calls, escalation
from orchestrator.approvals import Answer
from orchestrator.definition import Escalation, Retry, TimeoutAction
from tests.unit.flying import EPOCH, Flight, block, operation, reply, service

APPROVED, REJECTED = (TimeoutAction(kind="decide", decision=said) for said in ("approved", "rejected"))


def waiting(action: TimeoutAction, **rest: Any) -> Flight:
    """`a` waits, and its time is up."""
    flight = Flight.of(service("a", **{"pause": True, "timeout": 60.0, "on_timeout": action, **rest}), service("b"))
    flight.run("a", reply("done", later=True))
    flight.wait(60)
    return flight


def escalating(call: str = "key.a", to: str = "key.backup", **rest: Any) -> Flight:
    backup = Escalation(to=operation(to), **{key: rest.pop(key) for key in ("timeout", "on_timeout") if key in rest})
    flight = waiting(TimeoutAction(kind="escalate"), call=call, escalation=backup, **rest)
    flight.on("a", escalation.time_out)
    return flight


def test_a_wait_is_due_at_its_deadline_and_not_before() -> None:
    flight = waiting(TimeoutAction())
    assert flight.on("a", escalation.is_due) is True
    flight.wait(-0.001)
    assert flight.on("a", escalation.is_due) is False


def test_only_what_waits_for_a_deadline_is_due() -> None:
    flight = Flight.of(service("a", pause=True))
    assert flight.on("a", escalation.is_due) is False
    flight.run("a")
    flight.wait(10**8)
    assert flight.on("a", escalation.is_due) is False


def test_to_fail_is_the_default() -> None:
    flight = waiting(TimeoutAction())
    flight.on("a", escalation.time_out)
    assert (flight.state("a"), flight.row("a").reason, flight.status, flight.header.reason) == (
        "FAILED",
        "timeout",
        "FAILED",
        "timeout",
    )


def test_a_step_may_be_skipped_when_its_time_is_up() -> None:
    flight = waiting(TimeoutAction(kind="skip"))
    flight.on("a", escalation.time_out)
    assert (flight.state("a"), flight.row("a").reason, flight.state("b")) == ("SKIPPED", "timeout", "READY")


@pytest.mark.parametrize(("action", "state"), [(APPROVED, "SUCCEEDED"), (REJECTED, "FAILED")])
def test_the_deadline_may_decide_and_then_it_is_the_winner(action: TimeoutAction, state: str) -> None:
    flight = waiting(action)
    flight.on("a", escalation.time_out)
    assert (flight.state("a"), flight.row("a").decision) == (state, action.decision)
    other = Answer(decision="rejected" if action.decision == "approved" else "approved")
    assert approvals.rule(flight.row("a"), flight.status, other, 1).present == action.decision


def test_to_retry_is_the_same_generation_with_a_budget_anew() -> None:
    flight = waiting(TimeoutAction(kind="retry"), retry=Retry(max=1))
    flight.on("a", escalation.time_out)
    row = flight.row("a")
    assert (row.state, row.generation, row.tries, row.due_at) == ("RETRYING", 1, 0, flight.now)
    assert row.budget_until == EPOCH + timedelta(seconds=120)


def test_a_retry_by_deadline_is_bounded_like_any_other() -> None:
    flight = waiting(TimeoutAction(kind="retry"), retry=Retry(max=1))
    flight.on("a", escalation.time_out)
    flight.run("a")
    flight.wait(60)
    flight.on("a", escalation.time_out)
    assert (flight.state("a"), flight.row("a").reason) == ("FAILED", "timeout")


def test_a_budget_that_is_used_up_before_the_send_times_the_step_out() -> None:
    flight = Flight.of(service("a", timeout=60.0, on_timeout=TimeoutAction(kind="skip")), service("b"))
    flight.run("a", calls.Overdue())
    assert (flight.state("a"), flight.row("a").reason, flight.state("b")) == ("SKIPPED", "timeout", "READY")


def test_a_retry_that_would_come_after_the_budget_times_the_step_out_now() -> None:
    flight = Flight.of(service("a", timeout=5.0, retry=Retry(backoff=60, jitter=False)))
    flight.run("a", reply("refused"))
    assert (flight.state("a"), flight.row("a").reason) == ("FAILED", "timeout")


# -- escalation


def test_an_escalation_is_a_new_generation_for_the_backup() -> None:
    flight = escalating(to="other.backup", timeout=30.0)
    row = flight.row("a")
    assert (row.state, row.generation, row.service, row.queue, row.escalated) == (
        "READY",
        2,
        "other.backup",
        "others",
        True,
    )
    attempt = flight.claim("a")
    assert attempt is not None
    assert (attempt.service, attempt.key.endswith(":g2:do"), attempt.tries, attempt.uncertain) == (
        "other.backup",
        True,
        1,
        False,
    )
    assert flight.row("a").budget_until == flight.now + timedelta(seconds=30)


def test_whoever_was_escalated_away_is_told_that_the_wait_is_over() -> None:
    flight = escalating()
    flight.run("a", reply("done", later=True))
    assert approvals.rule(flight.row("a"), flight.status, Answer(decision="approved"), 1).kind == "gone"


@pytest.mark.parametrize(
    ("action", "state"), [(TimeoutAction(), "FAILED"), (TimeoutAction(kind="skip"), "SKIPPED"), (APPROVED, "SUCCEEDED")]
)
def test_a_backup_that_does_not_answer_either_has_an_action_of_its_own(action: TimeoutAction, state: str) -> None:
    flight = escalating(timeout=30.0, on_timeout=action)
    flight.run("a", reply("done", later=True))
    flight.wait(30)
    flight.on("a", escalation.time_out)
    assert flight.state("a") == state


def test_nobody_is_escalated_to_twice() -> None:
    flight = escalating(timeout=30.0, on_timeout=TimeoutAction(kind="escalate"))
    flight.run("a", reply("done", later=True))
    flight.wait(30)
    flight.on("a", escalation.time_out)
    assert (flight.state("a"), flight.row("a").generation) == ("FAILED", 2)


def test_what_the_first_service_may_have_done_is_undone_although_the_backup_surely_did_not_do_it() -> None:
    flight = escalating(undo="key.ua")
    flight.run("a", reply("rejected"))
    assert (flight.state("a"), flight.state("a", "undo")) == ("COMPENSATING", "READY")


def test_a_backup_without_keys_is_asked_again_after_it_has_refused() -> None:
    flight = escalating(to="none.backup")
    flight.run("a", reply("refused"))
    assert flight.state("a") == "RETRYING"


def test_a_rejection_by_the_deadline_is_no_answer_of_the_service() -> None:
    flight = waiting(REJECTED, undo="key.ua")
    flight.on("a", escalation.time_out)
    assert (flight.row("a").decision, flight.state("a", "undo")) == ("rejected", "READY")


# -- where nothing may be repeated, and where all falls


def test_what_a_lane_without_keys_has_begun_is_unknown_when_its_time_is_up() -> None:
    flight = waiting(TimeoutAction(kind="retry"), call="none.a", pause=False)
    flight.on("a", escalation.time_out)
    assert (flight.state("a"), flight.status) == ("UNKNOWN", "STUCK")


def test_a_person_who_was_told_by_a_lane_without_keys_may_be_told_again() -> None:
    flight = waiting(TimeoutAction(kind="retry"), call="none.a")
    flight.on("a", escalation.time_out)
    assert flight.state("a") == "RETRYING"


@pytest.mark.parametrize("kind", ["escalate", "skip", "retry"])
def test_while_the_instance_falls_a_deadline_only_fails(kind: Any) -> None:
    step = service(
        "a",
        timeout=60.0,
        undo="key.ua",
        on_timeout=TimeoutAction(kind=kind),
        escalation=Escalation(to=operation("key.b")),
    )
    flight = Flight.of(block("par", step, service("last")))
    attempt = flight.claim("a")
    assert attempt is not None
    flight.fall()
    flight.land(attempt, calls.Overdue())
    assert (flight.state("a"), flight.status) == ("FAILED", "FAILED")


def test_a_compensation_whose_time_is_up_is_stuck() -> None:
    flight = Flight.of(service("a", undo="key.ua", timeout=60.0), service("last"))
    flight.run("a")
    flight.fall()
    flight.run("a", reply("done", later=True), "undo")
    flight.on("a", escalation.time_out, "undo")
    assert (flight.state("a", "undo"), flight.state("a"), flight.status) == ("FAILED", "STUCK", "STUCK")
