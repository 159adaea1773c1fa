"""When a step's time is up, with the database's clock moved by days."""

from __future__ import annotations

import pytest

from orchestrator import engine
from orchestrator.errors import Conflict, Gone
from tests import flights
from tests.services import LATER, LOST_AFTER, REFUSED, Airport, Answer, Seen, is_gapless, verbs

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

HOUR = 3600.0
FLIGHT = """
id: {name}
steps:
  - {{id: a, service: keyed.a, compensate: keyed.ua}}
  - {{id: approval, service: {service}, pause: true, timeout: 48h, {more}}}
  - {{id: after, service: keyed.after}}
"""


def waiting(airport: Airport, name: str, more: str, service: str = "keyed.ask") -> str:
    instance = airport.fly(FLIGHT.format(name=name, more=more, service=service))
    airport.step_is(instance, "approval", "WAITING")
    return instance


def late(airport: Airport, hours: float) -> None:
    airport.clock.advance(hours * HOUR + 1)


@pytest.mark.parametrize(
    ("more", "target", "lane"),
    [
        ("onTimeout: escalate", "deputy", "keyed"),
        ("onTimeout: escalate, escalate: {to: far.mayor}", "mayor", "far"),
        ("onTimeout: escalate, escalate: {to: blind.mayor, timeout: 24h}", "mayor", "blind"),
    ],
)
def test_a_silent_approver_is_passed_over_for_the_backup_under_a_new_key(
    airport: Airport, more: str, target: str, lane: str
) -> None:
    name = f"escalate-{lane}-{target}"
    instance = waiting(airport, name, more)
    late(airport, 47)
    assert airport.service.calls(target) == []
    airport.clock.advance(HOUR)
    [call] = airport.service.came(target)
    assert call.key == f"{instance}:approval:g2:do"
    shown = airport.step_is(instance, "approval", "WAITING")
    assert (shown["escalated"], shown["generation"], shown["service"]) == (True, 2, f"{lane}.{target}")
    airport.decide(instance, "approval", token=airport.token(target))
    shown = airport.ended(instance)
    assert shown["status"] == "COMPLETED"
    assert verbs(shown, "approval") == ["ready", "claim", "park", "escalate", "claim", "park", "resolve"]
    assert is_gapless(shown)


def test_a_bare_pause_may_be_escalated_to_somebody(airport: Airport) -> None:
    instance = airport.fly("""
id: bare-pause
steps:
  - {id: approval, pause: true, timeout: 48h, onTimeout: escalate, escalate: {to: keyed.mayor}}
""")
    airport.step_is(instance, "approval", "WAITING")
    late(airport, 48)
    airport.decide(instance, "approval", token=airport.token("mayor"))
    assert airport.ended(instance)["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("action", "status"),
    [("fail", "COMPENSATED"), ("skip", "COMPLETED"), ("{decide: approved}", "COMPLETED"),
     ("{decide: rejected}", "COMPENSATED")],
)  # fmt: skip
def test_a_backup_that_is_silent_too_is_not_escalated_again(airport: Airport, action: str, status: str) -> None:
    name = "second-" + "".join(letter for letter in action if letter.isalpha())
    instance = waiting(airport, name, f"onTimeout: escalate, escalate: {{timeout: 24h, onTimeout: {action}}}")
    late(airport, 48)
    airport.service.came("deputy")
    airport.step_is(instance, "approval", "WAITING")
    late(airport, 23)
    assert airport.status(instance)["status"] == "WAITING"
    airport.clock.advance(HOUR)
    assert airport.ended(instance)["status"] == status
    assert len(airport.service.calls("ask")) == len(airport.service.calls("deputy")) == 1


def test_the_second_timeout_fails_where_nothing_else_is_said(airport: Airport) -> None:
    instance = waiting(airport, "second-default", "onTimeout: escalate, escalate: {timeout: 24h}")
    late(airport, 48)
    airport.service.came("deputy")
    airport.step_is(instance, "approval", "WAITING")
    late(airport, 24)
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("COMPENSATED", "timeout")


