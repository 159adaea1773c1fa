"""Callbacks and decisions: the order of answers, early ones, repeated ones, and races with one winner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from orchestrator import callbacks, engine
from orchestrator.callbacks import Decided
from orchestrator.errors import BadRequest, Conflict, Gone, NotFound, TooLarge, Unauthorized
from orchestrator.sweep import sweep
from tests import flights
from tests.services import (
    LATER,
    LOST_AFTER,
    REJECTED,
    Airport,
    Answer,
    Seen,
    holding,
    is_gapless,
    states_of,
    verbs,
)

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

APPROVAL = """
id: {name}
steps:
  - {{id: a, service: keyed.a, compensate: keyed.ua}}
  - {{id: approval, service: keyed.ask, pause: true{more}}}
  - {{id: after, service: keyed.after}}
"""


def waiting(airport: Airport, name: str, more: str = "") -> str:
    instance = airport.fly(APPROVAL.format(name=name, more=f", {more}" if more else ""))
    airport.step_is(instance, "approval", "WAITING")
    return instance


# -- the order of the interface table


def test_a_wrong_token_is_refused_before_anything_is_said_about_the_step(airport: Airport) -> None:
    instance = waiting(airport, "wrong-token")
    right = airport.token("ask")
    generation, phase, signature = right.split(".")
    forged = f"{generation}.{phase}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    for wrong in ("", "nonsense", forged, right.replace("g1", "g2"), right.replace("do", "undo")):
        with pytest.raises(Unauthorized):
            airport.decide(instance, "approval", token=wrong, decision="approved")
    with pytest.raises(Unauthorized):
        airport.decide(instance, "after", token=right, decision="approved")
    with pytest.raises(Unauthorized):
        callbacks.decide(airport.system, trace=instance, step="approval", token=None, tenant=None, decision="approved")
    airport.decide(instance, "approval", token=right)
    airport.ended(instance)
    with pytest.raises(Unauthorized):
        airport.decide(instance, "approval", token="nonsense", decision="approved")


def test_a_token_of_another_instance_opens_nothing(airport: Airport) -> None:
    waiting(airport, "other-token")
    other = airport.token("ask")
    mine = waiting(airport, "other-token")
    with pytest.raises(Unauthorized):
        airport.decide(mine, "approval", token=other)
    assert states_of(airport.status(mine))["approval"] == "WAITING"


def test_the_same_decision_again_is_answered_alike_and_changes_nothing(airport: Airport) -> None:
    instance = waiting(airport, "repeated")
    token = airport.token("ask")
    assert airport.decide(instance, "approval", token=token) == Decided(
        step="approval", decision="approved", repeated=False
    )
    before = airport.ended(instance)
    again = airport.decide(instance, "approval", token=token, decision="approved", result={"other": 1})
    assert again == Decided(step="approval", decision="approved", repeated=True)
    assert airport.status(instance) == before


@pytest.mark.parametrize(("first", "second"), [("approved", "rejected"), ("rejected", "approved")])
def test_another_decision_is_told_which_one_won(airport: Airport, first: str, second: str) -> None:
    instance = waiting(airport, f"otherwise-{first}")
    token = airport.token("ask")
    airport.decide(instance, "approval", token=token, decision=first)
    airport.ended(instance)
    with pytest.raises(Conflict) as raised:
        airport.decide(instance, "approval", token=token, decision=second)
    assert raised.value.present == first


def test_a_decision_that_comes_after_the_end_is_told_so(airport: Airport) -> None:
    instance = waiting(airport, "after-the-end")
    token = airport.token("ask")
    airport.order(engine.cancel, instance)
    airport.ended(instance)
    with pytest.raises(Conflict) as raised:
        airport.decide(instance, "approval", token=token)
    assert raised.value.present == "CANCELLED"


def test_one_who_was_passed_over_is_told_so_and_the_backup_decides(airport: Airport) -> None:
    instance = waiting(airport, "passed-over", "timeout: 48h, onTimeout: escalate")
    old = airport.token("ask")
    airport.clock.advance(48 * 3600 + 1)
    new = airport.token("deputy")
    airport.step_is(instance, "approval", "WAITING")
    with pytest.raises(Gone, match="escalated"):
        airport.decide(instance, "approval", token=old)
    airport.decide(instance, "approval", token=new)
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert airport.decide(instance, "approval", token=old).repeated, "the same decision comes first in the order"
    with pytest.raises(Conflict):
        airport.decide(instance, "approval", token=old, decision="rejected")


def test_a_callback_past_its_deadline_performs_the_timeout_and_is_told_that_it_is_over(tower: Airport) -> None:
    """Nobody sweeps here."""
    instance = tower.fly(APPROVAL.format(name="past-due", more=", timeout: 48h, onTimeout: escalate"))
    tower.run(instance, "a")
    token = tower.token("ask")
    tower.clock.advance(48 * 3600 + 1)
    with pytest.raises(Gone):
        tower.decide(instance, "approval", token=token)
    assert verbs(tower.status(instance), "approval")[-1] == "escalate"
    tower.run(instance, "approval")
    tower.decide(instance, "approval", token=tower.token("deputy"))
    tower.run(instance, "after")
    assert tower.status(instance)["status"] == "COMPLETED"


def test_a_deadline_that_decides_has_decided_for_the_callback_that_comes_too_late(tower: Airport) -> None:
    instance = tower.fly(APPROVAL.format(name="decides", more=", timeout: 1h, onTimeout: {decide: approved}"))
    tower.run(instance, "a")
    token = tower.token("ask")
    tower.clock.advance(3601)
    with pytest.raises(Gone):
        tower.decide(instance, "approval", token=token, decision="rejected")
    assert tower.decide(instance, "approval", token=token, decision="approved").repeated
    with pytest.raises(Conflict):
        tower.decide(instance, "approval", token=token, decision="rejected")


def test_a_step_that_does_not_wait_has_nothing_to_decide(airport: Airport) -> None:
    instance = waiting(airport, "does-not-wait")
    with pytest.raises(Conflict) as raised:
        airport.decide(instance, "a")
    assert raised.value.present == "SUCCEEDED"
    for step in ("after", "nowhere"):
        with pytest.raises(NotFound):
            airport.decide(instance, step)
    with pytest.raises(NotFound):
        callbacks.decide(airport.system, trace=instance, step="approval", token=None, tenant="elsewhere")
    with pytest.raises(NotFound):
        airport.decide("0" * 32, "approval")
    assert states_of(airport.status(instance))["approval"] == "WAITING"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"decision": "perhaps"}, BadRequest),
        ({"result": {"x": "a\0b"}}, BadRequest),
        ({"result": float("nan")}, BadRequest),
        ({"comment": "a\0b"}, BadRequest),
        ({"result": "x" * 1_000_001}, TooLarge),
    ],
)
def test_an_answer_that_cannot_be_kept_decides_nothing(
    airport: Airport, answer: dict[str, Any], error: type[Exception]
) -> None:
    instance = waiting(airport, "cannot-be-kept")
    with pytest.raises(error):
        airport.decide(instance, "approval", **answer)
    assert states_of(airport.status(instance))["approval"] == "WAITING"


# -- what a decision does


def test_a_rejection_fails_the_step_and_undoes_the_rest(airport: Airport) -> None:
    instance = waiting(airport, "rejected")
    airport.decide(instance, "approval", decision="rejected", comment="the plan is wrong", by="ann")
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("COMPENSATED", "rejected")
    approval = airport.step(instance, "approval")
    assert approval is not None
    assert (approval["error"], approval["comment"], approval["decidedBy"]) == ("the plan is wrong",) * 2 + ("ann",)


def test_a_rejection_may_be_a_result_to_go_on_with(airport: Airport) -> None:
    instance = airport.fly("""
