"""Sub-workflows: a child for each generation of its step, undone with its parent, and neither ever forgotten."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from orchestrator import children, engine, kinship, sweep
from orchestrator.errors import Conflict, Invalid, NotFound
from orchestrator.store import family
from orchestrator.store.statements import NEWS, READY_CHANNEL
from tests import flights
from tests.services import REJECTED, WAITERS, Airport, Answer

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

SITE = """
id: site
input: {type: object, required: [plot]}
steps:
  - {id: visit, service: keyed.visit, compensate: keyed.unvisit}
  - {id: report, service: far.report}
"""
PERMIT = """
id: permit
steps:
  - {id: pay, service: keyed.pay, compensate: keyed.refund}
  - {id: inspection, workflow: site, input: {plot: "${payload.plot}"}}
  - {id: grant, service: keyed.grant, input: "${steps.inspection.result.report}"}
"""


def child_of(airport: Airport, instance: str) -> str:
    rows = flights.until(
        lambda: airport.query(
            "SELECT id FROM instance WHERE parent_id = CAST(:id AS uuid) ORDER BY id DESC", id=instance
        ),
        "a child",
    )
    found: str = rows[0][0].hex
    return found


def fly(airport: Airport, permit: str = PERMIT, **payload: Any) -> str:
    airport.define(SITE)
    return airport.fly(permit, {"plot": "P7", **payload})


def test_a_child_runs_with_its_own_payload_and_its_results_come_back(airport: Airport) -> None:
    airport.service.tell("report", Answer(reply={"result": {"passed": True}}))
    instance = fly(airport)
    assert airport.ended(instance)["status"] == "COMPLETED"
    child = child_of(airport, instance)
    assert airport.status(child)["payload"] == {"plot": "P7"}
    assert airport.service.done(child) == ["visit:g1:do", "report:g1:do"]
    assert airport.service.done(instance) == ["pay:g1:do", "grant:g1:do"]
    assert airport.service.calls("grant", instance)[0].body["input"] == {"passed": True}


def test_when_a_child_fails_it_has_undone_itself_and_its_parent_undoes_the_rest(airport: Airport) -> None:
    airport.service.tell("report", REJECTED)
    instance = fly(airport)
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("COMPENSATED", "child")
    child = child_of(airport, instance)
    assert airport.status(child)["status"] == "COMPENSATED"
    assert airport.service.done(child) == ["visit:g1:do", "visit:g1:undo"]
    assert airport.service.done(instance) == ["pay:g1:do", "pay:g1:undo"]
    error = next(one["error"] for one in shown["steps"] if one["step"] == "inspection")
    assert "site is COMPENSATED: report: HTTP 422" in error


def test_a_completed_child_is_undone_before_what_its_parent_did_before_it(airport: Airport) -> None:
    airport.service.tell("grant", REJECTED)
    instance = fly(airport)
    shown = airport.ended(instance)
    assert shown["status"] == "COMPENSATED"
    child = child_of(airport, instance)
    assert airport.status(child)["status"] == "COMPENSATED"
    assert [one["step"] for one in shown["compensations"]] == ["inspection", "pay"]
    effects = [key.split(":", 1)[1] for key in airport.service.effects if key.endswith("undo")]
    assert effects == ["visit:g1:undo", "pay:g1:undo"]


def test_a_cancelled_parent_cancels_its_child_and_waits_for_its_undo(airport: Airport) -> None:
    held = airport.service.hold("report")
    instance = fly(airport)
    child = child_of(airport, instance)
    airport.step_is(child, "report", "RUNNING")
    airport.order(engine.cancel, instance)
    airport.reached(child, "COMPENSATING")
    assert airport.status(instance)["status"] == "COMPENSATING"
    assert not airport.service.calls("refund", instance)
    held.set()
    assert airport.ended(instance)["status"] == "CANCELLED"
    assert airport.status(child)["status"] == "CANCELLED"
    effects = [key.split(":", 1)[1] for key in airport.service.effects if key.endswith("undo")]
    assert effects == ["visit:g1:undo", "pay:g1:undo"]


def test_a_parent_that_tolerates_it_goes_on_after_its_childs_failure(airport: Airport) -> None:
    airport.service.tell("visit", REJECTED)
    tolerant = """
id: tolerant-permit
steps:
  - {id: inspection, workflow: site, onError: continue}
  - {id: note, service: keyed.note, input: "${steps.inspection.status}"}
