from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import attempts, compensation, escalation, operators
from orchestrator.calls import Skipped
from orchestrator.definition import Retry, TimeoutAction
from tests.unit.flying import TRUE, Flight, block, reply, service


def undo_all(flight: Flight) -> None:
    while ready := [row for row in flight.rows.values() if row.phase == "undo" and row.state in ("READY", "RETRYING")]:
        assert len(ready) == 1, "one at a time"
        flight.run(ready[0].step, phase="undo")


def test_an_instance_with_nothing_to_undo_has_failed() -> None:
    flight = Flight.of(service("a"), service("last"))
    flight.run("a")
    flight.fall()
    assert (flight.status, flight.header.reason, flight.header.ended_at) == ("FAILED", "rejected", flight.now)


def test_what_was_done_is_undone_one_at_a_time_in_reverse_order() -> None:
    flight = Flight.of(service("a", undo="key.ua"), service("b"), service("c", undo="other.uc"), service("last"))
    for name in "abc":
        flight.run(name)
    flight.fall()
    assert flight.states("undo") == {"c": "READY"}
    row = flight.row("c", "undo")
    assert (row.service, row.queue) == ("other.uc", "others")
    undo_all(flight)
    assert (flight.undone(), flight.status, flight.state("b")) == (["c", "a"], "COMPENSATED", "SUCCEEDED")


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(6)))
def test_branches_are_undone_in_reverse_order_of_their_completion_whatever_that_was(order: list[int]) -> None:
    names = [f"s{at}" for at in range(6)]
    flight = Flight.of(block("par", *(service(name, undo=f"key.{name}") for name in names)), service("last"))
    for at in order:
        flight.run(names[at])
    flight.fall()
    undo_all(flight)
    assert flight.undone() == [names[at] for at in reversed(order)]


def test_a_sibling_that_lands_late_is_on_the_list_and_is_undone_first() -> None:
    flight = Flight.of(block("par", service("a", undo="key.ua"), service("b", undo="key.ub"), service("last")))
    flight.run("a")
    late = flight.claim("b")
    flight.fall()
    assert flight.states("undo") == {}
    assert late is not None
    flight.land(late)
    undo_all(flight)
    assert flight.undone() == ["b", "a"]


def test_what_has_not_begun_is_ended_and_never_done() -> None:
    flight = Flight.of(block("par", (service("a"), service("b")), service("last")))
    flight.fall()
    assert (flight.states(), flight.status) == ({"par": "SKIPPED", "a": "SKIPPED", "last": "FAILED"}, "FAILED")
    assert {flight.row(name).reason for name in ("par", "a")} == {"ended"}


@pytest.mark.parametrize("result", [Skipped(), reply("rejected")])
def test_what_was_skipped_or_failed_for_certain_is_not_undone(result: Any) -> None:
    flight = Flight.of(block("par", service("a", undo="key.ua", when=TRUE), service("last")))
    flight.run("a", result)
    if flight.status == "RUNNING":
        flight.fall()
    assert (flight.status, flight.states("undo")) == ("FAILED", {})


def test_a_failed_step_is_undone_too_where_the_definition_says_so() -> None:
    flight = Flight.of(service("a", undo="key.ua"), compensate_on="attempted")
    flight.run("a", reply("rejected"))
    undo_all(flight)
    assert (flight.undone(), flight.status) == (["a"], "COMPENSATED")


def test_a_failed_step_of_uncertain_outcome_is_undone_as_if_it_was_done() -> None:
    flight = Flight.of(service("a", undo="key.ua", retry=Retry(max=0)))
    flight.run("a", reply("uncertain"))
    assert (flight.state("a"), flight.header.reason, flight.state("a", "undo")) == (
        "COMPENSATING",
        "uncertain",
        "READY",
    )


