from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from orchestrator import attempts, calls, compensation, control, operators
from orchestrator.attempts import idempotency_key
from orchestrator.definition import Compensation, Escalation, Retry
from orchestrator.lane import Reply
from tests.unit.flying import EPOCH, LEASE, LIMIT, TRACE, TRUE, Flight, block, gate, operation, reply, service

SECOND = timedelta(seconds=1)


def falling(**rest: Any) -> tuple[Flight, attempts.Attempt]:
    """`a` runs while its instance has begun to fall."""
    flight = Flight.of(block("par", service("a", undo="key.ua", **rest), service("last")))
    attempt = flight.claim("a")
    assert attempt is not None
    flight.fall()
    return flight, attempt


def test_a_claim_takes_a_step_under_a_lease_and_counts_the_attempt() -> None:
    flight = Flight.of(service("a", timeout=100.0))
    attempt = flight.claim("a", alone=False)
    row = flight.row("a")
    assert attempt is not None
    assert (attempt.attempt, attempt.generation, attempt.tries, attempt.uncertain) == (1, 1, 1, False)
    assert (row.state, row.worker, row.alone) == ("RUNNING", "w1", False)
    assert row.lease_until is not None
    assert EPOCH < row.lease_until <= EPOCH + LEASE * SECOND
    assert (row.limit_until, row.budget_until) == (EPOCH + LIMIT * SECOND, EPOCH + 100 * SECOND)


def test_a_second_claim_finds_nothing() -> None:
    flight = Flight.of(service("a"))
    assert flight.claim("a")
    before = flight.rows
    assert flight.claim("a") is None
    assert flight.rows == before


@pytest.mark.parametrize("message", [("b", "do"), ("a", "undo"), ("nothing", "do")])
def test_a_message_that_fits_nothing_claims_nothing(message: Any) -> None:
    flight = Flight.of(service("a", undo="key.ua"), service("b"))
    assert flight.claim(*message) is None


def test_a_step_that_is_to_be_tried_again_can_be_claimed_when_it_is_due_and_not_before() -> None:
    flight = Flight.of(service("a", retry=Retry(backoff=10, jitter=False)))
    flight.run("a", reply("refused"))
    flight.wait(9.9)
    assert flight.claim("a") is None
    flight.wait(0.1)
    again = flight.claim("a")
    assert again is not None
    assert (again.attempt, again.tries, again.key) == (2, 2, f"{TRACE}:a:g1:do")


def test_nothing_is_claimed_while_suspended() -> None:
    flight = Flight.of(service("a"))
    flight.apply(operators.suspend)
    assert flight.claim("a") is None


def test_a_falling_instance_is_only_undone() -> None:
    flight = Flight.of(block("par", service("a", undo="key.ua"), service("last"), service("b")))
    flight.run("a")
    flight.fall()
    assert flight.claim("b") is None
    assert flight.claim("a", "undo") is not None


def test_the_budget_is_the_whole_generations_and_no_attempt_renews_it() -> None:
    flight = Flight.of(service("a", timeout=100.0))
    flight.run("a", reply("refused"))
    flight.wait(5)
    flight.claim("a")
    assert flight.row("a").budget_until == EPOCH + 100 * SECOND


def test_a_compensation_and_an_escalation_have_budgets_of_their_own() -> None:
    step = service("a", timeout=10.0, escalation=Escalation(to=operation("key.backup"), timeout=20.0))
    step = replace(step, compensation=Compensation(operation=operation("key.ua"), timeout=30.0))
    flight = Flight.of(step, block("par", gate("b"), service("c")))
    row = flight.row("a")
    for other, expected in ((row, 10.0), (replace(row, escalated=True), 20.0), (replace(row, phase="undo"), 30.0)):
        assert flight.apply(partial(attempts.budget_of, row=other)) == expected
    flight.run("a")
    assert flight.on("par", attempts.budget_of) is None


