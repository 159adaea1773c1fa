from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import attempts, calls, control, escalation, operators
from orchestrator.definition import Retry, Template, TimeoutAction
from orchestrator.errors import Conflict, NotFound
from orchestrator.instance import Instance
from orchestrator.operators import Verdict
from tests.unit.flying import TRUE, Flight, block, gate, reply, service


def ordered(flight: Flight, verb: Callable[[Instance], None]) -> str:
    flight.apply(verb)
    return flight.status


def refused(flight: Flight, verb: Callable[[Instance], None]) -> Conflict:
    before = flight.header, flight.rows
    with pytest.raises(Conflict) as caught:
        flight.apply(verb)
    assert (flight.header, flight.rows) == before
    return caught.value


def resolve(step: str, verdict: Verdict, **rest: Any) -> Callable[[Instance], None]:
    return lambda instance: operators.resolve(instance, step, verdict, **rest)


def done() -> Flight:
    flight = Flight.of(service("a"))
    flight.run("a")
    return flight


def undoing() -> Flight:
    flight = Flight.of(service("a", undo="key.ua"), service("last"))
    flight.run("a")
    flight.fall()
    return flight


def unknown(call: str = "none.a", *more: Any, **rest: Any) -> Flight:
    flight = Flight.of(service("a", call, **rest), *more)
    flight.run("a", reply("uncertain"))
    return flight


# -- cancel


def test_cancel_undoes_first_and_then_says_cancelled() -> None:
    flight = Flight.of(service("a", undo="key.ua"), service("b"))
    flight.run("a")
    assert ordered(flight, operators.cancel) == "COMPENSATING"
    assert flight.header.cancel_requested_at == flight.now
    flight.run("a", phase="undo")
    assert flight.status == "CANCELLED"


def test_cancel_waits_for_what_runs() -> None:
    flight = Flight.of(service("a"))
    attempt = flight.claim("a")
    assert ordered(flight, operators.cancel) == "COMPENSATING"
    assert attempt is not None
    flight.land(attempt)
    assert flight.status == "CANCELLED"


@pytest.mark.parametrize(("flight", "present"), [(done, "COMPLETED"), (undoing, "COMPENSATING")])
def test_what_is_over_or_being_undone_cannot_be_cancelled(flight: Callable[[], Flight], present: str) -> None:
    assert refused(flight(), operators.cancel).present == present


# -- suspend, resume


def test_suspended_is_shown_whatever_the_steps_do_and_resume_shows_them_again() -> None:
    flight = Flight.of(block("par", gate("a"), service("b")))
    attempt = flight.claim("a")
    assert ordered(flight, operators.suspend) == "SUSPENDED"
    assert attempt is not None
    flight.land(attempt, calls.Waits())
    assert (flight.status, flight.state("a")) == ("SUSPENDED", "WAITING")
    assert ordered(flight, operators.resume) == "RUNNING"


def test_a_resume_has_what_can_be_claimed_published_again_for_its_message_was_refused() -> None:
    flight = Flight.of(service("a"))
    flight.on("a", lambda instance, row: instance.amend(row, published_at=instance.now))
    flight.apply(operators.suspend)
    flight.apply(operators.resume)
    assert flight.row("a").published_at is None


def test_a_suspended_undo_goes_on_after_resume() -> None:
    flight = undoing()
    assert ordered(flight, operators.suspend) == "SUSPENDED"
    assert flight.claim("a", "undo") is None
    assert ordered(flight, operators.resume) == "COMPENSATING"
    flight.run("a", phase="undo")
    assert flight.status == "COMPENSATED"


def test_a_suspended_instance_can_be_cancelled_and_completes_when_its_last_step_lands() -> None:
    flight, other = Flight.of(service("a")), Flight.of(service("a"))
    flight.apply(operators.suspend)
    assert ordered(flight, operators.cancel) == "CANCELLED"
    attempt = other.claim("a")
    other.apply(operators.suspend)
    assert attempt is not None
    other.land(attempt)
    assert other.status == "COMPLETED"