id: reject-continues
steps:
  - {id: approval, pause: true, onReject: continue}
  - {id: declined, service: keyed.declined, when: "steps.approval.decision == 'rejected'", input: "${steps.approval.result}"}
  - {id: granted, service: keyed.granted, when: "steps.approval.decision == 'approved'"}
""")
    airport.step_is(instance, "approval", "WAITING")
    airport.decide(instance, "approval", decision="rejected", result={"why": "late"})
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert airport.service.done(instance) == ["declined:g1:do"]
    assert airport.service.calls("declined")[0].body["input"] == {"why": "late"}


def test_an_answer_with_an_error_is_a_rejection(airport: Airport) -> None:
    airport.service.tell("a", LATER)
    instance = airport.fly("id: later-error\nsteps: [{id: a, service: keyed.a}]")
    airport.step_is(instance, "a", "WAITING")
    airport.decide(instance, "a", token=airport.token("a"), error="the register is closed")
    assert airport.ended(instance)["status"] == "FAILED"
    a = airport.step(instance, "a")
    assert a is not None
    assert a["error"] == "the register is closed"


def test_a_service_that_answers_later_completes_its_step_by_callback(airport: Airport) -> None:
    airport.service.tell("a", LATER)
    instance = airport.fly("""
id: later
steps: [{id: a, service: keyed.a}, {id: b, service: far.b, input: "${steps.a.result.n}"}]
""")
    airport.step_is(instance, "a", "WAITING")
    airport.decide(instance, "a", token=airport.token("a"), result={"n": 5})
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert airport.service.calls("b")[0].body["input"] == 5


@pytest.mark.parametrize("answer", [LATER, Answer(reply={"n": 1}), LOST_AFTER, REJECTED])
def test_a_callback_that_comes_before_its_leg_has_landed_stands(airport: Airport, answer: Answer) -> None:
    """Whatever the request itself is answered with afterwards."""

    def call_back(seen: Seen) -> None:
        token = seen.body["callbackUrl"].partition("token=")[2]
        airport.decide(seen.body["trace"], "a", token=token, result={"n": 5})

    airport.service.tell("a", Answer(**{**vars(answer), "then": call_back}))
    instance = airport.fly("""