@pytest.mark.parametrize(
    ("action", "status", "last"),
    [("fail", "COMPENSATED", "fail"), ("skip", "COMPLETED", "skip"), ("{decide: approved}", "COMPLETED", "resolve"),
     ("{decide: rejected}", "COMPENSATED", "reject")],
)  # fmt: skip
def test_a_timeout_does_what_its_definition_says(airport: Airport, action: str, status: str, last: str) -> None:
    name = "timeout-" + "".join(letter for letter in action if letter.isalpha())
    instance = waiting(airport, name, f"onTimeout: {action}")
    late(airport, 48)
    shown = airport.ended(instance)
    assert shown["status"] == status
    assert verbs(shown, "approval") == ["ready", "claim", "park", last]
    if "decide" in action:
        approval = airport.step(instance, "approval")
        assert approval is not None
        assert approval["decidedBy"] == "deadline"


def test_a_timeout_may_ask_again_with_the_same_key_a_bounded_number_of_times(airport: Airport) -> None:
    instance = waiting(airport, "ask-again", "onTimeout: retry, retry: {max: 2}")
    for times in (2, 3):
        late(airport, 48)
        airport.service.came("ask", times)
        airport.step_is(instance, "approval", "WAITING")
    assert len({(one.key, one.content) for one in airport.service.calls("ask")}) == 1
    late(airport, 48)
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("COMPENSATED", "timeout")
    assert len(airport.service.calls("ask")) == 3


def test_the_first_link_still_works_when_the_same_one_was_asked_again(airport: Airport) -> None:
    instance = waiting(airport, "first-link", "onTimeout: retry")
    token = airport.token("ask")
    late(airport, 48)
    airport.service.came("ask", 2)
    airport.step_is(instance, "approval", "WAITING")
    airport.decide(instance, "approval", token=token)
    assert airport.ended(instance)["status"] == "COMPLETED"


def test_an_answer_that_comes_later_may_be_too_late_and_its_step_is_undone_as_if_attempted(airport: Airport) -> None:
    airport.service.tell("work", LATER)
    instance = airport.fly("""
id: later-too-late
steps: [{id: work, service: keyed.work, timeout: 2h, compensate: keyed.unwork}]
""")
    airport.step_is(instance, "work", "WAITING")
    token = airport.token("work")
    late(airport, 2)
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("COMPENSATED", "timeout")
    with pytest.raises(Conflict):
        airport.decide(instance, "work", token=token)


def test_a_step_that_is_skipped_at_its_timeout_may_have_been_done_and_is_undone_with_the_rest(airport: Airport) -> None:
    airport.service.tell("work", LATER)
    instance = airport.fly("""
id: skipped-too-late
steps:
  - {id: work, service: keyed.work, timeout: 2h, onTimeout: skip, compensate: keyed.unwork}
  - {id: wait, pause: true}
""")
    airport.step_is(instance, "work", "WAITING")
    late(airport, 2)
    airport.step_is(instance, "wait", "WAITING")
    airport.decide(instance, "wait", decision="rejected")
    assert airport.ended(instance)["status"] == "COMPENSATED"
    assert [one.key for one in airport.service.calls("unwork")] == [f"{instance}:work:g1:undo"]


def test_a_service_that_never_answers_for_certain_is_escalated_when_its_budget_is_over(airport: Airport) -> None:
    airport.service.always("work", REFUSED)
    instance = airport.fly("""
id: budget-escalates
steps:
  - id: work
    service: keyed.work
    timeout: 1h
    onTimeout: escalate
    retry: {max: 50, backoff: 20m, cap: 20m, factor: 1, jitter: false}
    escalate: {to: far.other}
""")
    for times in (1, 2, 3):
        airport.service.came("work", times)
        airport.step_is(instance, "work", "RETRYING", "SUCCEEDED")
        airport.clock.advance(1201)
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert [one.key for one in airport.service.calls("other")] == [f"{instance}:work:g2:do"]
    assert len(airport.service.calls("work")) == 3


