"""What may have been done stays known as such when its instance falls, ends early or lives again meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from orchestrator import calls, children, engine, landed, sweep
from tests.integration.test_children import SITE
from tests.services import LATER, LOST_AFTER, REJECTED, Airport, Answer, Seen, states_of, verbs
from tests.uncertain import onward

pytestmark = [pytest.mark.integration]

LONELY = "id: lonely\nsteps: [ {id: sub, workflow: site}, {id: last, service: keyed.last} ]"
UNDOS = pytest.mark.parametrize("undo", ["", ", compensate: keyed.unpay"], ids=["stands", "undone"])


def state(tower: Airport, instance: str, step: str) -> tuple[str, str]:
    """Of the instance, and of a step of it."""
    shown = tower.status(instance)
    return shown["status"], states_of(shown)[step]


def failing_at_once(tower: Airport) -> Any:
    """As a Celery task that has failed before its lane could say that it was sent."""

    def fail(seen: Seen) -> None:
        token = seen.body["callbackUrl"].partition("token=")[2]
        assert landed.failed(tower.system, "it raised", trace=seen.key.split(":")[0], step="pay", token=token)

    return fail


# -- falls


@UNDOS
def test_what_was_accepted_where_only_a_person_can_tell_is_told_by_one(tower: Airport, undo: str) -> None:
    tower.service.tell("pay", LATER)
    tower.service.tell("bad", REJECTED)
    instance = tower.fly(f"""
id: accepted
steps:
  - {{id: pay, service: blind.pay, parallel: true{undo}}}
  - {{id: bad, service: keyed.bad, parallel: true}}
""")
    tower.run(instance, "pay")
    tower.run(instance, "bad")
    assert state(tower, instance, "pay") == ("STUCK", "UNKNOWN")
    tower.order(engine.resolve, instance, step="pay", verdict="succeeded")
    onward(tower, instance)
    assert tower.service.done(instance)[1:] == (["pay:g1:undo"] if undo else [])


@UNDOS
def test_what_was_ordered_again_and_fell_before_it_was_sent_is_as_unknown_as_before(tower: Airport, undo: str) -> None:
    tower.service.tell("pay", LOST_AFTER)
    instance = tower.fly(f"id: again\nsteps: [ {{id: pay, service: blind.pay{undo}}} ]")
    tower.run(instance, "pay")
    tower.order(engine.resolve, instance, step="pay", verdict="retry")
    tower.order(engine.cancel, instance)
    assert state(tower, instance, "pay") == ("STUCK", "UNKNOWN")


def test_so_is_what_was_handed_back_unsent_after_the_fall(tower: Airport, monkeypatch: pytest.MonkeyPatch) -> None:
    tower.service.tell("pay", LOST_AFTER)
    instance = tower.fly("id: back\nsteps: [ {id: pay, service: blind.pay} ]")
    tower.run(instance, "pay")
    tower.order(engine.resolve, instance, step="pay", verdict="retry")

    def is_lost(*_: object) -> bool:
        tower.order(engine.cancel, instance)
        return False

    monkeypatch.setattr(calls, "_still_holds", is_lost)
    tower.run(instance, "pay")
    assert state(tower, instance, "pay")[1] == "UNKNOWN"


def test_a_failure_that_is_quicker_than_the_word_that_it_was_sent_is_not_lost(tower: Airport) -> None:
    tower.service.tell("pay", Answer(status=202, effect=True, then=failing_at_once(tower)))
    instance = tower.fly("id: fast\nsteps: [{id: pay, service: blind.pay}]")
    tower.run(instance, "pay")
    assert state(tower, instance, "pay") == ("STUCK", "UNKNOWN")


def test_a_failure_that_does_not_say_that_nothing_was_done_is_no_news_of_what_was_ordered_again(tower: Airport) -> None:
    tower.service.tell("pay", LOST_AFTER)
    instance = tower.fly("id: again\nsteps: [ {id: pay, service: blind.pay} ]")
    tower.run(instance, "pay")
    tower.order(engine.resolve, instance, step="pay", verdict="retry")
    assert landed.failed(tower.system, "it raised", trace=instance, step="pay", token=tower.token("pay"))
    assert state(tower, instance, "pay") == ("RUNNING", "READY")
    tower.run(instance, "pay")
    assert tower.status(instance)["status"] == "COMPLETED"


def test_nor_is_that_of_an_undo(tower: Airport) -> None:
    tower.service.tell("unpay", Answer(status=202, then=failing_at_once(tower)))
    instance = tower.fly(
        "id: fast\nsteps: [{id: pay, service: keyed.pay, compensate: blind.unpay}, {id: w, pause: true}]"
    )
    tower.run(instance, "pay")
    tower.order(engine.cancel, instance)
    tower.run(instance, "pay", "undo")
    assert tower.status(instance)["status"] == "STUCK"
    assert verbs(tower.status(instance), "pay", "undo")[-1] == "doubt"


# -- children


def cut_off(tower: Airport, instance: str, begin: Callable[..., object]) -> Callable[..., None]:
    """A start of a child that gets so far; then the instance is cancelled, and the database is away."""

    def start(*args: Any) -> None:
        begin(*args)
        tower.order(engine.cancel, instance)
        raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))

    return start


def test_a_child_whose_start_was_not_confirmed_is_found_and_cancelled(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower.define(SITE)
    instance = tower.fly(LONELY, {"plot": 1})
    start = cut_off(tower, instance, children.start)

    with monkeypatch.context() as patched:
        patched.setattr(children, "start", start)
        tower.run(instance, "sub")
    assert both_end_cancelled(tower, instance)


def test_so_is_one_of_a_lost_attempt_where_the_next_one_lost_the_database(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower.define(SITE)
    instance = tower.fly(LONELY, {"plot": 1})
    attempt = tower.claim(instance, "sub")
    assert attempt is not None
    children.start(tower.system, attempt, "site", {"plot": 1})  # and then its worker is killed
    tower.clock.advance(60)
    sweep.sweep(tower.system)

    with monkeypatch.context() as patched:
        patched.setattr(children, "start", cut_off(tower, instance, lambda *_: None))
        tower.run(instance, "sub")
    assert both_end_cancelled(tower, instance)


def both_end_cancelled(tower: Airport, instance: str) -> bool:
    """Whether a parent that has fallen finds its child, which ends without an effect, before it ends itself."""
    (child,) = (row[0].hex for row in tower.query("SELECT id FROM instance WHERE parent_id = :id", id=instance))
    assert state(tower, instance, "sub")[0] == "COMPENSATING", "it is looked for first"
    tower.clock.advance(5)
    tower.run(instance, "sub")
    for _ in range(3):
        sweep.sweep(tower.system)
    assert tower.service.done(child) == []
    return [tower.status(one)["status"] for one in (instance, child)] == ["CANCELLED", "CANCELLED"]


# -- an early end


def test_a_lane_that_can_be_asked_is_asked_although_the_step_was_handed_back_after_an_end(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower.service.tell("pay", LOST_AFTER)
    instance = tower.fly("""
