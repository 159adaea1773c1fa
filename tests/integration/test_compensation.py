"""What was done is undone: in reverse order of completion, drained first, each once, and stopping where one cannot."""

from __future__ import annotations

import pytest

from orchestrator import callbacks, engine
from orchestrator.errors import Conflict
from tests import flights
from tests.services import (
    BROKEN,
    LATER,
    LOST_AFTER,
    LOST_BEFORE,
    REFUSED,
    REJECTED,
    Airport,
    Answer,
    is_gapless,
    order_of,
    states_of,
    verbs,
)

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]


def undone(airport: Airport, instance: str) -> list[str]:
    return [key for key in airport.service.done(instance) if key.endswith("undo")]


def test_a_sequence_is_undone_in_reverse(airport: Airport) -> None:
    airport.service.tell("c", REJECTED)
    instance = airport.fly("""
id: reverse
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: plain, service: keyed.plain}
  - {id: b, service: far.b, compensate: far.ub}
  - {id: c, service: keyed.c, compensate: keyed.uc}
""")
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("COMPENSATED", "rejected")
    assert airport.service.done(instance) == ["a:g1:do", "plain:g1:do", "b:g1:do", "b:g1:undo", "a:g1:undo"]
    assert [(one["step"], one["service"], one["status"]) for one in shown["compensations"]] == [
        ("b", "far.ub", "COMPENSATED"), ("a", "keyed.ua", "COMPENSATED"),
    ]  # fmt: skip
    assert states_of(shown) == {"a": "COMPENSATED", "plain": "SUCCEEDED", "b": "COMPENSATED", "c": "FAILED"}
    assert is_gapless(shown)


def test_parallel_branches_are_undone_in_reverse_order_of_completion(airport: Airport) -> None:
    first, second, third = (airport.service.hold(name) for name in ("x", "y", "z"))
    airport.service.tell("boom", REJECTED)
    instance = airport.fly("""
id: reverse-parallel
steps:
  - {id: x, service: keyed.x, compensate: keyed.ux, parallel: true}
  - {id: y, service: far.y, compensate: keyed.uy, parallel: true}
  - {id: z, service: safe.z, compensate: keyed.uz, parallel: true}
  - {id: boom, service: keyed.boom}
""")
    for step, release in (("z", third), ("x", first), ("y", second)):
        airport.service.came(step)
        release.set()
        airport.step_is(instance, step, "SUCCEEDED", "COMPENSATING", "COMPENSATED")
    assert airport.ended(instance)["status"] == "COMPENSATED"
    assert undone(airport, instance) == ["y:g1:undo", "x:g1:undo", "z:g1:undo"]


def test_nothing_is_undone_before_a_running_sibling_has_landed_and_that_one_is_undone_too(airport: Airport) -> None:
    release = airport.service.hold("slow")
    airport.service.tell("bad", REJECTED)
    instance = airport.fly("""
id: late-sibling
steps:
  - {id: before, service: keyed.before, compensate: keyed.unbefore}
  - id: both
    branches:
      late: [{id: slow, service: keyed.slow, compensate: keyed.unslow}, {id: never, service: keyed.never}]
      early: [{id: bad, service: far.bad}]
""")
    airport.service.came("slow")
    airport.step_is(instance, "bad", "FAILED")
    shown = airport.reached(instance, "COMPENSATING")
    assert states_of(shown)["slow"] == "RUNNING"
    assert undone(airport, instance) == []
    release.set()
    shown = airport.ended(instance)
    assert shown["status"] == "COMPENSATED"
    assert undone(airport, instance) == ["slow:g1:undo", "before:g1:undo"]
    assert airport.step(instance, "never") is None
    assert airport.service.calls("never") == []


def test_a_waiting_sibling_is_ended_and_its_service_is_told_by_the_undo(airport: Airport) -> None:
    """It was asked, so it may act: it counts as attempted."""
    airport.service.tell("ask", LATER)
    release = airport.service.hold("bad", REJECTED)
    instance = airport.fly("""
id: waiting-sibling
steps:
  - {id: ask, service: keyed.ask, compensate: keyed.unask, parallel: true}
  - {id: bad, service: far.bad, parallel: true}
""")
    airport.step_is(instance, "ask", "WAITING")
    release.set()
    assert airport.ended(instance)["status"] == "COMPENSATED"
    assert undone(airport, instance) == ["ask:g1:undo"]


