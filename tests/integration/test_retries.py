"""Attempts by their outcome and by what their lane can do; what is the same at every attempt, and what is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from orchestrator import engine
from orchestrator.servers.ports import free_port
from tests import flights
from tests.services import (
    BROKEN,
    LOST_AFTER,
    LOST_BEFORE,
    REFUSED,
    REJECTED,
    Airport,
    Answer,
    is_gapless,
    verbs,
)

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]


def one_step(name: str, lane: str, retry: str = "{max: 3, backoff: 10ms, jitter: false}", more: str = "") -> str:
    return f"""
id: {name}
steps:
  - {{id: work, service: {lane}.work, retry: {retry}{", " if more else ""}{more}}}
"""


@pytest.mark.parametrize("lane", ["keyed", "safe", "blind", "asked"])
def test_a_refused_attempt_is_repeated_on_every_lane_until_it_is_done(airport: Airport, lane: str) -> None:
    airport.service.tell("work", REFUSED, Answer(status=429, headers={"Retry-After": "0"}), REFUSED)
    instance = airport.fly(one_step(f"refused-{lane}", lane))
    shown = airport.ended(instance)
    assert shown["status"] == "COMPLETED"
    calls = airport.service.calls("work", instance)
    assert [one.attempt for one in calls] == [1, 2, 3, 4]
    assert {one.key for one in calls} == {f"{instance}:work:g1:do"}
    assert airport.service.done(instance) == ["work:g1:do"]
    assert verbs(shown, "work") == ["ready", *["claim", "retry"] * 3, "claim", "succeed"]
    assert is_gapless(shown)


@pytest.mark.parametrize("answer", [LOST_BEFORE, LOST_AFTER, BROKEN, Answer(status=408, effect=True)])
def test_an_uncertain_attempt_on_a_lane_that_honours_the_key_is_repeated_to_one_effect(
    airport: Airport, answer: Answer
) -> None:
    airport.service.tell("work", answer, answer)
    instance = airport.fly(one_step("uncertain-key", "keyed", more='input: {b: "${payload.b}", a: [1, 2.50, "é"]}'),
                           {"b": {"z": 1, "a": None}, "f": 75.0})  # fmt: skip
    assert airport.ended(instance)["status"] == "COMPLETED"
    calls = airport.service.calls("work", instance)
    assert [one.attempt for one in calls] == [1, 2, 3]
    assert len({one.content for one in calls}) == 1, "the same bytes at every attempt"
    assert len({one.key for one in calls}) == 1
    assert len({one.headers["traceparent"].split("-")[1] for one in calls}) == 1
    assert len({one.headers["traceparent"].split("-")[2] for one in calls}) == 3, "a span each"
    assert airport.service.done(instance) == ["work:g1:do"]


def test_an_uncertain_attempt_on_a_lane_that_can_be_asked_is_asked_before_it_is_repeated(airport: Airport) -> None:
    airport.service.tell("work", Answer(reply={"result": 42}, lost=True, effect=True))
    instance = airport.fly(one_step("uncertain-query-done", "asked"))
    shown = airport.ended(instance)
    assert shown["status"] == "COMPLETED"
    assert [one.method for one in airport.service.seen] == ["POST", "GET"]
    work = airport.step(instance, "work")
    assert work is not None
    assert work["result"] == 42


def test_a_key_that_never_arrived_is_sent_after_it_was_asked_for(airport: Airport) -> None:
    airport.service.tell("work", LOST_BEFORE)
    instance = airport.fly(one_step("uncertain-query-lost", "asked"))
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert [one.method for one in airport.service.seen] == ["POST", "GET", "POST"]
    assert airport.service.done(instance) == ["work:g1:do"]


def test_an_uncertain_attempt_on_a_safe_lane_is_repeated_freely(airport: Airport) -> None:
    airport.service.tell("work", LOST_AFTER, BROKEN)
    instance = airport.fly(one_step("uncertain-safe", "safe"))
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert len(airport.service.calls("work", instance)) == 3


@pytest.mark.parametrize("answer", [LOST_BEFORE, LOST_AFTER, BROKEN])
def test_an_uncertain_attempt_on_a_lane_that_can_do_neither_is_never_repeated(airport: Airport, answer: Answer) -> None:
    airport.service.tell("work", answer)
    instance = airport.fly(one_step("uncertain-none", "blind"))
    shown = airport.reached(instance, "STUCK")
    assert shown["reason"] == "uncertain"
    assert verbs(shown, "work") == ["ready", "claim", "doubt"]
    assert len(airport.service.calls("work", instance)) == 1


@pytest.mark.parametrize("lane", ["keyed", "safe", "blind", "asked"])
def test_a_rejected_attempt_fails_at_once(airport: Airport, lane: str) -> None:
    airport.service.tell("work", REJECTED)
    instance = airport.fly(one_step(f"rejected-{lane}", lane))
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("FAILED", "rejected")
    assert len(airport.service.calls("work", instance)) == 1
    work = airport.step(instance, "work")
    assert work is not None
    assert (work["status"], work["error"]) == ("FAILED", "HTTP 422: not like this")


def test_no_retries_means_one_call(airport: Airport) -> None:
    airport.service.always("work", REFUSED)
    instance = airport.fly(one_step("max-zero", "keyed", "{max: 0}"))
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("FAILED", "exhausted")
    assert len(airport.service.calls("work", instance)) == 1


def test_retries_that_are_used_up_fail_the_step(airport: Airport) -> None:
    airport.service.always("work", REFUSED)
    instance = airport.fly(one_step("max-two", "keyed", "{max: 2, backoff: 10ms}"))
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("FAILED", "exhausted")
    assert [one.attempt for one in airport.service.calls("work", instance)] == [1, 2, 3]


def test_retry_after_is_waited_for_and_backoff_otherwise(airport: Airport) -> None:
    airport.service.tell("work", Answer(status=503, headers={"Retry-After": "1800"}), REFUSED)
    instance = airport.fly(one_step("waits", "keyed", "{max: 5, backoff: 600s, factor: 2, cap: 1h, jitter: false}"))
    first = airport.step_is(instance, "work", "RETRYING")
    assert 1790 < until(airport, first) <= 1800
    airport.clock.advance(1801)
    airport.service.came("work", 2)
    second = airport.step_is(instance, "work", "RETRYING")
    assert 1190 < until(airport, second) <= 1200, "the second backoff"
    airport.clock.advance(1201)
    assert airport.ended(instance)["status"] == "COMPLETED"


def until(airport: Airport, step: dict[str, Any]) -> float:
    return (datetime.fromisoformat(step["retryAt"]) - airport.clock.now()).total_seconds()


def test_a_retry_that_would_come_after_the_budget_times_out_at_once(airport: Airport) -> None:
    airport.service.always("work", REFUSED)
    instance = airport.fly(
        one_step("budget", "keyed", "{max: 9, backoff: 10m, cap: 1h, jitter: false}", "timeout: 25m")
    )
    airport.step_is(instance, "work", "RETRYING")
    airport.clock.advance(601)
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("FAILED", "timeout")
    assert len(airport.service.calls("work", instance)) == 2, "600 s, then 1200 s, which is past 25 minutes"


def test_a_call_may_take_no_longer_than_what_is_left_of_the_budget(airport: Airport) -> None:
    release = airport.service.hold("work")
    instance = airport.fly(one_step("short-budget", "keyed", "{max: 0}", "timeout: 300ms, compensate: keyed.unwork"))
    shown = airport.ended(instance)
    release.set()
    assert shown["status"] == "COMPENSATED", "nobody knows whether it was done, so it is undone as if it was"
    assert verbs(shown, "work")[-1] == "compensate"


def test_a_service_that_is_not_there_is_tried_again_even_on_a_lane_that_can_do_neither(tower: Airport) -> None:
    """A refused connection has had no effect. Here the lane of one worker leads to a port with nobody behind it."""
    lanes = {**tower.system.lanes, "blind": replace(tower.system.lanes["blind"], url=f"http://127.0.0.1:{free_port()}")}
    away = replace(tower, system=replace(tower.system, lanes=lanes))
    instance = tower.fly(one_step("away", "blind", "{max: 1, backoff: 1h, jitter: false}"))
    away.run(instance, "work")
    shown = tower.step(instance, "work")
    assert shown is not None
    assert shown["status"] == "RETRYING"
    assert "refused" in shown["error"].lower()
    tower.clock.advance(3601)
    tower.run(instance, "work")
    assert tower.status(instance)["status"] == "COMPLETED"
    assert tower.service.done(instance) == ["work:g1:do"]


def test_the_body_and_headers_are_those_of_the_design(airport: Airport) -> None:
    instance = airport.fly(one_step("headers", "keyed"), {"fee": 75})
    assert airport.ended(instance)["status"] == "COMPLETED"
    [seen] = airport.service.calls("work", instance)
    assert set(seen.body) == {"trace", "step", "payload", "input", "callbackUrl"}
    assert (seen.body["trace"], seen.body["step"]) == (instance, "work")
    assert f"/callbacks/{instance}/work?token=" in seen.body["callbackUrl"]
    assert seen.headers["traceparent"].split("-")[1] == instance


def test_after_its_key_may_have_been_forgotten_an_uncertain_step_waits_for_a_person(airport: Airport) -> None:
    airport.service.tell("work", LOST_AFTER, LOST_AFTER)
    instance = airport.fly(one_step("key-ttl", "brief", "{max: 5, backoff: 1m, jitter: false}"))
    assert airport.reached(instance, "STUCK")["reason"] == "uncertain", "its lane remembers a key for one minute"
    assert len(airport.service.calls("work", instance)) == 1


def test_a_repeat_that_comes_too_late_for_its_key_is_not_sent_until_a_person_orders_it(airport: Airport) -> None:
    airport.service.tell("work", LOST_BEFORE)
    instance = airport.fly(one_step("key-ttl-late", "brief", "{max: 5, backoff: 50s, jitter: false}"))
    airport.step_is(instance, "work", "RETRYING")
    airport.clock.advance(61)  # nobody had time for it
    assert airport.reached(instance, "STUCK")["reason"] == "uncertain"
    assert len(airport.service.calls("work", instance)) == 1
    engine.resolve(airport.system, tenant=flights.TENANT, instance_id=instance, step="work", verdict="retry")
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert airport.service.done(instance) == ["work:g1:do"]


def test_a_rejected_repeat_leaves_the_doubt_about_the_first_call_which_is_undone(airport: Airport) -> None:
    """The rejection may be a gateway's, or mean that the key is in progress."""
    airport.service.tell("work", LOST_BEFORE, REJECTED)
    instance = airport.fly(one_step("uncertain-then-rejected", "keyed", more="compensate: keyed.unwork"))
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("COMPENSATED", "rejected")
    assert len(airport.service.calls("unwork")) == 1