id: ending
steps:
  - id: both
    branches:
      left: [ {id: pay, service: asked.pay, retry: {max: 3, backoff: 1s, jitter: false}} ]
      right: [ {id: look, service: keyed.look}, {id: stop, end: enough} ]
""")
    tower.run(instance, "pay")
    tower.run(instance, "look")
    tower.clock.advance(2)
    with monkeypatch.context() as patched:
        patched.setattr(calls, "perform", lambda *_: calls.Lost())
        tower.run(instance, "pay")
    onward(tower, instance)
    assert state(tower, instance, "pay") == ("COMPLETED", "SUCCEEDED")


def test_nothing_new_is_sent_after_an_end(tower: Airport) -> None:
    tower.service.tell("pay", LATER)
    instance = tower.fly("""
id: ends
steps:
  - id: both
    branches:
      left:
        - {id: pay, service: keyed.pay, timeout: 10s, onTimeout: escalate, escalate: {to: keyed.deputy, timeout: 1h}}
      right: [ {id: look, service: keyed.look}, {id: stop, end: enough} ]
""")
    tower.run(instance, "pay")
    tower.clock.advance(11)
    sweep.sweep(tower.system)
    tower.run(instance, "look")
    onward(tower, instance)
    assert tower.status(instance)["status"] == "COMPLETED"
    assert tower.service.calls("deputy") == []


# -- a second life


def test_a_failure_that_may_have_been_done_keeps_its_key(tower: Airport) -> None:
    tower.service.tell("pay", Answer(status=202, effect=True))
    instance = tower.fly("id: late\nsteps: [{id: pay, service: keyed.pay}]")
    tower.run(instance, "pay")
    assert landed.failed(tower.system, "its worker died", trace=instance, step="pay", token=tower.token("pay"))
    assert tower.status(instance)["status"] == "FAILED"
    tower.order(engine.retry, instance)
    onward(tower, instance)
    assert tower.status(instance)["status"] == "COMPLETED"
    assert tower.service.done(instance) == ["pay:g1:do"]


@pytest.mark.parametrize(
    ("named", "keys"),
    [("steps.reserve.result", {"g1": "R1", "g2": "R2"}), ("payload", {"g1": {}})],
    ids=["another-input", "the-same"],
)
def test_no_key_is_sent_with_two_bodies(tower: Airport, named: str, keys: dict[str, Any]) -> None:
    tower.service.tell("reserve", Answer(reply={"result": "R1"}), Answer(reply={"result": "R2"}))
    tower.service.tell("invoice", Answer(status=504, effect=True, reply={"result": "invoiced"}))
    instance = tower.fly(f"""
id: lives
steps:
  - {{id: reserve, service: keyed.reserve, compensate: keyed.unreserve}}
  - {{id: invoice, service: keyed.invoice, retry: {{max: 0}}, input: {{what: "${{{named}}}"}}}}
""")
    onward(tower, instance)
    assert tower.status(instance)["status"] == "COMPENSATED"
    tower.order(engine.retry, instance)
    onward(tower, instance)
    assert tower.status(instance)["status"] == "COMPLETED"
    sent = [(one.key.split(":")[2], json.loads(one.content)["input"]["what"]) for one in tower.service.calls("invoice")]
    assert dict(sent) == keys
    assert all(what == keys[number] for number, what in sent)