def test_a_compensation_takes_its_steps_retry_unless_it_has_its_own() -> None:
    own = Compensation(operation=operation("key.ua"), retry=Retry(max=9))
    step = service("a", undo="key.ua", retry=Retry(max=1))
    assert attempts.retry_of(step, "undo").max == 1
    assert attempts.retry_of(service("a", compensation=own), "undo").max == 9
    assert attempts.retry_of(service("a", compensation=own), "do").max == 3


def test_the_key_names_an_iteration_in_a_part_of_its_own() -> None:
    assert idempotency_key(TRACE, "pay[3]", 2, "undo") == f"{TRACE}:pay:3:g2:undo"
    assert idempotency_key(TRACE, "pay", 1, "do") == f"{TRACE}:pay:g1:do"


# -- stale attempts


def test_what_comes_back_after_its_step_was_taken_over_changes_nothing() -> None:
    flight = Flight.of(service("a"), service("b"))
    stale = flight.claim("a")
    flight.lose("a")
    fresh = flight.claim("a")
    assert stale is not None
    assert fresh is not None
    before = flight.rows
    assert not flight.land(stale)
    assert flight.rows == before
    assert flight.land(fresh)
    assert not flight.land(fresh)
    assert flight.verbs("a").count("succeed") == 1


def test_nobody_holds_an_open_block() -> None:
    flight = Flight.of(block("par", service("a"), service("b")))
    assert flight.apply(lambda instance: attempts.held(instance, "par", "do", 0)) is None


# -- a lost lease


def test_a_lost_lease_is_another_attempt_but_uses_up_no_retry() -> None:
    flight = Flight.of(service("a", retry=Retry(max=0)))
    flight.claim("a")
    flight.lose("a")
    again = flight.claim("a")
    assert again is not None
    assert (again.attempt, again.tries, again.uncertain, again.generation) == (2, 1, True, 1)
    flight.land(again)
    assert flight.status == "COMPLETED"


def test_a_lost_step_is_dispatched_alone_and_at_once() -> None:
    flight = Flight.of(service("a"))
    flight.claim("a", alone=False)
    flight.lose("a")
    row = flight.row("a")
    assert (row.state, row.alone, row.published_at, row.due_at) == ("RETRYING", True, None, flight.now)


def test_losses_in_company_do_not_count_towards_quarantine() -> None:
    flight = Flight.of(service("a"))
    for _ in range(5):
        flight.claim("a", alone=False)
        flight.lose("a", losses=1)
        assert flight.state("a") == "RETRYING"


def test_a_step_that_is_handed_over_again_and_again_is_not_quarantined() -> None:
    flight = Flight.of(service("a"))
    for _ in range(5):
        assert flight.claim("a")
        flight.hand_over("a")
        assert flight.row("a").state == "RETRYING"
    assert (flight.row("a").losses, flight.row("a").tries) == (0, 0)
    assert "was stopped in attempt 5" in (flight.history[-1].error or "")


@pytest.mark.parametrize(
    ("lane", "seconds"),
    [
        ("key", 0.0),  # a function of ours ended with its process
        ("service", LIMIT),  # a service may still be busy with it: no sooner than when the lease runs out
        ("harmless", 0.0),
        ("query", LIMIT),  # it is asked when no attempt can be in flight any more
    ],
)
def test_what_was_handed_over_is_repeated_when_its_call_has_ended(lane: str, seconds: float) -> None:
    flight = Flight.of(service("a", f"{lane}.a"))
    assert flight.claim("a")
    flight.hand_over("a")
    assert flight.row("a").due_at == EPOCH + seconds * SECOND


def test_what_was_handed_over_and_can_be_neither_asked_nor_repeated_is_unknown_at_once() -> None:
    flight = Flight.of(service("a", "none.a"))
    assert flight.claim("a")
    flight.hand_over("a")
    assert (flight.row("a").state, flight.row("a").reason) == ("UNKNOWN", "uncertain")


def test_a_step_that_loses_its_worker_again_and_again_is_quarantined() -> None:
    flight = Flight.of(service("a"))
    for _ in range(3):
        flight.claim("a")
        flight.lose("a", losses=3)
    assert (flight.state("a"), flight.row("a").reason, flight.status) == ("UNKNOWN", "quarantined", "STUCK")