def test_a_compensation_gets_the_result_of_its_step_and_its_own_input(airport: Airport) -> None:
    airport.service.tell("charge", Answer(reply={"result": {"id": "ch_1"}}))
    airport.service.tell("boom", REJECTED)
    instance = airport.fly(
        """
id: undo-input
steps:
  - id: charge
    service: keyed.charge
    compensate: {service: keyed.refund, input: {charge: "${steps.charge.result.id}", amount: "${payload.fee}"}}
  - {id: plain, service: keyed.plain, compensate: keyed.unplain}
  - {id: boom, service: keyed.boom}
""",
        {"fee": 75},
    )
    assert airport.ended(instance)["status"] == "COMPENSATED"
    [refund] = airport.service.calls("refund")
    assert refund.body["input"] == {"charge": "ch_1", "amount": 75}
    assert refund.body["result"] == {"id": "ch_1"}
    [unplain] = airport.service.calls("unplain")
    assert unplain.body["input"] == {"fee": 75}


def test_a_compensation_is_retried_with_the_same_key_as_its_steps_retry_says_or_its_own(airport: Airport) -> None:
    airport.service.tell("boom", REJECTED)
    airport.service.tell("ua", REFUSED, LOST_AFTER, BROKEN)
    airport.service.tell("ub", REFUSED)
    instance = airport.fly("""
id: undo-retries
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua, retry: {max: 3, backoff: 10ms}}
  - {id: b, service: keyed.b, retry: {max: 0}, compensate: {service: keyed.ub, retry: {max: 1, backoff: 10ms}}}
  - {id: boom, service: keyed.boom}
""")
    assert airport.ended(instance)["status"] == "COMPENSATED"
    assert [one.attempt for one in airport.service.calls("ub")] == [1, 2]
    calls = airport.service.calls("ua")
    assert [one.attempt for one in calls] == [1, 2, 3, 4]
    assert len({(one.key, one.content) for one in calls}) == 1
    assert undone(airport, instance) == ["b:g1:undo", "a:g1:undo"]


STUCK = """
id: {name}
steps:
  - {{id: a, service: keyed.a, compensate: keyed.ua}}
  - {{id: b, service: keyed.b, compensate: {{service: {lane}.ub, retry: {{max: 0}}}}}}
  - {{id: boom, service: keyed.boom}}
"""


def test_a_compensation_that_fails_stops_the_undo_until_a_retry_with_a_new_key_succeeds(airport: Airport) -> None:
    airport.service.tell("boom", REJECTED)
    airport.service.tell("ub", REJECTED)
    instance = airport.fly(STUCK.format(name="undo-fails", lane="keyed"))
    shown = airport.reached(instance, "STUCK")
    assert shown["reason"] == "undo_failed"
    assert shown["ended"] is None
    assert [(one["step"], one["status"], one["error"]) for one in shown["compensations"]] == [
        ("b", "STUCK", "HTTP 422: not like this"), ("a", "COMPENSATING", None),
    ]  # fmt: skip
    assert airport.service.calls("ua") == [], "never skipped in silence"
    with pytest.raises(Conflict):
        engine.cancel(airport.system, tenant=flights.TENANT, instance_id=instance)

    engine.retry(airport.system, tenant=flights.TENANT, instance_id=instance)
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("COMPENSATED", "rejected")
    assert [one.key for one in airport.service.calls("ub")] == [f"{instance}:b:g1:undo", f"{instance}:b:g2:undo"]
    assert undone(airport, instance) == ["b:g2:undo", "a:g1:undo"]
    assert is_gapless(shown)

    engine.retry(airport.system, tenant=flights.TENANT, instance_id=instance)
    assert airport.ended(instance)["status"] == "COMPLETED"
    again = [one.key for one in airport.service.calls("b")][1:]
    assert again == [f"{instance}:b:g3:do"], "a service may refuse what it has undone under a number that is not lower"


def test_a_person_who_has_undone_it_by_hand_says_so_and_the_undo_goes_on(airport: Airport) -> None:
    airport.service.tell("boom", REJECTED)
    airport.service.tell("ub", REJECTED)
    instance = airport.fly(STUCK.format(name="undone-by-hand", lane="keyed"))
    airport.reached(instance, "STUCK")
    with pytest.raises(Conflict, match="has failed already"):
        airport.order(engine.resolve, instance, step="b", verdict="failed")

    airport.order(engine.resolve, instance, step="b", verdict="succeeded", result={"by": "cheque"})
    shown = airport.ended(instance)
    assert shown["status"] == "COMPENSATED"
    assert [(one["step"], one["status"], one["state"]) for one in shown["compensations"]] == [
        ("b", "COMPENSATED", "SUCCEEDED"), ("a", "COMPENSATED", "SUCCEEDED"),
    ]  # fmt: skip
    assert undone(airport, instance) == ["a:g1:undo"]
    assert is_gapless(shown)