id: early
steps: [{id: a, service: keyed.a}, {id: b, service: far.b, input: "${steps.a.result.n}"}, {id: c, service: keyed.c}]
""")
    shown = airport.ended(instance)
    assert shown["status"] == "COMPLETED"
    assert verbs(shown, "a") == ["ready", "claim", "resolve"]
    assert [one.body["input"] for one in airport.service.calls("b")] == [5]
    assert len(airport.service.calls("c")) == 1
    assert not airport.service.doubles()
    assert is_gapless(shown)


def test_a_suspended_instance_records_a_decision_and_goes_on_after_resume(airport: Airport) -> None:
    instance = waiting(airport, "suspended-decision")
    airport.order(engine.suspend, instance)
    airport.decide(instance, "approval")
    assert states_of(airport.status(instance))["approval"] == "SUCCEEDED"
    assert airport.status(instance)["status"] == "SUSPENDED"
    airport.order(engine.resume, instance)
    assert airport.ended(instance)["status"] == "COMPLETED"


def test_branches_are_joined_by_a_callback_a_leg_and_a_timeout_alike(airport: Airport) -> None:
    instance = airport.fly("""
id: joined-by-anything
steps:
  - id: all
    branches:
      person: [{id: person, pause: true}]
      leg: [{id: leg, service: far.leg}]
      timer: [{id: timer, pause: true, timeout: 1h, onTimeout: skip}]
  - {id: after, service: keyed.after}
