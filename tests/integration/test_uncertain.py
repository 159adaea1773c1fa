"""An effect that may have happened, on a lane that can neither be asked nor repeated: only a person can settle it."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import engine
from orchestrator.errors import Conflict
from orchestrator.sweep import sweep
from tests import flights
from tests.services import LOST_AFTER, LOST_BEFORE, REFUSED, REJECTED, Airport, is_gapless, states_of, verbs

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

FLIGHT = """
id: {name}
steps:
  - {{id: before, service: keyed.before, compensate: keyed.unbefore}}
  - {{id: pay, service: blind.pay, compensate: keyed.unpay}}
  - {{id: after, service: keyed.after, input: {{paid: "${{steps.pay.result}}"}}}}
"""


def stuck(airport: Airport, name: str, answer: Any = LOST_AFTER) -> str:
    airport.service.tell("pay", answer)
    instance = airport.fly(FLIGHT.format(name=name))
    shown = airport.reached(instance, "STUCK")
    assert (shown["reason"], shown["ended"], shown["currentStep"]) == ("uncertain", None, "pay")
    return instance


def resolve(airport: Airport, instance: str, verdict: str, **more: Any) -> str:
    return airport.order(engine.resolve, instance, step="pay", verdict=verdict, **more)


def test_found_to_have_succeeded_it_goes_on_with_the_result_that_was_found(airport: Airport) -> None:
    instance = stuck(airport, "resolved-succeeded")
    assert resolve(airport, instance, "succeeded", result={"id": 7}, by="ann") == "RUNNING"
    shown = airport.ended(instance)
    assert shown["status"] == "COMPLETED"
    assert airport.service.calls("after")[0].body["input"] == {"paid": {"id": 7}}
    pay = airport.step(instance, "pay")
    assert pay is not None
    assert pay["decidedBy"] == "ann"
    assert airport.service.done(instance).count("pay:g1:do") == 1
    assert is_gapless(shown)


def test_found_to_have_failed_it_is_not_undone_and_the_rest_is(airport: Airport) -> None:
    instance = stuck(airport, "resolved-failed", LOST_BEFORE)
    resolve(airport, instance, "failed")
    shown = airport.ended(instance)
    assert shown["status"] == "COMPENSATED"
    assert airport.service.done(instance) == ["before:g1:do", "before:g1:undo"]
    assert states_of(shown)["pay"] == "FAILED"


def test_ordered_again_it_is_sent_once_more_with_the_same_key_and_body(airport: Airport) -> None:
    instance = stuck(airport, "resolved-retry", LOST_BEFORE)
    resolve(airport, instance, "retry")
    assert airport.ended(instance)["status"] == "COMPLETED"
    calls = airport.service.calls("pay")
    assert [one.attempt for one in calls] == [1, 2]
    assert len({(one.key, one.content) for one in calls}) == 1
    assert airport.service.done(instance) == ["before:g1:do", "pay:g1:do", "after:g1:do"]


def test_ordered_again_and_lost_again_it_is_unknown_again(airport: Airport) -> None:
    instance = stuck(airport, "resolved-retry-lost")
    airport.service.tell("pay", LOST_BEFORE)
    resolve(airport, instance, "retry")
    airport.service.came("pay", 2)
    flights.until(lambda: verbs(airport.status(instance), "pay").count("doubt") == 2, "the second doubt")
    resolve(airport, instance, "succeeded")
    assert airport.ended(instance)["status"] == "COMPLETED"


@pytest.mark.parametrize("verdict", ["succeeded", "failed", "retry"])
def test_a_verdict_is_given_once(airport: Airport, verdict: str) -> None:
    instance = stuck(airport, f"once-{verdict}")
    resolve(airport, instance, verdict)
    with pytest.raises(Conflict):
        resolve(airport, instance, "succeeded")
    airport.ended(instance)


def test_what_is_certain_has_nothing_to_resolve(airport: Airport) -> None:
    instance = stuck(airport, "nothing-to-resolve")
    for step, present in (("before", "SUCCEEDED"), ("after", "not reached")):
        with pytest.raises(Conflict) as raised:
            airport.order(engine.resolve, instance, step=step, verdict="failed")
        assert raised.value.present == present
    with pytest.raises(Conflict):
        airport.order(engine.retry, instance)
    assert airport.status(instance)["status"] == "STUCK"


def test_a_callback_may_settle_what_nobody_knew(airport: Airport) -> None:
    instance = stuck(airport, "settled-by-callback")
    airport.decide(instance, "pay", token=airport.token("pay"), result={"id": 8})
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert airport.service.calls("after")[0].body["input"] == {"paid": {"id": 8}}


def test_a_cancelled_flight_waits_for_the_verdict_before_it_undoes(airport: Airport) -> None:
    instance = stuck(airport, "cancel-unknown")
    airport.order(engine.cancel, instance)
    assert airport.status(instance)["status"] == "STUCK"
    with pytest.raises(Conflict):
        resolve(airport, instance, "retry")
    assert airport.service.calls("unbefore") == []
    resolve(airport, instance, "succeeded")
    assert airport.ended(instance)["status"] == "CANCELLED"
    assert airport.service.done(instance) == ["before:g1:do", "pay:g1:do", "pay:g1:undo", "before:g1:undo"]


def test_a_sibling_goes_on_while_one_is_unknown_and_then_the_instance_is_stuck(airport: Airport) -> None:
    release = airport.service.hold("sibling")
    airport.service.tell("pay", LOST_AFTER)
    instance = airport.fly("""