"""
    instance = fly(airport, tolerant)
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert airport.service.calls("note", instance)[0].body["input"] == "FAILED"


def test_a_child_is_retried_by_its_parent_which_starts_another(airport: Airport) -> None:
    airport.service.tell("report", REJECTED)
    instance = fly(airport)
    airport.ended(instance)
    first = child_of(airport, instance)
    with pytest.raises(Conflict, match="retry"):
        airport.order(engine.retry, first)
    airport.order(engine.retry, instance)
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert child_of(airport, instance) != first
    assert airport.service.done(instance) == ["pay:g1:do", "pay:g1:undo", "pay:g2:do", "grant:g1:do"]


def test_a_step_that_finds_its_child_ended_is_told_of_it_again(airport: Airport) -> None:
    """A lost leg had started it, and the step failed before it was told; a later life keeps the generation of what is in
    doubt."""
    airport.service.tell("report", REJECTED)
    instance = fly(airport)
    airport.ended(instance)
    airport.query(
        "UPDATE step SET uncertain = true, reason = 'expression' WHERE instance_id = CAST(:id AS uuid)"
        " AND step = 'inspection' RETURNING 1", id=instance,
    )  # fmt: skip
    airport.order(engine.retry, instance)
    airport.step_is(instance, "inspection", "FAILED")
    assert airport.ended(instance)["status"] == "COMPENSATED"


def test_a_workflow_that_would_come_to_contain_itself_is_refused(airport: Airport) -> None:
    airport.define("id: outer\nsteps: [ {id: go, workflow: inner} ]")
    with pytest.raises(Invalid, match="inner → outer → inner"):
        airport.define("id: inner\nsteps: [ {id: back, workflow: outer} ]")


@pytest.mark.parametrize(("wanted", "told"), [("nowhere", "there is no workflow 'nowhere'"), ("site", "plot")])
def test_a_child_that_cannot_be_had_fails_its_step_and_says_why(airport: Airport, wanted: str, told: str) -> None:
    airport.define(SITE)
    instance = airport.fly(f"id: asks-{wanted}\nsteps: [ {{id: sub, workflow: {wanted}, input: {{}}}} ]")
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("FAILED", "rejected")
    assert told in shown["steps"][0]["error"]


def test_a_cycle_that_was_stored_behind_our_back_ends_with_the_child_that_would_close_it(airport: Airport) -> None:
    airport.define("id: behind\nsteps: [ {id: go, workflow: ahead} ]")
    airport.define("id: ahead\nsteps: [ {id: only, service: keyed.only} ]")
    airport.query(
        "UPDATE definition_version SET text = :text WHERE workflow_id = 'ahead' RETURNING 1",
        text="id: ahead\nsteps: [ {id: back, workflow: behind} ]",
    )
    instance = airport.start("behind")
    assert airport.ended(instance)["status"] == "FAILED"
    child = airport.status(child_of(airport, instance))
    assert "behind → ahead → behind" in child["steps"][0]["error"]


def test_children_in_a_loop_run_side_by_side_and_come_back_in_order(airport: Airport) -> None:
    airport.define(SITE)
    airport.service.always("report", Answer(reply={"result": "seen"}))
    instance = airport.fly("""
id: street
steps:
  - id: plots
    forEach: payload.plots
    as: plot
    steps: [ {id: inspect, workflow: site, input: {plot: "${plot}"}} ]
  - {id: sum, service: keyed.sum, input: "${steps.inspect.map(one, one.result.report)}"}