""")
    airport.step_is(instance, "leg", "SUCCEEDED")
    for waits in ("person", "timer"):
        airport.step_is(instance, waits, "WAITING")
    airport.decide(instance, "person")
    assert airport.step(instance, "after") is None
    airport.clock.advance(3601)
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert airport.service.done(instance) == ["leg:g1:do", "after:g1:do"]


# -- races


def test_fifty_who_approve_at_once_are_answered_alike_and_there_is_one_effect(airport: Airport) -> None:
    instance = waiting(airport, "fifty")
    token = airport.token("ask")
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: airport.decide(instance, "approval", token=token), range(50)))
    assert {(one.step, one.decision) for one in answers} == {("approval", "approved")}
    assert sum(not one.repeated for one in answers) == 1
    shown = airport.ended(instance)
    assert verbs(shown, "approval").count("resolve") == 1
    assert airport.service.done(instance).count("after:g1:do") == 1
    assert is_gapless(shown)


def outcome(future: Future[Any]) -> str:
    error = future.exception(timeout=20)
    if error is None:
        return "won"
    assert isinstance(error, Conflict | Gone), error
    return type(error).__name__


@pytest.mark.parametrize("first", range(4))
def test_callback_rejection_cancel_and_deadline_race_for_one_row_and_one_wins(tower: Airport, first: int) -> None:
    """All four wait for the instance's lock when it is released; whoever comes first decides, the others are told."""
    instance = tower.fly(APPROVAL.format(name="race", more=", timeout: 1h, onTimeout: {decide: approved}"))
    tower.run(instance, "a")
    token = tower.token("ask")
    racers: list[Callable[[], Any]] = [
        lambda: tower.decide(instance, "approval", token=token, decision="approved"),
        lambda: tower.decide(instance, "approval", token=token, decision="rejected"),
        lambda: tower.order(engine.cancel, instance),
        lambda: tower.decide(instance, "approval", by="officer", decision="rejected"),
    ]
    with ThreadPoolExecutor(4) as pool:
        with holding(tower, instance) as others:
            running = []
            for number, racer in enumerate(racers[first:] + racers[:first], start=1):
                running.append(pool.submit(racer))
                others(number)
        answers = [outcome(future) for future in running]
    shown = tower.status(instance)
    decided = [one for one in verbs(shown, "approval") if one in ("resolve", "reject", "fail", "end")]
    assert len(decided) == 1, (answers, shown["history"])
    assert verbs(shown).count("fall") <= 1
    winner = answers[0]
    assert winner == "won", "the first in the queue for the lock"
    assert is_gapless(shown)
    assert Counter(answers)["won"] <= 3, "two rejections are the same decision; after an approval there may be a cancel"


def test_a_deadline_and_a_callback_that_wait_for_the_same_lock_have_one_winner(tower: Airport) -> None:
    instance = tower.fly(APPROVAL.format(name="deadline-race", more=", timeout: 1h, onTimeout: fail"))
    tower.run(instance, "a")
    token = tower.token("ask")
    with ThreadPoolExecutor(2) as pool:
        with holding(tower, instance) as others:
            approved = pool.submit(lambda: tower.decide(instance, "approval", token=token))
            others(1)
            tower.clock.advance(3601)  # it is past due by the time that it has the lock
            assert sweep(tower.system) == 0, "a sweep skips what somebody holds"
        assert outcome(approved) == "Gone"
    assert verbs(tower.status(instance), "approval")[-1] == "fail"
    assert sweep(tower.system) == 0, "the callback has performed it"


def test_a_callback_that_has_won_leaves_the_deadline_nothing(tower: Airport) -> None:
    instance = tower.fly(APPROVAL.format(name="callback-won", more=", timeout: 1h, onTimeout: fail"))
    tower.run(instance, "a")
    tower.decide(instance, "approval", token=tower.token("ask"))
    tower.clock.advance(3601)
    assert sweep(tower.system) == 0
    tower.run(instance, "after")
    assert tower.status(instance)["status"] == "COMPLETED"


def test_what_waits_shows_where_its_answer_goes(airport: Airport) -> None:
    instance = waiting(airport, "shows")
    shown = airport.status(instance)
    assert (shown["status"], shown["currentStep"]) == ("WAITING", "approval")
    page = callbacks.page(airport.system, trace=instance, step="approval", token=airport.token("ask"), tenant=None)
    assert page["waiting"] is True
    assert states_of(airport.status(instance))["approval"] == "WAITING", "a look decides nothing"
    flights.until(lambda: airport.status(instance)["status"] == "WAITING", "it still waits")
