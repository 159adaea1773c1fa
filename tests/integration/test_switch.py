"""Ways that a flight may go: `switch`, an early `end` or `fail`, and going on after an error."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import engine
from tests.services import BROKEN, LATER, LOST_AFTER, REJECTED, Airport, Answer, is_gapless, states_of

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

DECIDED = """
id: decided
steps:
  - {id: read, service: keyed.read, compensate: keyed.unread}
  - id: decide
    switch:
      - when: steps.read.result.score > 8.0
        steps: [ {id: praise, service: keyed.praise}, {id: grant, service: far.grant} ]
      - when: steps.read.result.score > 4.0
        steps:
          - id: inner
            switch:
              - {when: payload.strict, steps: [ {id: stop, fail: too strict} ]}
              - {otherwise: true, steps: [ {id: warn, service: keyed.warn} ]}
      - otherwise: true
        steps: [ {id: tell, service: keyed.tell}, {id: over, end: refused} ]
  - {id: last, service: keyed.last}
"""


def fly(airport: Airport, score: float, *, strict: bool = False) -> tuple[str, dict[str, Any]]:
    airport.service.tell("read", Answer(reply={"score": score}))
    instance = airport.fly(DECIDED, {"strict": strict})
    shown = airport.ended(instance)
    assert is_gapless(shown)
    return instance, shown


def test_a_switch_goes_the_first_way_that_is_true_and_goes_on_after_it(airport: Airport) -> None:
    instance, shown = fly(airport, 9)
    assert shown["status"] == "COMPLETED"
    assert airport.service.done(instance) == ["read:g1:do", "praise:g1:do", "grant:g1:do", "last:g1:do"]
    assert states_of(shown) == dict.fromkeys(("read", "decide", "praise", "grant", "last"), "SUCCEEDED")


def test_a_switch_within_a_switch_goes_its_own_way(airport: Airport) -> None:
    instance, shown = fly(airport, 5)
    assert shown["status"] == "COMPLETED"
    assert airport.service.done(instance) == ["read:g1:do", "warn:g1:do", "last:g1:do"]


def test_an_end_completes_the_instance_with_its_reason_and_undoes_nothing(airport: Airport) -> None:
    instance, shown = fly(airport, 1)
    assert (shown["status"], shown["reason"]) == ("COMPLETED", "refused")
    assert airport.service.done(instance) == ["read:g1:do", "tell:g1:do"]
    assert "last" not in states_of(shown)


def test_a_fail_fails_the_instance_with_its_reason_and_undoes_what_was_done(airport: Airport) -> None:
    instance, shown = fly(airport, 5, strict=True)
    assert (shown["status"], shown["reason"]) == ("COMPENSATED", "too strict")
    assert airport.service.done(instance) == ["read:g1:do", "read:g1:undo"]


def test_a_switch_without_a_true_case_is_skipped(airport: Airport) -> None:
    instance = airport.fly("""
id: none-true
steps:
  - {id: which, switch: [ {when: payload.yes, steps: [ {id: inside, service: keyed.inside} ]} ]}
  - {id: after, when: "!has(steps.inside.result)", service: keyed.after}
""", {"yes": False})  # fmt: skip
    shown = airport.ended(instance)
    assert states_of(shown) == {"which": "SKIPPED", "after": "SUCCEEDED"}


def test_a_condition_that_cannot_be_evaluated_fails_the_switch(airport: Airport) -> None:
    instance = airport.fly("""
id: no-such-member
steps:
  - {id: which, switch: [ {when: payload.missing.deep, steps: [ {id: inside, service: keyed.inside} ]} ]}
""")
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("FAILED", "expression")


def test_an_end_in_one_branch_lets_what_runs_in_another_drain_and_begins_nothing_more(airport: Airport) -> None:
    held = airport.service.hold("slow")
    instance = airport.fly("""
id: early
steps:
  - id: both
    branches:
      a: [ {id: slow, service: keyed.slow, compensate: keyed.unslow}, {id: never, service: keyed.never} ]
      b: [ {id: first, service: far.first}, {id: stop, when: payload.early, end: enough} ]
  - {id: last, service: keyed.last}
""", {"early": True})  # fmt: skip
    airport.step_is(instance, "stop", "SUCCEEDED")
    assert airport.status(instance)["status"] == "RUNNING"
    held.set()
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("COMPLETED", "enough")
    assert sorted(airport.service.done(instance)) == ["first:g1:do", "slow:g1:do"]
    assert states_of(shown)["slow"] == "SUCCEEDED"
    assert states_of(shown)["both"] == "SKIPPED"


TOLERANT = """
id: tolerant
steps:
  - {id: before, service: keyed.before, compensate: keyed.back}
  - {id: risky, service: keyed.risky, compensate: keyed.calm, retry: {max: 0}, onError: continue}
  - id: look
    switch:
      - when: steps.risky.error != null
        steps: [ {id: tell, service: keyed.tell, input: {why: "${steps.risky.error}", state: "${steps.risky.status}"}} ]
      - {otherwise: true, steps: [ {id: cheer, service: keyed.cheer} ]}
  - {id: last, service: keyed.last}