""", {"plots": ["a", "b", "c"]})  # fmt: skip
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert airport.service.calls("sum", instance)[0].body["input"] == ["seen"] * 3


def test_a_grandchild_is_undone_through_its_parent(airport: Airport) -> None:
    airport.define(SITE)
    airport.define("id: district\nsteps: [ {id: site, workflow: site} ]")
    airport.service.tell("stamp", REJECTED)
    instance = airport.fly("id: city\nsteps: [ {id: district, workflow: district}, {id: stamp, service: keyed.stamp} ]",
                           {"plot": 1})  # fmt: skip
    assert airport.ended(instance)["status"] == "COMPENSATED"
    roots = airport.query("SELECT DISTINCT root_id FROM instance WHERE root_id = CAST(:id AS uuid)", id=instance)
    assert len(roots) == 1
    family = airport.query("SELECT status FROM instance WHERE root_id = CAST(:id AS uuid)", id=instance)
    assert [row[0] for row in family] == ["COMPENSATED", "COMPENSATED"]


# -- without a worker: every crash between two transactions


LONELY = "id: lonely\nsteps: [ {id: sub, workflow: site}, {id: last, service: keyed.last} ]"


def started(tower: Airport) -> tuple[str, str]:
    """A parent whose leg has started the child and then died."""
    tower.define(SITE)
    instance = tower.fly(LONELY, {"plot": 1})
    attempt = tower.claim(instance, "sub")
    assert attempt is not None
    child = children.start(tower.system, attempt, "site", {"plot": 1})
    assert isinstance(child, str)
    return instance, child


def test_an_attempt_that_is_made_again_finds_the_child_that_the_first_has_started(tower: Airport) -> None:
    instance, child = started(tower)
    tower.clock.advance(60)
    sweep.sweep(tower.system)
    tower.run(instance, "sub")
    tower.step_is(instance, "sub", "WAITING")
    assert tower.query("SELECT id FROM instance WHERE parent_id = CAST(:id AS uuid)", id=instance)[0][0].hex == child


def test_a_child_that_ends_before_its_parent_has_parked_is_heard(tower: Airport) -> None:
    instance, child = started(tower)
    for step in ("visit", "report"):
        tower.run(child, step)
    assert children.carry(tower.system) == 1
    tower.step_is(instance, "sub", "SUCCEEDED")
    assert children.carry(tower.system) == 0


def test_an_end_that_was_told_but_not_noted_is_told_again_without_harm(tower: Airport) -> None:
    instance, child = started(tower)
    for step in ("visit", "report"):
        tower.run(child, step)
    children.carry(tower.system)
    tower.query("UPDATE instance SET parent_told = false WHERE id = CAST(:id AS uuid) RETURNING 1", id=child)
    before = len(tower.status(instance)["history"])
    assert children.carry(tower.system) == 1
    assert len(tower.status(instance)["history"]) == before


def test_a_parent_that_falls_while_its_leg_is_lost_finds_and_cancels_the_child(tower: Airport) -> None:
    instance, child = started(tower)
    tower.clock.advance(60)
    sweep.sweep(tower.system)
    assert (tower.step(instance, "sub") or {})["status"] == "RETRYING"
    tower.order(engine.cancel, instance)
    assert tower.status(instance)["status"] == "COMPENSATING", "there may be a child"
    tower.run(instance, "sub")
    children.carry(tower.system)
    assert tower.status(child)["status"] == "CANCELLED"
    children.carry(tower.system)
    assert tower.status(instance)["status"] == "CANCELLED"


def test_a_parent_that_falls_before_its_lost_leg_has_started_a_child_starts_none(tower: Airport) -> None:
    tower.define(SITE)
    instance = tower.fly(LONELY, {"plot": 1})
    tower.claim(instance, "sub")
    tower.clock.advance(60)
    sweep.sweep(tower.system)
    tower.order(engine.cancel, instance)
    tower.run(instance, "sub")
    assert tower.status(instance)["status"] == "CANCELLED"
    assert not tower.query("SELECT 1 FROM instance WHERE parent_id = CAST(:id AS uuid)", id=instance)


def test_a_second_order_to_undo_a_child_that_has_been_undone_is_answered_all_the_same(tower: Airport) -> None:
    instance, child = started(tower)
    for step in ("visit", "report"):
        tower.run(child, step)
    children.carry(tower.system)
    tower.order(engine.cancel, instance)
    attempt = tower.claim(instance, "sub", "undo")
    assert attempt is not None
    assert children.recall(tower.system, attempt)
    tower.run(child, "visit", "undo")
    assert tower.status(child)["status"] == "COMPENSATED"
    children.carry(tower.system)
    assert tower.status(instance)["status"] == "CANCELLED"


def test_no_child_is_started_while_its_parent_is_falling(tower: Airport) -> None:
    tower.define(SITE)
    instance = tower.fly(LONELY, {"plot": 1})
    attempt = tower.claim(instance, "sub")
    assert attempt is not None
    with psycopg.connect(tower.clock.url) as falling, ThreadPoolExecutor(1) as pool:
        falling.execute("UPDATE instance SET outcome = 'cancelled' WHERE id = %s", [instance])
        late = pool.submit(children.start, tower.system, attempt, "site", {"plot": 1})
        flights.until(lambda: tower.query(WAITERS)[0][0], "somebody who waits for the lock")
        falling.commit()
        assert late.result() is None
    assert not tower.query("SELECT 1 FROM instance WHERE parent_id = CAST(:id AS uuid)", id=instance)


def test_a_note_of_an_end_is_not_taken_for_one_of_a_later_end(tower: Airport) -> None:
    instance, child = started(tower)
    for step in ("visit", "report"):
        tower.run(child, step)
    with tower.system.database.transaction() as connection:
        (end,) = family.untold(connection, 10)
    tower.clock.advance(1)
    tower.change(child, kinship.recall)
    tower.run(child, "visit", "undo")
    with tower.system.database.transaction() as connection:
        family.told(connection, end)
        assert [one.status for one in family.untold(connection, 10)] == ["COMPENSATED"]
    assert instance


def test_the_results_of_a_child_are_those_of_its_steps_outside_loops(tower: Airport) -> None:
    tower.define("""
