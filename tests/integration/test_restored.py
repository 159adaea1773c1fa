"""After a restore to an earlier point nothing is repeated that may have been done since; the service's ledger judges."""

from __future__ import annotations

import pytest

from orchestrator import children, engine, restoring
from orchestrator.errors import Conflict
from orchestrator.sweep import sweep
from tests.services import REJECTED, Airport, states_of, verbs

pytestmark = pytest.mark.integration


def restored(tower: Airport, steps: str) -> str:
    """An instance whose first step is READY, in a database that was restored to just now."""
    instance = tower.fly(f"id: restored\nsteps: [{steps}]")
    assert restoring.doubt_open_instances(tower.system).instances == 1
    return instance


LOST_OVER = 66.0  # seconds after the restore: then no call of before is in flight any more, on any of the lanes


def asked(tower: Airport) -> list[tuple[str, str]]:
    return [(one.method, one.operation) for one in tower.service.seen]


def test_a_step_on_a_key_lane_is_repeated_with_the_same_key(tower: Airport) -> None:
    instance = restored(tower, "{id: a, service: keyed.a}")
    tower.run(instance, "a")
    assert tower.status(instance)["status"] == "COMPLETED"
    assert [one.key for one in tower.service.calls("a")] == [f"{instance}:a:g1:do"]


@pytest.mark.parametrize(("passed", "state"), [(20, "SUCCEEDED"), (61, "UNKNOWN")])
def test_a_key_is_as_old_as_what_the_backup_knows(tower: Airport, passed: int, state: str) -> None:
    """The lane remembers it for 60 seconds, and a call is over 35 seconds after its claim."""
    instance = restored(tower, "{id: a, service: brief.a}")
    tower.clock.advance(passed)
    tower.run(instance, "a")
    assert states_of(tower.status(instance))["a"] == state
    assert len(tower.service.calls("a")) == (state == "SUCCEEDED")


def test_a_query_lane_is_asked_first(tower: Airport) -> None:
    instance = restored(tower, "{id: a, service: asked.a}, {id: b, service: asked.b}")
    tower.clock.advance(LOST_OVER)
    tower.run(instance, "a")
    assert asked(tower) == [("GET", "a"), ("POST", "a"), ("GET", "b"), ("POST", "b")]
    assert tower.status(instance)["status"] == "COMPLETED"


def test_what_can_neither_be_repeated_nor_asked_for_is_settled_by_a_person(tower: Airport) -> None:
    instance = restored(tower, "{id: a, service: blind.a}, {id: b, service: blind.b}")
    tower.run(instance, "a")
    shown = tower.status(instance)
    assert (shown["status"], shown["reason"], tower.service.seen) == ("STUCK", "uncertain", [])
    assert "restored" in shown["steps"][0]["error"]
    tower.clock.advance(LOST_OVER)
    tower.order(engine.resolve, instance, step="a", verdict="retry")
    tower.run(instance, "a")
    assert tower.service.done(instance) == ["a:g1:do"], "ordered by who knows; the next one is in doubt as well"
    tower.order(engine.resolve, instance, step="b", verdict="succeeded")
    assert tower.status(instance)["status"] == "COMPLETED"


def test_what_has_no_effect_goes_on(tower: Airport) -> None:
    instance = restored(tower, "{id: a, service: safe.a}, {id: b, service: blind.tell, pause: true}")
    tower.run(instance, "a")
    assert states_of(tower.status(instance)) == {"a": "SUCCEEDED", "b": "WAITING"}
    assert asked(tower) == [("POST", "a"), ("POST", "tell")]


def test_what_its_condition_skips_was_not_done_and_is_not_undone(tower: Airport) -> None:
    instance = restored(
        tower, "{id: a, service: blind.a, compensate: keyed.ua, when: 'false'}, {id: b, service: keyed.b, compensate: keyed.ub, when: 'false'}, "
        "{id: c, fail: enough}",
    )  # fmt: skip
    tower.run(instance, "a")
    shown = tower.status(instance)
    assert (shown["status"], tower.service.seen) == ("FAILED", [])
    assert verbs(shown, "a") == ["ready", "claim", "skip"]


def test_a_step_that_was_not_begun_is_undone_when_its_instance_is_cancelled(tower: Airport) -> None:
    instance = restored(tower, "{id: a, service: keyed.a, compensate: keyed.ua}")
    tower.order(engine.cancel, instance)
    tower.clock.advance(LOST_OVER)
    tower.run(instance, "a", "undo")
    assert tower.status(instance)["status"] == "CANCELLED"
    assert asked(tower) == [("POST", "ua")]


def test_a_cancel_awaits_a_persons_word_about_what_only_a_person_can_tell(tower: Airport) -> None:
    instance = restored(tower, "{id: a, service: blind.a, compensate: keyed.ua}")
    tower.order(engine.cancel, instance)
    assert tower.status(instance)["status"] == "STUCK"
    tower.clock.advance(LOST_OVER)
    tower.order(engine.resolve, instance, step="a", verdict="failed")
    assert tower.status(instance)["status"] == "CANCELLED"
    assert tower.service.seen == []


def test_a_sub_workflow_is_not_started_a_second_time_unless_a_person_says_so(tower: Airport) -> None:
    tower.define("id: inner\nsteps: [{id: x, service: keyed.x}]")
    instance = restored(tower, "{id: child, workflow: inner}")
    tower.run(instance, "child")
    assert (tower.status(instance)["status"], tower.query("SELECT count(*) FROM instance")[0][0]) == ("STUCK", 1)
    tower.order(engine.resolve, instance, step="child", verdict="retry")
    tower.run(instance, "child")
    assert tower.query("SELECT count(*) FROM instance")[0][0] == 2