def test_a_stuck_compensation_whose_outcome_is_uncertain_is_retried_with_its_own_key(airport: Airport) -> None:
    airport.service.tell("boom", REJECTED)
    airport.service.tell("ub", LOST_AFTER)
    instance = airport.fly(STUCK.format(name="undo-uncertain", lane="keyed"))
    assert airport.reached(instance, "STUCK")["reason"] == "undo_failed"
    engine.retry(airport.system, tenant=flights.TENANT, instance_id=instance)
    assert airport.ended(instance)["status"] == "COMPENSATED"
    assert {one.key for one in airport.service.calls("ub")} == {f"{instance}:b:g1:undo"}
    assert undone(airport, instance) == ["b:g1:undo", "a:g1:undo"]


def test_an_uncertain_compensation_on_a_lane_that_can_do_neither_waits_for_a_person(airport: Airport) -> None:
    airport.service.tell("boom", REJECTED)
    airport.service.tell("ub", LOST_AFTER)
    instance = airport.fly(STUCK.format(name="undo-unknown", lane="blind"))
    assert airport.reached(instance, "STUCK")["reason"] == "uncertain"
    with pytest.raises(Conflict):
        engine.retry(airport.system, tenant=flights.TENANT, instance_id=instance)
    engine.resolve(airport.system, tenant=flights.TENANT, instance_id=instance, step="b", verdict="succeeded")
    assert airport.ended(instance)["status"] == "COMPENSATED"
    assert undone(airport, instance) == ["b:g1:undo", "a:g1:undo"]


@pytest.mark.parametrize(("key", "undo"), [("completed", []), ("attempted", ["b:g1:undo"])])
def test_a_step_that_failed_for_certain_is_undone_only_where_attempts_are(
    airport: Airport, key: str, undo: list[str]
) -> None:
    airport.service.tell("b", REJECTED)
    instance = airport.fly(f"""
id: compensate-on-{key}
compensateOn: {key}
steps:
  - {{id: a, service: keyed.a, compensate: keyed.ua}}
  - {{id: b, service: keyed.b, compensate: keyed.ub}}
  - {{id: c, service: keyed.c, compensate: keyed.uc}}
""")
    assert airport.ended(instance)["status"] == "COMPENSATED"
    assert undone(airport, instance) == [*undo, "a:g1:undo"]


@pytest.mark.parametrize("answer", [LOST_AFTER, LOST_BEFORE, BROKEN])
def test_a_step_that_failed_without_a_definite_answer_is_undone_as_if_attempted(
    airport: Airport, answer: Answer
) -> None:
    airport.service.always("b", answer)
    instance = airport.fly("""
id: undone-as-attempted
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: b, service: keyed.b, compensate: keyed.ub, retry: {max: 1, backoff: 10ms}}
""")
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("COMPENSATED", "uncertain")
    assert undone(airport, instance) == ["b:g1:undo", "a:g1:undo"]


def test_a_failure_with_nothing_to_undo_is_failed(airport: Airport) -> None:
    airport.service.tell("b", REJECTED)
    instance = airport.fly("""
id: nothing-to-undo
steps: [{id: a, service: keyed.a}, {id: b, service: keyed.b, compensate: keyed.ub}]
""")
    assert airport.ended(instance)["status"] == "FAILED"


def test_a_failed_instance_has_a_second_life_in_which_what_was_undone_is_done_under_new_keys(airport: Airport) -> None:
    airport.service.tell("last", REJECTED, REJECTED)
    instance = airport.fly("""
id: second-life
steps:
  - {id: kept, service: keyed.kept}
  - id: block
    branches:
      p: [{id: p1, service: keyed.p, compensate: keyed.up}]
      q: [{id: q1, service: far.q}, {id: q2, service: keyed.q, compensate: keyed.uq}]
  - {id: skipped, service: keyed.skipped, when: "false"}
  - {id: last, service: keyed.last}
""")
    assert airport.ended(instance)["status"] == "COMPENSATED"
    engine.retry(airport.system, tenant=flights.TENANT, instance_id=instance)
    flights.until(lambda: len(airport.service.calls("last")) == 2, "the second life's last step")
    assert airport.ended(instance)["status"] == "COMPENSATED"
    engine.retry(airport.system, tenant=flights.TENANT, instance_id=instance)
    shown = flights.until(lambda: s if (s := airport.status(instance))["status"] == "COMPLETED" else None, "completion")
    done = airport.service.done(instance)
    assert [key for key in done if key.startswith(("kept", "q1"))] == ["kept:g1:do", "q1:g1:do"], (
        "what stands is not repeated"
    )
    assert [key for key in done if key.startswith("p1")] == [
        "p1:g1:do", "p1:g1:undo", "p1:g2:do", "p1:g2:undo", "p1:g3:do",
    ]  # fmt: skip
    assert [one.key.split(":")[2] for one in airport.service.calls("last")] == ["g1", "g2", "g3"]
    assert not airport.service.doubles()
    assert verbs(shown).count("restart") == 2
    assert is_gapless(shown)