id: looping
steps:
  - {id: each, forEach: "[1]", steps: [ {id: inside, service: keyed.inside} ]}
  - {id: after, service: keyed.after}
""")
    instance = tower.fly("id: asks\nsteps: [ {id: sub, workflow: looping} ]")
    tower.run(instance, "sub")
    child = tower.query("SELECT id FROM instance WHERE parent_id = CAST(:id AS uuid)", id=instance)[0][0].hex
    for step in ("each", "inside[0]", "after"):
        tower.run(child, step)
    children.carry(tower.system)
    shown = tower.step(instance, "sub")
    assert shown is not None
    assert shown["result"] == {"after": {}}


@pytest.mark.parametrize("what", ["the end of a child", "the fall of a parent"])
def test_news_wake_the_dispatcher(tower: Airport, what: str) -> None:
    instance, child = started(tower)
    with tower.system.database.listen(READY_CHANNEL) as connection:
        if what == "the end of a child":
            for step in ("visit", "report"):
                tower.run(child, step)
        else:
            tower.order(engine.cancel, instance)
        assert NEWS in {told.payload for told in connection.notifies(timeout=1)}


def test_only_a_step_that_awaits_a_decision_can_be_decided(tower: Airport) -> None:
    instance, _ = started(tower)
    tower.clock.advance(60)
    sweep.sweep(tower.system)
    tower.run(instance, "sub")
    with pytest.raises(NotFound, match="sub awaits no decision"):
        tower.decide(instance, "sub", decision="approved")


def unreadable(tower: Airport, workflow: str) -> None:
    tower.query("UPDATE definition_version SET text = 'id: bad' WHERE workflow_id = :id RETURNING 1", id=workflow)
    tower.system.plans.forget()


@pytest.mark.parametrize("bad", ["bad-parent", "site"])
def test_news_that_cannot_be_carried_hold_up_nobody_elses(tower: Airport, bad: str) -> None:
    tower.define(SITE)
    tower.define(SITE.replace("id: site", "id: other"))
    families = []
    for name, child in (("bad-parent", "site"), ("good-parent", "other")):
        instance = tower.fly(f"id: {name}\nsteps: [ {{id: sub, workflow: {child}}} ]", {"plot": 1})
        tower.run(instance, "sub")
        families.append((instance, child_of(tower, instance)))
    for _, child in families:
        for step in ("visit", "report"):
            tower.run(child, step)
    unreadable(tower, bad)
    assert children.carry(tower.system) == (1 if bad == "bad-parent" else 2)
    assert (tower.step(families[1][0], "sub") or {})["status"] == "SUCCEEDED"


def test_an_order_to_a_child_that_cannot_be_read_is_given_again_and_shown(tower: Airport) -> None:
    instance, child = started(tower)
    for step in ("visit", "report"):
        tower.run(child, step)
    children.carry(tower.system)
    tower.order(engine.cancel, instance)
    unreadable(tower, "site")
    tower.run(instance, "sub", "undo")
    ((state, error),) = tower.query(
        "SELECT state, error FROM step WHERE instance_id = CAST(:id AS uuid) AND phase = 'undo'", id=instance
    )
    assert state == "RETRYING"
    assert "`steps` is missing" in error


def test_a_child_that_was_suspended_when_it_completed_is_undone_all_the_same(tower: Airport) -> None:
    instance, child = started(tower)
    tower.run(child, "visit")
    suspended: list[str] = []
    tower.service.tell("report", Answer(then=lambda _: suspended.append(tower.order(engine.suspend, child))))
    tower.run(child, "report")
    assert tower.status(child)["status"] == "COMPLETED"
    children.carry(tower.system)
    tower.order(engine.cancel, instance)
    tower.run(instance, "sub", "undo")
    assert tower.status(child)["status"] == "COMPENSATING"


@pytest.mark.parametrize("verdict", ["succeeded", "failed"])
def test_a_quarantined_step_that_has_a_child_is_only_tried_again(tower: Airport, verdict: str) -> None:
    instance, child = started(tower)
    for _ in range(3):
        tower.clock.advance(120)
        sweep.sweep(tower.system)
        tower.claim(instance, "sub")
    tower.clock.advance(120)
    with pytest.raises(Conflict, match="whose end decides"):
        tower.order(engine.resolve, instance, step="sub", verdict=verdict)
    tower.order(engine.resolve, instance, step="sub", verdict="retry")
    tower.run(instance, "sub")
    assert (tower.step(instance, "sub") or {})["result"] == {"instanceId": child}