def test_each_new_generation_is_in_doubt_and_what_was_begun_since_is_not(tower: Airport) -> None:
    instance = restored(
        tower, "{id: a, service: blind.a, pause: true, timeout: 1h, onTimeout: escalate, escalate: {to: asked.deputy}}"
    )
    tower.run(instance, "a")
    tower.clock.advance(3601)
    assert sweep(tower.system) == 1
    tower.run(instance, "a")
    assert asked(tower) == [("POST", "a"), ("GET", "deputy"), ("POST", "deputy")]


def test_a_query_lane_is_asked_only_when_what_was_sent_before_the_restore_is_over(tower: Airport) -> None:
    instance = restored(tower, "{id: a, service: asked.a}")
    tower.run(instance, "a")
    assert asked(tower) == []
    tower.clock.advance(LOST_OVER)
    tower.run(instance, "a")
    assert asked(tower) == [("GET", "a"), ("POST", "a")]
    assert verbs(tower.status(instance), "a") == ["ready", "claim", "succeed"]


def test_nothing_is_undone_before_what_was_sent_before_the_restore_is_over(tower: Airport) -> None:
    instance = restored(tower, "{id: a, service: keyed.a, compensate: keyed.ua}")
    tower.order(engine.cancel, instance)
    tower.run(instance, "a", "undo")
    assert asked(tower) == []
    tower.clock.advance(LOST_OVER)
    tower.run(instance, "a", "undo")
    assert asked(tower) == [("POST", "ua")]


def test_a_verdict_waits_until_what_was_sent_before_the_restore_is_over(tower: Airport) -> None:
    instance = restored(tower, "{id: a, service: blind.a, compensate: keyed.ua}")
    tower.order(engine.cancel, instance)
    with pytest.raises(Conflict, match="may still be running"):
        tower.order(engine.resolve, instance, step="a", verdict="failed")
    tower.clock.advance(LOST_OVER)
    tower.order(engine.resolve, instance, step="a", verdict="succeeded")
    tower.run(instance, "a", "undo")
    assert (tower.status(instance)["status"], asked(tower)) == ("CANCELLED", [("POST", "ua")])


@pytest.mark.parametrize("lane", ["asked", "blind"])
def test_what_had_failed_and_is_ordered_again_may_have_been_ordered_again_in_the_time_that_was_lost(
    tower: Airport, lane: str
) -> None:
    tower.service.tell("a", REJECTED)
    instance = tower.fly(f"id: again\nsteps: [{{id: a, service: {lane}.a}}]")
    tower.run(instance, "a")
    assert restoring.doubt_open_instances(tower.system).instances == 0
    tower.clock.advance(LOST_OVER)
    tower.order(engine.retry, instance)
    tower.run(instance, "a")
    assert asked(tower)[1:] == ([("GET", "a"), ("POST", "a")] if lane == "asked" else [])
    assert states_of(tower.status(instance))["a"] == ("SUCCEEDED" if lane == "asked" else "UNKNOWN")


def test_a_number_that_may_have_been_another_in_the_time_that_was_lost_is_for_a_person_to_judge(tower: Airport) -> None:
    tower.service.tell("boom", REJECTED)
    instance = tower.fly("""
id: numbered
steps:
  - {id: a, service: keyed.a, pause: true, timeout: 1h, onTimeout: escalate, compensate: keyed.ua}
  - {id: boom, service: keyed.boom}
""")
    tower.run(instance, "a")
    tower.clock.advance(3601)
    sweep(tower.system)
    tower.run(instance, "a")
    tower.decide(instance, "a", decision="approved")
    restoring.doubt_open_instances(tower.system)
    tower.clock.advance(LOST_OVER)
    tower.run(instance, "boom")
    tower.run(instance, "a", "undo")
    assert tower.service.calls("ua") == [], "an older program would have undone it under g1"
    assert tower.status(instance)["compensations"][0]["state"] == "UNKNOWN"


def test_who_starts_after_the_restore_is_in_no_doubt(tower: Airport) -> None:
    restored(tower, "{id: a, service: blind.a}")
    other = tower.start("restored")
    tower.run(other, "a")
    assert tower.status(other)["status"] == "COMPLETED"


@pytest.mark.parametrize(("lane", "seen"), [("blind", []), ("asked", [("GET", "ux"), ("POST", "ux")])])
def test_what_a_child_that_had_completed_undoes_is_in_doubt_as_well(
    tower: Airport, lane: str, seen: list[tuple[str, str]]
) -> None:
    tower.define(f"id: inner\nsteps: [{{id: x, service: keyed.x, compensate: {lane}.ux}}]")
    root = tower.fly("id: restored\nsteps: [{id: child, workflow: inner}, {id: hold, pause: true}]")
    tower.run(root, "child")
    child = tower.query("SELECT id FROM instance WHERE parent_id IS NOT NULL")[0][0].hex
    tower.run(child, "x")
    children.carry(tower.system)
    assert restoring.doubt_open_instances(tower.system).instances == 1, "the child had ended"
    tower.clock.advance(LOST_OVER)
    tower.order(engine.cancel, root)
    tower.run(root, "child", "undo")
    tower.run(child, "x", "undo")
    assert asked(tower)[1:] == seen
    assert tower.status(child)["status"] == ("STUCK" if lane == "blind" else "COMPENSATED")
