"""Who settles what is UNKNOWN, what a second life does again, and what waits for an uncertain sibling."""

from __future__ import annotations

import json
import re

import pytest

from orchestrator import cli, engine
from orchestrator.api.app import create_app
from orchestrator.errors import Conflict, OrchestratorError
from tests.services import LOST_AFTER, LOST_BEFORE, REJECTED, Airport, Answer, is_gapless, order_of, states_of
from tests.uncertain import REGISTERED, Late, onward

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

YEAR = 365 * 86_400.0
LIMIT_OVER = 40.0

BLIND = """
id: blind
steps:
  - {id: before, service: sure.before, compensate: sure.unbefore}
  - {id: work, service: blind.work, timeout: 10m, onTimeout: retry, compensate: sure.unwork}
"""
SLOW = "id: slow\nsteps: [{id: work, service: slow.work, compensate: sure.unwork}]"
SEQUENCE = """
id: sequence
steps:
  - {id: first, service: sure.first, compensate: sure.unfirst}
  - {id: work, service: LANE.work, retry: {max: 0}, compensate: sure.unwork}
  - {id: last, service: sure.last, retry: {max: 0}, compensate: sure.unlast}
"""


@pytest.fixture(scope="module")
def registered() -> str:
    return REGISTERED


def flown(tower: Airport, text: str, *answers: Answer) -> str:
    tower.service.tell("work", *answers)
    instance = tower.fly(text)
    onward(tower, instance)
    return instance


def stuck(tower: Airport, text: str = BLIND) -> str:
    """`work` has been done, and nobody knows."""
    instance = flown(tower, text, LOST_AFTER)
    assert (tower.status(instance)["status"], tower.status(instance)["reason"]) == ("STUCK", "uncertain")
    return instance


def resolve(tower: Airport, instance: str, verdict: str) -> None:
    tower.order(engine.resolve, instance, step="work", verdict=verdict)
    onward(tower, instance)


# -- shown