"""


def test_after_an_error_that_it_tolerates_a_switch_can_decide(airport: Airport) -> None:
    airport.service.tell("risky", REJECTED)
    instance = airport.fly(TOLERANT)
    shown = airport.ended(instance)
    assert shown["status"] == "COMPLETED"
    assert airport.service.calls("tell")[0].body["input"] == {"why": "HTTP 422: not like this", "state": "FAILED"}
    assert airport.service.done(instance) == ["before:g1:do", "tell:g1:do", "last:g1:do"]


def test_without_the_error_the_other_way_is_gone(airport: Airport) -> None:
    instance = airport.fly(TOLERANT)
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert airport.service.calls("cheer", instance)


def test_what_may_have_been_done_before_a_tolerated_error_is_undone_when_a_later_step_fails(airport: Airport) -> None:
    airport.service.tell("risky", BROKEN)
    airport.service.tell("last", REJECTED)
    instance = airport.fly(TOLERANT)
    shown = airport.ended(instance)
    assert shown["status"] == "COMPENSATED"
    assert [one["step"] for one in shown["compensations"]] == ["risky", "before"]


def test_a_retry_of_the_instance_lets_a_tolerated_error_stand(airport: Airport) -> None:
    airport.service.tell("risky", REJECTED)
    airport.service.tell("last", REJECTED)
    instance = airport.fly(TOLERANT)
    airport.ended(instance)
    airport.order(engine.retry, instance)
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert len(airport.service.calls("risky", instance)) == 1
    assert len(airport.service.calls("last", instance)) == 2


AGAIN = """
id: again
steps:
  - {id: quote, service: keyed.quote, compensate: keyed.unquote}
  - {id: audit, when: steps.quote.result.big, service: keyed.audit}
  - id: decide
    switch:
      - {when: steps.quote.result.big, steps: [ {id: slow, service: keyed.slow} ]}
      - {otherwise: true, steps: [ {id: quick, service: keyed.quick} ]}
  - {id: last, service: keyed.last, input: {slow: "${has(steps.slow.result)}", quick: "${has(steps.quick.result)}"}}
"""


@pytest.mark.parametrize("is_big", [True, False])
def test_in_a_later_life_conditions_are_asked_again_and_the_other_way_is_not_seen(
    airport: Airport, is_big: bool
) -> None:
    airport.service.tell("quote", Answer(reply={"big": not is_big}), Answer(reply={"big": is_big}))
    airport.service.tell("last", REJECTED)
    instance = airport.fly(AGAIN)
    assert airport.ended(instance)["status"] == "COMPENSATED"
    airport.order(engine.retry, instance)
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert len(airport.service.calls("audit", instance)) == 1
    assert airport.service.calls("last", instance)[-1].body["input"] == {"slow": is_big, "quick": not is_big}


ENDER = """
id: ender
steps:
  - id: both
    branches:
      a: [ {id: go, service: LANE.go} ]
      b: [ {id: first, service: far.first}, {id: stop, when: payload.early, end: enough} ]
  - {id: last, service: keyed.last}
"""


def ending(tower: Airport, lane: str, answer: Answer) -> str:
    tower.service.tell("go", answer)
    instance = tower.fly(ENDER.replace("LANE", lane), {"early": True})
    for step in ("go", "first", "stop"):
        tower.run(instance, step)
    return instance


def test_an_early_end_waits_for_what_may_have_been_done(tower: Airport) -> None:
    instance = ending(tower, "keyed", LOST_AFTER)
    assert tower.status(instance)["status"] == "RUNNING"
    tower.clock.advance(10)
    tower.run(instance, "go")
    shown = tower.status(instance)
    assert (shown["status"], shown["reason"], states_of(shown)["go"]) == ("COMPLETED", "enough", "SUCCEEDED")
    assert tower.service.done(instance).count("go:g1:do") == 1


def test_an_early_end_waits_for_an_answer_that_was_promised(tower: Airport) -> None:
    instance = ending(tower, "blind", LATER)
    assert tower.status(instance)["status"] == "WAITING"
    tower.decide(instance, "go", token=tower.token("go"), decision="approved")
    assert tower.status(instance)["status"] == "COMPLETED"