def test_what_the_first_one_may_have_done_is_undone_although_the_backup_has_failed_for_certain(
    airport: Airport,
) -> None:
    airport.service.tell("work", LATER)
    airport.service.tell("deputy", REFUSED)
    instance = airport.fly("""
id: first-may-have
steps:
  - id: work
    service: keyed.work
    timeout: 1h
    onTimeout: escalate
    retry: {max: 0}
    compensate: keyed.unwork
""")
    airport.step_is(instance, "work", "WAITING")
    late(airport, 1)
    airport.service.came("deputy")
    assert airport.ended(instance)["status"] == "COMPENSATED"
    assert [one.key for one in airport.service.calls("unwork")] == [f"{instance}:work:g2:undo"], "all up to its number"


def test_a_refusal_by_a_backup_that_may_not_be_repeated_blindly_is_repeated_all_the_same(airport: Airport) -> None:
    """What the first one may have done was under another key: a refusal of the second's is certain."""
    airport.service.tell("ask", LATER)
    airport.service.tell("mayor", REFUSED)
    instance = airport.fly("""
id: refused-backup
steps:
  - id: ask
    service: keyed.ask
    timeout: 1h
    onTimeout: escalate
    retry: {max: 3, backoff: 10ms}
    escalate: {to: blind.mayor}
""")
    airport.step_is(instance, "ask", "WAITING")
    late(airport, 1)
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert len(airport.service.calls("mayor")) == 2


def test_a_deadline_passes_for_a_suspended_instance_too_but_nobody_is_told_before_it_is_resumed(
    airport: Airport,
) -> None:
    instance = waiting(airport, "suspended-deadline", "onTimeout: escalate")
    token = airport.token("ask")
    airport.order(engine.suspend, instance)
    late(airport, 48)
    flights.until(lambda: "escalate" in verbs(airport.status(instance), "approval"), "the escalation")
    assert airport.service.calls("deputy") == []
    with pytest.raises(Gone):
        airport.decide(instance, "approval", token=token)
    airport.order(engine.resume, instance)
    airport.decide(instance, "approval", token=airport.token("deputy"))
    assert airport.ended(instance)["status"] == "COMPLETED"


def test_a_retry_of_the_instance_asks_the_first_one_again_and_not_the_backup(airport: Airport) -> None:
    instance = waiting(airport, "asks-first-again", "onTimeout: escalate")
    late(airport, 48)
    airport.service.came("deputy")
    airport.step_is(instance, "approval", "WAITING")
    airport.decide(instance, "approval", token=airport.token("deputy"), decision="rejected")
    airport.ended(instance)
    airport.order(engine.retry, instance)
    [_, again] = airport.service.came("ask", 2)
    assert again.key == f"{instance}:approval:g3:do"
    shown = airport.step_is(instance, "approval", "WAITING")
    assert (shown["escalated"], shown["decision"]) == (False, None)
    airport.decide(instance, "approval", token=airport.token("ask", 2))
    assert flights.reached(airport.system, instance, "COMPLETED")


def test_a_step_that_times_out_while_its_call_is_lost_is_settled_by_the_key(airport: Airport) -> None:
    """The budget is renewed; the repeat finds in the ledger that it was done."""
    airport.service.tell("work", LOST_AFTER)
    instance = airport.fly("""
id: lost-and-late
steps: [{id: work, service: keyed.work, timeout: 1h, onTimeout: retry, retry: {max: 1, backoff: 2h, cap: 2h, jitter: false}}]
""")
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert airport.service.done(instance) == ["work:g1:do"]
    assert len(airport.service.calls("work")) == 2


def test_every_token_of_a_generation_is_the_same(airport: Airport) -> None:
    tokens: list[str] = []

    def note(seen: Seen) -> None:
        tokens.append(seen.body["callbackUrl"])

    airport.service.tell("work", Answer(status=503, then=note), Answer(status=500, then=note), Answer(then=note))
    instance = airport.fly("id: same-tokens\nsteps: [{id: work, service: keyed.work, retry: {max: 3, backoff: 10ms}}]")
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert len(tokens) == 3
    assert len(set(tokens)) == 1