def test_a_reply_ends_a_row_of_losses() -> None:
    flight = Flight.of(service("a", retry=Retry(max=9)))
    for _ in range(4):
        flight.claim("a")
        flight.lose("a", losses=2)
        flight.wait(100)
        flight.run("a", reply("refused"))
        flight.wait(100)
    assert flight.state("a") == "RETRYING"


def test_what_is_lost_on_a_lane_without_keys_is_unknown_and_never_repeated() -> None:
    flight = Flight.of(service("a", "none.a"))
    flight.claim("a")
    flight.lose("a")
    assert (flight.state("a"), flight.status, flight.header.reason) == ("UNKNOWN", "STUCK", "uncertain")
    assert flight.claim("a") is None


def test_what_is_lost_on_a_safe_lane_is_not_uncertain() -> None:
    flight = Flight.of(service("a", "safe.a"))
    flight.claim("a")
    flight.lose("a")
    assert flight.row("a").uncertain is False


# -- recording


def test_a_release_hands_the_step_back_and_only_the_fence_remembers() -> None:
    flight = Flight.of(service("a", retry=Retry(max=0)))
    flight.claim("a")
    flight.on("a", attempts.release)
    row = flight.row("a")
    assert (row.state, row.attempt, row.tries, row.published_at, row.worker) == ("READY", 1, 0, None, None)


@pytest.mark.parametrize("result", [reply("rejected"), calls.Inexpressible(error="no such member")])
def test_what_fails_for_certain_fails_the_instance(result: Any) -> None:
    flight = Flight.of(service("a"), service("b"))
    flight.run("a", result)
    assert (flight.state("a"), flight.status, flight.state("b")) == ("FAILED", "FAILED", "")
    assert flight.header.reason == ("rejected" if isinstance(result, Reply) else "expression")


def test_a_step_whose_condition_is_false_is_skipped_and_its_successor_goes_on() -> None:
    flight = Flight.of(service("a", when=TRUE), service("b"))
    flight.run("a", calls.Skipped())
    assert (flight.state("a"), flight.row("a").reason, flight.state("b")) == ("SKIPPED", "condition", "READY")


def test_a_pause_waits_once_its_service_was_told() -> None:
    flight = Flight.of(service("a", pause=True, timeout=60.0))
    flight.run("a")
    row = flight.row("a")
    assert (row.state, row.due_at, row.uncertain) == ("WAITING", EPOCH + 60 * SECOND, True)
    assert (row.lease_until, row.limit_until) == (None, None)


def test_a_bare_pause_waits_and_nobody_was_told() -> None:
    flight = Flight.of(gate("a"))
    flight.run("a", calls.Waits())
    assert (flight.state("a"), flight.row("a").uncertain, flight.status) == ("WAITING", False, "WAITING")


# -- while the instance falls


def test_what_succeeds_while_its_instance_falls_is_undone_and_goes_no_further() -> None:
    flight, attempt = falling()
    assert flight.status == "COMPENSATING"
    flight.land(attempt)
    assert (flight.state("a"), flight.state("a", "undo")) == ("COMPENSATING", "READY")
    flight.run("a", phase="undo")
    assert flight.status == "COMPENSATED"


@pytest.mark.parametrize(
    "result", [reply("refused"), reply("not_sent"), reply("rejected"), calls.Skipped(), calls.Lost()]
)
def test_what_was_surely_not_done_while_its_instance_falls_is_not_undone(result: Any) -> None:
    flight, attempt = falling()
    flight.land(attempt, result)
    assert (flight.status, flight.undone()) == ("FAILED", [])


@pytest.mark.parametrize("result", [reply("uncertain"), reply("done", later=True)])
def test_what_may_have_been_done_while_its_instance_falls_is_undone_as_if_it_was(result: Any) -> None:
    flight, attempt = falling()
    flight.land(attempt, result)
    assert (flight.state("a"), flight.state("a", "undo")) == ("COMPENSATING", "READY")