id: unknown-beside
steps:
  - {id: pay, service: blind.pay, parallel: true}
  - {id: sibling, service: far.sibling, parallel: true}
  - {id: last, service: keyed.last}
""")
    airport.service.came("sibling")
    airport.step_is(instance, "pay", "UNKNOWN")
    assert airport.status(instance)["status"] == "RUNNING"
    release.set()
    airport.reached(instance, "STUCK")
    assert airport.service.calls("last") == []
    resolve(airport, instance, "succeeded")
    assert airport.ended(instance)["status"] == "COMPLETED"


def test_a_refusal_after_a_doubt_that_a_person_settled_by_retry_does_not_hide_the_doubt(airport: Airport) -> None:
    """The first attempt may have had its effect still: a later refusal says nothing about that."""
    instance = stuck(airport, "refused-after-doubt")
    airport.service.tell("pay", REFUSED)
    resolve(airport, instance, "retry")
    flights.until(lambda: verbs(airport.status(instance), "pay").count("doubt") == 2, "the second doubt")
    resolve(airport, instance, "succeeded")
    assert airport.ended(instance)["status"] == "COMPLETED"


def test_a_lane_that_cannot_be_asked_leaves_the_doubt_to_a_person(airport: Airport) -> None:
    """It can be asked as a rule, but does not answer; it is never repeated unasked."""
    airport.service.tell("pay", LOST_AFTER)
    airport.service.deaf = True
    instance = airport.fly("""
id: deaf
steps: [{id: pay, service: asked.pay, retry: {max: 2, backoff: 10ms}}]
""")
    assert airport.reached(instance, "STUCK")["reason"] == "uncertain"
    assert len(airport.service.calls("pay")) == 1
    airport.service.deaf = False
    resolve(airport, instance, "retry")
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert airport.service.done(instance) == ["pay:g1:do"]
    assert len(airport.service.calls("pay")) == 1, "asked, it said that it had done it"


def test_a_verdict_waits_until_a_lost_attempt_can_no_longer_be_running(tower: Airport) -> None:
    instance = tower.fly("id: still-running\nsteps: [{id: pay, service: blind.pay}]")
    assert tower.claim(instance, "pay", worker="killed") is not None
    tower.clock.advance(6)  # the lease is 5 s, the attempt's limit 60 s
    sweep(tower.system)
    assert tower.status(instance)["status"] == "STUCK"
    with pytest.raises(Conflict, match="may still be running"):
        resolve(tower, instance, "succeeded")
    tower.clock.advance(60)
    resolve(tower, instance, "succeeded")
    assert tower.status(instance)["status"] == "COMPLETED"


def test_the_step_that_was_rejected_is_known_to_have_failed(airport: Airport) -> None:
    airport.service.tell("pay", REJECTED)
    instance = airport.fly(FLIGHT.format(name="rejected-blind"))
    assert airport.ended(instance)["status"] == "COMPENSATED"
    assert airport.service.calls("unpay") == []