def test_suspend_and_resume_fit_only_once() -> None:
    flight = Flight.of(service("a"))
    assert "is not suspended" in str(refused(flight, operators.resume))
    flight.apply(operators.suspend)
    assert refused(flight, operators.suspend).present == "SUSPENDED"
    assert refused(done(), operators.suspend).present == "COMPLETED"
    assert refused(done(), operators.resume).present == "COMPLETED"


# -- retry


def test_a_retry_is_a_new_life_with_a_deadline_of_its_own() -> None:
    flight = Flight.of(service("a"), deadline=600.0)
    flight.run("a", reply("rejected"))
    flight.wait(1000)
    assert ordered(flight, operators.retry) == "RUNNING"
    header = flight.header
    assert (header.life, header.outcome, header.ended_at) == (2, None, None)
    assert header.deadline_at == flight.now + timedelta(seconds=600)


def test_a_retry_is_not_held_back_by_a_suspension_that_nobody_can_see() -> None:
    flight = Flight.of(service("a"))
    attempt = flight.claim("a")
    flight.apply(operators.suspend)
    assert attempt is not None
    flight.land(attempt, reply("rejected"))
    assert flight.status == "FAILED"
    assert ordered(flight, operators.retry) == "RUNNING"


def test_a_retry_brings_forward_what_waits_for_its_next_attempt() -> None:
    flight = Flight.of(service("a", retry=Retry(backoff=600, cap=600)))
    flight.run("a", reply("refused"))
    assert flight.claim("a") is None
    flight.apply(operators.retry)
    assert flight.claim("a") is not None


def test_a_quarantined_step_is_tried_again_with_its_key_and_alone() -> None:
    flight = Flight.of(service("a"))
    flight.claim("a")
    flight.lose("a", losses=1)
    assert (flight.status, flight.header.reason) == ("STUCK", "quarantined")
    assert ordered(flight, operators.retry) == "RUNNING"
    again = flight.claim("a")
    assert again is not None
    assert (again.generation, again.attempt, again.uncertain, flight.row("a").losses) == (1, 2, True, 0)


@pytest.mark.parametrize(("result", "generation"), [(reply("rejected"), 2), (reply("uncertain", may_retry=False), 1)])
def test_an_undo_has_a_new_key_after_a_definite_failure_and_its_old_one_after_any_other(
    result: Any, generation: int
) -> None:
    flight = undoing()
    flight.run("a", result, "undo")
    assert flight.status == "STUCK"
    assert ordered(flight, operators.retry) == "COMPENSATING"
    again = flight.claim("a", "undo")
    assert again is not None
    assert (again.generation, again.uncertain) == (generation, generation == 1)


@pytest.mark.parametrize("flight", [done, undoing, unknown, lambda: Flight.of(service("a"))])
def test_where_nothing_has_stopped_there_is_nothing_to_retry(flight: Callable[[], Flight]) -> None:
    assert "nothing to retry" in str(refused(flight(), operators.retry))


def test_a_cancelled_instance_stays_cancelled() -> None:
    flight = Flight.of(service("a"))
    flight.apply(operators.cancel)
    assert refused(flight, operators.retry).present == "CANCELLED"


# -- a verdict on what is unknown


def test_what_a_person_found_done_goes_on_with_the_result_they_give() -> None:
    flight = unknown("none.a", service("b"))
    flight.apply(resolve("a", "succeeded", result={"id": 7}, by="clerk"))
    assert (flight.state("a"), flight.state("b"), flight.status) == ("SUCCEEDED", "READY", "RUNNING")
    assert flight.history[-2].output == {"id": 7}


def test_what_a_person_found_undone_fails_for_certain_and_is_not_undone() -> None:
    flight = unknown(undo="key.ua")
    flight.apply(resolve("a", "failed"))
    assert (flight.state("a"), flight.status, flight.states("undo")) == ("FAILED", "FAILED", {})


def test_what_a_person_orders_again_keeps_its_generation() -> None:
    flight = unknown()
    flight.apply(resolve("a", "retry"))
    assert flight.run("a").key.endswith(":a:g1:do")
    assert flight.status == "COMPLETED"