def test_it_is_on_the_list_of_what_is_stuck_and_on_the_pages(
    tower: Airport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    instance = stuck(tower)
    settings = tower.system.settings
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", settings.broker_url or "")
    monkeypatch.setenv("ORCHESTRATOR_SERVICES_FILE", settings.services_file)
    assert cli.invoke(["list", "--stuck", "--json"]) == 0
    [listed] = json.loads(capsys.readouterr().out)
    assert (listed["instanceId"], listed["status"], listed["reason"]) == (instance, "STUCK", "uncertain")
    assert cli.invoke(["status", instance]) == 0
    assert "UNKNOWN" in capsys.readouterr().out
    client = create_app(tower.system).test_client()
    page = client.get(f"/ui/instances/{instance}").get_data(as_text=True)
    assert re.search(r"unknown", page, re.IGNORECASE)
    assert "connection was lost" in page, "the evidence"
    assert instance in client.get("/ui/instances?status=STUCK").get_data(as_text=True)


# -- settled


def test_no_sweep_no_message_and_no_time_settles_it(tower: Airport) -> None:
    instance = stuck(tower)
    before = tower.status(instance)["history"]
    for _ in range(4):
        tower.clock.advance(YEAR)
        onward(tower, instance)
        tower.run(instance, "work")  # a message that is delivered again
    assert tower.status(instance)["history"] == before
    assert len(tower.service.calls("work")) == 1


def test_a_deadline_makes_its_instance_fall_and_nothing_is_undone_until_it_is_settled(tower: Airport) -> None:
    instance = stuck(tower, BLIND.replace("steps:", "deadline: 30d\nsteps:"))
    tower.clock.advance(YEAR)
    onward(tower, instance)
    shown = tower.status(instance)
    assert (shown["status"], states_of(shown)["work"]) == ("STUCK", "UNKNOWN")
    assert tower.service.done(instance) == ["before:g1:do", "work:g1:do"]
    resolve(tower, instance, "succeeded")
    shown = tower.status(instance)
    assert (shown["status"], shown["reason"]) == ("COMPENSATED", "deadline")
    assert tower.service.done(instance)[2:] == ["work:g1:undo", "before:g1:undo"]


def test_the_service_itself_may_settle_it_by_a_callback_with_its_token_and_nobody_without(tower: Airport) -> None:
    instance = stuck(tower)
    token = tower.token("work")
    with pytest.raises(OrchestratorError):
        tower.decide(instance, "work", token=token[:-4] + "AAAA")
    with pytest.raises(Conflict):
        tower.decide(instance, "work", token=None)  # a person says it by `resolve`
    assert tower.status(instance)["status"] == "STUCK"
    tower.decide(instance, "work", token=token, result={"id": 8})
    onward(tower, instance)
    assert tower.status(instance)["status"] == "COMPLETED"
    assert tower.service.done(instance) == ["before:g1:do", "work:g1:do"]


@pytest.mark.parametrize(("verdict", "end"), [("failed", "FAILED"), ("succeeded", "COMPLETED")])
def test_a_verdict_waits_for_the_lost_attempt_and_what_that_says_later_changes_nothing(
    tower: Airport, verdict: str, end: str
) -> None:
    instance = tower.fly(SLOW)
    late = Late(tower, instance)
    late.lose()
    try:
        assert tower.status(instance)["status"] == "STUCK"
        with pytest.raises(Conflict, match="may still be running"):
            resolve(tower, instance, verdict)
        tower.clock.advance(LIMIT_OVER)
        resolve(tower, instance, verdict)
        before = tower.status(instance)
        assert before["status"] == end
    finally:
        late.answer()
    assert tower.status(instance) == before


# -- a second life


@pytest.mark.parametrize("lane", ["sure", "asked", "blind"])
def test_the_retry_of_what_is_unknown_or_undecided_keeps_its_key(tower: Airport, lane: str) -> None:
    """Ordered again after a person has found that it was not done."""
    instance = flown(tower, BLIND.replace("blind.work", f"{lane}.work"), LOST_BEFORE)
    if lane == "blind":
        resolve(tower, instance, "retry")
    assert tower.status(instance)["status"] == "COMPLETED"
    assert {one.key for one in tower.service.calls("work")} == {f"{instance}:work:g1:do"}
    assert tower.service.done(instance) == ["before:g1:do", "work:g1:do"]


@pytest.mark.parametrize("lane", ["sure", "asked", "blind"])
def test_a_retry_after_a_definite_failure_makes_a_new_effect_of_what_failed_only(tower: Airport, lane: str) -> None:
    """There is nothing to undo, so what stands stands."""
    text = SEQUENCE.replace("LANE", lane).replace(", compensate: sure.unfirst", "")
    instance = flown(tower, text, REJECTED)
    assert tower.status(instance)["status"] == "FAILED"
    tower.order(engine.retry, instance)
    onward(tower, instance)
    assert tower.status(instance)["status"] == "COMPLETED"
    assert tower.service.done(instance) == ["first:g1:do", "work:g2:do", "last:g1:do"]
    assert tower.service.doubles() == {}


@pytest.mark.parametrize("lane", ["sure", "asked", "safe", "blind"])
def test_a_retry_after_an_undo_makes_every_effect_anew(tower: Airport, lane: str) -> None:
    tower.service.tell("last", REJECTED)
    instance = flown(tower, SEQUENCE.replace("LANE", lane))
    assert tower.status(instance)["status"] == "COMPENSATED"
    tower.order(engine.retry, instance)
    onward(tower, instance)
    shown = tower.status(instance)
    assert shown["status"] == "COMPLETED"
    assert tower.service.done(instance) == [
        "first:g1:do", "work:g1:do", "work:g1:undo", "first:g1:undo",
        "first:g2:do", "work:g2:do", "last:g2:do",
    ]  # fmt: skip
    assert is_gapless(shown)


def test_a_retry_after_it_was_undone_as_if_done_is_a_new_effect_and_undone_by_a_new_key(tower: Airport) -> None:
    """The first was uncertain until the end, and undone; in its second life it is done, and then undone once more."""
    instance = flown(tower, SEQUENCE.replace("LANE", "sure"), LOST_AFTER)
    assert (tower.status(instance)["status"], tower.status(instance)["reason"]) == ("COMPENSATED", "uncertain")
    tower.service.tell("last", REJECTED)
    tower.order(engine.retry, instance)
    onward(tower, instance)
    assert tower.status(instance)["status"] == "COMPENSATED"
    assert tower.service.done(instance) == [
        "first:g1:do", "work:g1:do", "work:g1:undo", "first:g1:undo",
        "first:g2:do", "work:g2:do", "work:g2:undo", "first:g2:undo",
    ]  # fmt: skip
    assert tower.service.doubles() == {}


def test_an_undo_whose_outcome_is_unknown_is_ordered_again_with_its_own_key(tower: Airport) -> None:
    text = SEQUENCE.replace("LANE", "sure").replace("sure.unwork", "blind.unwork")
    tower.service.tell("last", REJECTED)
    tower.service.tell("unwork", LOST_BEFORE)
    instance = flown(tower, text)
    assert tower.status(instance)["status"] == "STUCK"
    assert tower.service.calls("unfirst") == [], "none is skipped"
    resolve(tower, instance, "retry")
    assert tower.status(instance)["status"] == "COMPENSATED"
    assert tower.service.done(instance)[2:] == ["work:g1:undo", "first:g1:undo"]


# -- siblings


SIBLINGS = """
id: siblings
steps:
  - {id: reserve, service: sure.reserve, compensate: sure.unreserve}
  - {id: work, service: LANE.work, parallel: true, compensate: sure.unwork}
  - {id: check, service: sure.check, parallel: true, retry: {max: 0}}
"""


@pytest.mark.parametrize("verdict", ["succeeded", "failed"])
def test_a_failure_beside_what_is_unknown_undoes_nothing_until_that_is_settled(tower: Airport, verdict: str) -> None:
    tower.service.tell("check", REJECTED)
    instance = flown(tower, SIBLINGS.replace("LANE", "blind"), LOST_AFTER)
    shown = tower.status(instance)
    assert (shown["status"], states_of(shown)["work"], states_of(shown)["check"]) == ("STUCK", "UNKNOWN", "FAILED")
    tower.clock.advance(YEAR)
    onward(tower, instance)
    assert order_of(tower.status(instance), "claim", "undo") == []
    resolve(tower, instance, verdict)
    undone = ["work:g1:undo", "reserve:g1:undo"] if verdict == "succeeded" else ["reserve:g1:undo"]
    assert [one for one in tower.service.done(instance) if one.endswith("undo")] == undone
    assert tower.status(instance)["status"] == "COMPENSATED"


@pytest.mark.parametrize("lane", ["sure", "asked"])
def test_a_payment_that_is_about_to_land_is_refunded_only_when_no_lost_attempt_can_land_any_more(
    tower: Airport, lane: str
) -> None:
    """Its worker is lost in mid-call, and its sibling fails: the undo waits for the lost attempt's limit."""
    instance = tower.fly(SIBLINGS.replace("LANE", lane))
    tower.run(instance, "reserve")
    late = Late(tower, instance)
    late.lose()
    try:
        lost_until = tower.query("SELECT lost_until FROM step WHERE step = 'work' AND phase = 'do'")[0][0]
        tower.service.tell("check", REJECTED)
        tower.run(instance, "check")
        onward(tower, instance)
        shown = tower.status(instance)
        assert shown["status"] == "COMPENSATED"
        claimed = tower.query("SELECT min(time) FROM history WHERE phase = 'undo' AND verb = 'claim'")[0][0]
        assert claimed >= lost_until
    finally:
        late.answer()
    assert tower.service.done(instance)[-2:] == ["work:g1:undo", "reserve:g1:undo"]
    assert tower.status(instance) == shown, "what it says in the end changes nothing"