def test_a_lease_that_is_lost_while_the_instance_falls_is_undone_as_if_done() -> None:
    flight, _ = falling()
    flight.lose("a")
    assert (flight.state("a"), flight.state("a", "undo")) == ("COMPENSATING", "READY")


def test_a_release_while_the_instance_falls_ends_the_step() -> None:
    flight, _ = falling()
    flight.on("a", attempts.release)
    assert (flight.state("a"), flight.status) == ("SKIPPED", "FAILED")


def test_a_block_that_would_open_while_its_instance_falls_does_not() -> None:
    inner = block("b", service("c"), service("d"), when=TRUE)
    flight = Flight.of(block("par", inner, service("last")))
    attempt = flight.claim("b")
    assert attempt is not None
    flight.fall()
    flight.land(attempt, control.Opened())
    assert (flight.state("b"), flight.state("c"), flight.status) == ("SKIPPED", "", "FAILED")


def test_a_step_that_is_unknown_is_awaited_before_anything_is_undone() -> None:
    flight = Flight.of(
        block("par", service("a", "none.a", undo="key.ua"), service("b", undo="key.ub"), service("last"))
    )
    flight.run("a", reply("uncertain"))
    flight.run("b")
    flight.fall()
    assert (flight.status, flight.header.reason, flight.state("b", "undo")) == ("STUCK", "uncertain", "")
    flight.apply(lambda instance: operators.resolve(instance, "a", "succeeded"))
    flight.run("a", phase="undo")
    flight.run("b", phase="undo")
    assert (flight.undone(), flight.status) == (["a", "b"], "COMPENSATED")


def test_what_is_over_is_not_failed_again() -> None:
    flight = Flight.of(service("a"))
    flight.run("a")
    flight.apply(lambda instance: compensation.fall(instance, compensation.DEADLINE, "deadline"))
    assert flight.status == "COMPLETED"


def lost_alone(step: Any) -> tuple[Flight, attempts.Attempt]:
    """A step on a lane without keys whose worker was lost: UNKNOWN."""
    flight = Flight.of(step, service("after"))
    attempt = flight.claim("a")
    assert attempt is not None
    flight.lose("a")
    assert flight.state("a") == "UNKNOWN"
    return flight, attempt


def test_the_late_answer_of_a_lost_attempt_settles_it() -> None:
    flight, attempt = lost_alone(service("a", "none.a"))
    flight.land(attempt, reply("done", output=7))
    assert (flight.state("a"), flight.state("after")) == ("SUCCEEDED", "READY")


def test_a_late_yes_of_the_service_that_was_told_is_no_decision() -> None:
    flight, attempt = lost_alone(service("a", "none.a", pause=True))
    flight.land(attempt, reply("done"))
    assert flight.states() == {"a": "WAITING"}


def test_a_late_rejection_says_nothing_of_the_attempts_before() -> None:
    flight = Flight.of(service("a", "key.a"))
    flight.claim("a")
    flight.lose("a", losses=2)
    again = flight.claim("a")
    assert again is not None
    flight.lose("a", losses=2)
    assert flight.row("a").reason == "quarantined"
    flight.land(again, reply("rejected"))
    assert flight.state("a") == "UNKNOWN"


def test_a_lane_that_has_to_be_asked_is_asked_only_when_the_lost_attempt_is_over() -> None:
    flight = Flight.of(service("a", "query.a"))
    flight.claim("a")
    limit = flight.row("a").limit_until
    assert limit is not None
    flight.on("a", attempts.lose, losses=3)
    flight.apply(operators.retry)  # nor does an operator go round that
    assert flight.row("a").due_at == limit
    assert flight.claim("a") is None
    flight.now = limit
    assert flight.claim("a") is not None


def test_the_undo_waits_for_a_lost_attempt_even_when_another_has_come_and_gone() -> None:
    flight = Flight.of(service("a", undo="key.ua"), service("b"))
    flight.claim("a")
    limit = flight.row("a").limit_until
    flight.on("a", attempts.lose, losses=3)
    flight.run("a", reply("refused"))
    flight.apply(operators.cancel)
    assert flight.row("a", "undo").due_at == limit