def test_a_verdict_waits_until_a_lost_attempt_is_surely_over() -> None:
    flight = Flight.of(service("a", "none.a"))
    flight.claim("a")
    flight.on("a", attempts.lose, losses=3)
    assert "may still be running until" in str(refused(flight, resolve("a", "failed")))
    limit = flight.row("a").lost_until
    assert limit is not None
    flight.now = limit
    assert ordered(flight, resolve("a", "failed")) == "FAILED"


def test_only_what_is_unknown_can_be_resolved() -> None:
    flight = Flight.of(service("a"), service("b"))
    assert refused(flight, resolve("a", "failed")).present == "READY"
    assert refused(flight, resolve("b", "failed")).present == "not reached"
    with pytest.raises(NotFound, match="no step 'nothing'; to be resolved: none"):
        flight.apply(resolve("nothing", "failed"))


def test_an_unknown_step_of_a_falling_instance_is_not_tried_again_for_nobody_could_claim_it() -> None:
    flight = Flight.of(block("par", service("a", "none.a", undo="key.ua"), service("last")))
    flight.run("a", reply("uncertain"))
    flight.fall()
    assert "succeeded or failed" in str(refused(flight, resolve("a", "retry")))
    flight.apply(resolve("a", "succeeded"))
    assert flight.state("a", "undo") == "READY"


def test_a_block_cannot_be_said_to_have_succeeded_without_its_branches() -> None:
    flight = Flight.of(block("par", service("a"), service("b"), when=TRUE), service("last"))
    flight.claim("par")
    flight.lose("par", losses=1)
    assert flight.state("par") == "UNKNOWN"
    assert "by what is inside it" in str(refused(flight, resolve("par", "succeeded")))
    flight.apply(resolve("par", "retry"))
    flight.run("par", control.Opened())
    assert flight.states() == {"par": "RUNNING", "a": "READY", "b": "READY"}


@pytest.mark.parametrize(
    ("verdict", "state"), [("succeeded", "COMPENSATED"), ("failed", "STUCK"), ("retry", "COMPENSATING")]
)
def test_a_verdict_on_an_unknown_compensation_settles_that(verdict: Verdict, state: str) -> None:
    flight = Flight.of(service("a", undo="none.ua"), service("last"))
    flight.run("a")
    flight.fall()
    flight.run("a", reply("uncertain"), "undo")
    flight.apply(resolve("a", verdict))
    assert flight.state("a") == state


def test_a_new_life_does_not_repeat_what_may_have_been_done_on_a_lane_without_keys() -> None:
    flight = unknown()
    flight.apply(resolve("a", "retry"))
    flight.run("a", calls.Inexpressible(error="no such member"))
    assert flight.status == "FAILED"
    assert ordered(flight, operators.retry) == "STUCK"
    assert flight.state("a") == "UNKNOWN"


@pytest.mark.parametrize(("call", "state", "generation"), [("none.a", "UNKNOWN", 1), ("key.a", "READY", 2)])
def test_another_input_is_another_effect_unless_only_a_person_can_tell(call: str, state: str, generation: int) -> None:
    named = Template(value="${steps.reserve.result}", steps=("reserve",))
    flight = Flight.of(service("reserve", undo="key.free"), service("a", call, input=named))
    flight.run("reserve")
    flight.wait(1.0)
    flight.run("a", reply("uncertain"))
    if call == "none.a":
        flight.apply(resolve("a", "retry"))
    flight.wait(10.0)
    flight.run("a", calls.Inexpressible(error="no such member"))
    flight.run("reserve", phase="undo")
    assert flight.status == "COMPENSATED"
    flight.apply(operators.retry)
    flight.wait(1.0)
    flight.run("reserve")
    assert (flight.state("a"), flight.row("a").generation) == (state, generation)


def test_a_new_life_asks_anew_where_a_deadline_had_decided() -> None:
    told = service("a", pause=True, timeout=5.0, on_timeout=TimeoutAction(kind="decide", decision="rejected"))
    flight = Flight.of(told)
    flight.run("a", reply("done"))
    flight.wait(6.0)
    flight.on("a", escalation.time_out)
    assert flight.status == "FAILED"
    flight.apply(operators.retry)
    assert (flight.row("a").generation, flight.row("a").decision) == (2, None)