def test_a_wait_that_somebody_was_told_of_is_undone_when_the_instance_falls() -> None:
    flight = Flight.of(block("par", service("a", pause=True, undo="key.ua"), service("last")))
    flight.run("a")
    flight.fall()
    undo_all(flight)
    assert flight.undone() == ["a"]


def test_a_step_that_was_skipped_when_its_time_was_up_may_have_been_done_and_is_undone() -> None:
    step = service("a", pause=True, undo="key.ua", timeout=60.0, on_timeout=TimeoutAction(kind="skip"))
    flight = Flight.of(step, service("last"))
    flight.run("a")
    flight.on("a", escalation.time_out)
    flight.fall()
    undo_all(flight)
    assert flight.undone() == ["a"]


def test_a_compensation_is_retried_like_a_step() -> None:
    flight = Flight.of(service("a", undo="key.ua", retry=Retry(max=1, jitter=False)), service("last"))
    flight.run("a")
    flight.fall()
    flight.run("a", reply("uncertain"), "undo")
    flight.wait(60)
    attempt = flight.run("a", phase="undo")
    assert (attempt.key.endswith(":a:g1:undo"), attempt.attempt, flight.status) == (True, 2, "COMPENSATED")


def test_a_compensation_that_cannot_succeed_is_shown_and_stops_the_undo_there() -> None:
    flight = Flight.of(service("a", undo="key.ua"), service("b", undo="key.ub"), service("last"))
    flight.run("a")
    flight.run("b")
    flight.fall()
    flight.run("b", reply("rejected"), "undo")
    assert (flight.state("b"), flight.state("a"), flight.states("undo")) == ("STUCK", "COMPENSATING", {"b": "FAILED"})
    assert (flight.status, flight.header.reason) == ("STUCK", "undo_failed")
    flight.apply(operators.retry)
    undo_all(flight)
    assert (flight.undone(), flight.status, flight.header.reason) == (["b", "a"], "COMPENSATED", "rejected")


def test_a_compensation_of_uncertain_outcome_waits_for_a_person() -> None:
    flight = Flight.of(service("a", undo="none.ua"), service("last"))
    flight.run("a")
    flight.fall()
    flight.run("a", reply("uncertain"), "undo")
    assert (flight.status, flight.header.reason, flight.state("a")) == ("STUCK", "uncertain", "COMPENSATING")
    flight.apply(lambda instance: operators.resolve(instance, "a", "succeeded"))
    assert (flight.status, flight.undone()) == ("COMPENSATED", ["a"])


def test_nothing_is_undone_while_a_lost_attempt_may_still_be_in_flight() -> None:
    flight = Flight.of(block("par", service("a", undo="key.ua"), service("last")))
    flight.claim("a")
    flight.fall()
    limit = flight.row("a").limit_until
    flight.on("a", attempts.lose, losses=3)
    assert limit is not None
    assert flight.row("a", "undo").due_at == limit
    assert flight.claim("a", "undo") is None
    flight.now = limit
    assert flight.claim("a", "undo") is not None


@pytest.mark.parametrize(
    ("outcome", "status"), [(compensation.CANCELLED, "CANCELLED"), (compensation.DEADLINE, "COMPENSATED")]
)
def test_why_it_was_undone_decides_how_it_ends(outcome: str, status: str) -> None:
    flight = Flight.of(service("a", undo="key.ua"), service("b"))
    flight.run("a")
    flight.apply(lambda instance: compensation.fall(instance, outcome))
    undo_all(flight)
    assert (flight.status, flight.header.reason) == (status, outcome)


def test_an_instance_falls_once_and_keeps_its_first_reason() -> None:
    flight = Flight.of(service("a", undo="key.ua"), service("b"))
    flight.run("a")
    for outcome in (compensation.CANCELLED, compensation.DEADLINE):
        flight.apply(lambda instance, outcome=outcome: compensation.fall(instance, outcome))  # type: ignore[misc]
    assert (flight.header.outcome, [one.verb for one in flight.history].count("fall")) == ("cancelled", 1)