def test_a_completed_or_cancelled_instance_has_no_second_life(airport: Airport) -> None:
    instance = airport.fly("id: no-second-life\nsteps: [{id: a, service: keyed.a}]")
    airport.ended(instance)
    with pytest.raises(Conflict) as raised:
        engine.retry(airport.system, tenant=flights.TENANT, instance_id=instance)
    assert raised.value.present == "COMPLETED"


def test_cancelling_undoes_what_was_done_and_lets_what_runs_land_first(airport: Airport) -> None:
    release = airport.service.hold("b")
    instance = airport.fly("""
id: cancelled
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: b, service: keyed.b, compensate: keyed.ub}
  - {id: c, service: keyed.c}
""")
    airport.service.came("b")
    assert engine.cancel(airport.system, tenant=flights.TENANT, instance_id=instance) == "COMPENSATING"
    assert undone(airport, instance) == []
    release.set()
    shown = airport.ended(instance)
    assert shown["status"] == "CANCELLED"
    assert undone(airport, instance) == ["b:g1:undo", "a:g1:undo"]
    assert airport.service.calls("c") == []
    with pytest.raises(Conflict) as raised:
        engine.cancel(airport.system, tenant=flights.TENANT, instance_id=instance)
    assert raised.value.present == "CANCELLED"


def test_a_retry_that_waits_for_its_time_is_ended_by_a_cancel(airport: Airport) -> None:
    airport.service.always("b", REFUSED)
    instance = airport.fly("""
id: cancel-retrying
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: b, service: keyed.b, compensate: keyed.ub, retry: {max: 5, backoff: 1h, cap: 1h}}
""")
    airport.step_is(instance, "b", "RETRYING")
    engine.cancel(airport.system, tenant=flights.TENANT, instance_id=instance)
    assert airport.ended(instance)["status"] == "CANCELLED"
    assert undone(airport, instance) == ["a:g1:undo"], "a refused step has had no effect"


def test_when_the_deadline_of_the_whole_passes_what_was_done_is_undone(airport: Airport) -> None:
    instance = airport.fly("""
id: whole-deadline
deadline: 30d
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: wait, pause: true}
""")
    airport.step_is(instance, "wait", "WAITING")
    airport.clock.advance(30 * 86400 + 1)
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("COMPENSATED", "deadline")
    assert undone(airport, instance) == ["a:g1:undo"]
    assert states_of(shown)["wait"] == "SKIPPED"


def test_a_compensation_may_answer_later(airport: Airport) -> None:
    airport.service.tell("boom", REJECTED)
    airport.service.tell("ua", LATER)
    instance = airport.fly("""
id: undo-later
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: boom, service: keyed.boom}
""")
    [call] = airport.service.came("ua")
    flights.until(lambda: "park" in verbs(airport.status(instance), "a", "undo"), "the undo waits")
    token = call.body["callbackUrl"].split("token=")[1]
    callbacks.decide(airport.system, trace=instance, step="a", token=token, tenant=None, result={"refunded": True})
    shown = airport.ended(instance)
    assert shown["status"] == "COMPENSATED"
    assert shown["compensations"][0]["result"] == {"refunded": True}


def test_a_suspended_instance_does_not_go_on_undoing_until_it_is_resumed(airport: Airport) -> None:
    airport.service.tell("boom", REJECTED)
    release = airport.service.hold("ub")
    instance = airport.fly(STUCK.format(name="suspended-undo", lane="keyed"))
    airport.service.came("ub")
    assert engine.suspend(airport.system, tenant=flights.TENANT, instance_id=instance) == "SUSPENDED"
    release.set()
    flights.until(lambda: order_of(airport.status(instance), "compensate"), "the running undo is recorded")
    assert airport.status(instance)["status"] == "SUSPENDED"
    assert airport.service.calls("ua") == []
    assert engine.resume(airport.system, tenant=flights.TENANT, instance_id=instance) == "COMPENSATING"
    assert airport.ended(instance)["status"] == "COMPENSATED"
