"""Lists and orders by filter: what is chosen, what is done about it, and what refuses."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from orchestrator import engine, orders, queries
from orchestrator.errors import BadRequest
from orchestrator.store.filters import Filter
from tests import flights
from tests.services import REFUSED, REJECTED, Airport, holding

pytestmark = pytest.mark.integration

FEE = """
id: fee
businessKey: payload.no
steps:
  - {id: charge, service: keyed.charge, retry: {max: 0}}
"""
LETTER = """
id: letter
steps:
  - {id: write, service: safe.write, retry: {max: 0}}
"""
PAUSE = """
id: pause
steps:
  - {id: decide, pause: true, timeout: 1h, onTimeout: fail}
"""


def listed(airport: Airport, **asked: Any) -> list[str]:
    page = queries.list_instances(airport.system, tenant=flights.TENANT, **asked)
    return [one["instanceId"] for one in page.items]


def ordered(airport: Airport, action: str, *, limit: int = 100, dry_run: bool = False, **asked: Any) -> orders.Outcome:
    return orders.order(airport.system, action, Filter(tenant=flights.TENANT, limit=limit, **asked), dry_run=dry_run)


def failed(airport: Airport, definition: str, step: str, no: str = "P-1") -> str:
    """An instance whose only step was rejected."""
    airport.service.tell(step, REJECTED)
    instance = airport.fly(definition, {"no": no})
    airport.run(instance, step)
    assert airport.status(instance)["status"] == "FAILED"
    return instance


def test_a_lane_chooses_what_failed_or_waits_on_it_and_nothing_else(tower: Airport) -> None:
    fee, letter = failed(tower, FEE, "charge"), failed(tower, LETTER, "write")
    done = tower.fly(FEE, {"no": "P-2"})
    tower.run(done, "charge")
    ready = tower.fly(FEE, {"no": "P-3"})
    assert listed(tower, lane="keyed") == [fee]
    assert listed(tower, lane="safe") == [letter]
    assert listed(tower, lane="key") == []
    tower.service.tell("charge", REFUSED)
    retried = tower.fly(FEE.replace("max: 0", "max: 3, backoff: 1h"), {"no": "P-4"})
    tower.run(retried, "charge")
    assert listed(tower, lane="keyed") == [retried, fee]
    assert ready in listed(tower, workflow_id="fee")


def test_conditions_are_all_to_hold(tower: Airport) -> None:
    first, second = failed(tower, FEE, "charge", "P-1"), failed(tower, FEE, "charge", "P-2")
    assert listed(tower, status="FAILED", lane="keyed", workflow_id="fee") == [second, first]
    assert listed(tower, status="FAILED", business_key="P-1") == [first]
    assert listed(tower, status="COMPLETED", business_key="P-1") == []
    reason = tower.status(first)["reason"]
    assert listed(tower, reason=reason) == [second, first]
    assert listed(tower, reason="condition") == []


def test_since_and_until_are_about_the_last_that_happened(tower: Airport) -> None:
    old, fallen = tower.fly(FEE, {"no": "P-1"}), failed(tower, FEE, "charge", "P-2")
    tower.clock.advance(3600)
    woken = tower.fly(FEE, {"no": "P-3"})
    assert listed(tower, since="30m") == [woken]
    assert listed(tower, until="30m") == [fallen, old]
    tower.order(engine.suspend, old)
    assert listed(tower, since="30m") == [woken, old]
    assert listed(tower, since="2h", until="30m") == [fallen]
    moment = tower.query("SELECT clock_now() - interval '30 minutes'")[0][0]
    assert listed(tower, since=moment.isoformat()) == [woken, old]
    with pytest.raises(BadRequest, match="since: 'yesterday' is neither a moment"):
        listed(tower, since="yesterday")


def test_late_is_what_is_ready_and_was_not_taken(tower: Airport) -> None:
    forgotten, held, waits = tower.fly(FEE, {"no": "P-1"}), tower.fly(FEE, {"no": "P-2"}), tower.fly(PAUSE)
    tower.order(engine.suspend, held)
    tower.run(waits, "decide")
    assert listed(tower, late=True) == []
    tower.clock.advance(120)
    assert listed(tower, late=True) == [forgotten]


@pytest.mark.parametrize("kept", ["published_at = clock_now()", "deferred = 'held'"])
def test_late_is_also_what_a_message_or_a_lane_has_kept_too_long(tower: Airport, kept: str) -> None:
    forgotten = tower.fly(FEE, {"no": "P-1"})
    tower.query(f"UPDATE step SET {kept} WHERE instance_id = '{forgotten}' RETURNING 1")
    tower.clock.advance(120)
    assert listed(tower, late=True) == [forgotten]


def test_stuck_is_what_needs_a_person(tower: Airport) -> None:
    tower.service.tell("send", REFUSED)
    unknown = tower.fly("id: blind\nsteps: [{id: send, service: blind.send}]")
    tower.query("SELECT 1")
    assert listed(tower, stuck=True) == []
    tower.query(f"UPDATE instance SET status = 'STUCK' WHERE id = '{unknown}' RETURNING 1")
    assert listed(tower, stuck=True) == [unknown]


def test_a_dry_run_tells_which_it_would_be_and_changes_nothing(tower: Airport) -> None:
    first, second = failed(tower, FEE, "charge"), failed(tower, FEE, "charge")
    found = ordered(tower, "retry", dry_run=True, lane="keyed")
    assert [one["instanceId"] for one in found.items] == [second, first]
    assert (found.matched, found.refused, found.cursor) == (2, (), None)
    assert tower.status(first)["status"] == "FAILED"


def test_what_a_filter_chooses_is_retried_and_ends_well(tower: Airport) -> None:
    chosen, other = failed(tower, FEE, "charge"), failed(tower, LETTER, "write")
    found = ordered(tower, "retry", lane="keyed", since="2h")
    assert (found.matched, found.done) == (1, 1)
    assert found.items[0]["status"] == "RUNNING"
    tower.run(chosen, "charge")
    assert tower.status(chosen)["status"] == "COMPLETED"
    assert tower.status(other)["status"] == "FAILED"


def test_one_that_refuses_does_not_stop_the_others(tower: Airport) -> None:
    ended, open_ones = failed(tower, FEE, "charge"), [tower.fly(FEE, {"no": "P-2"}), tower.fly(FEE, {"no": "P-3"})]
    found = ordered(tower, "suspend", workflow_id="fee")
    assert (found.matched, found.done) == (3, 2)
    assert [one["instanceId"] for one in found.refused] == [ended]
    assert "FAILED and cannot be suspended" in found.refused[0]["message"]
    assert {tower.status(one)["status"] for one in open_ones} == {"SUSPENDED"}


def test_one_whose_lock_is_not_had_is_refused_and_the_others_are_done(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.store import statements, transitions

    impatient = text(statements.LOCK.text.replace(f"'{statements.PATIENCE}'", "'50'", 1))
    monkeypatch.setattr(transitions, "LOCK", impatient)
    held, free = tower.fly(FEE, {"no": "P-1"}), tower.fly(FEE, {"no": "P-2"})
    with holding(tower, held):
        found = ordered(tower, "suspend", workflow_id="fee")
    assert [(one["instanceId"], one["message"]) for one in found.refused] == [
        (held, "it is held by somebody else; order it again")
    ]
    assert tower.status(free)["status"] == "SUSPENDED"


def test_an_order_goes_on_where_the_one_before_ended(tower: Airport) -> None:
    instances = [tower.fly(FEE, {"no": str(number)}) for number in range(3)]
    first = ordered(tower, "cancel", limit=2, workflow_id="fee")
    assert [one["instanceId"] for one in first.items] == [instances[2], instances[1]]
    rest = ordered(tower, "cancel", limit=2, workflow_id="fee", before=first.cursor)
    assert [one["instanceId"] for one in rest.items] == [instances[0]]
    assert rest.cursor is None


def test_an_empty_filter_is_refused(tower: Airport) -> None:
    with pytest.raises(BadRequest, match="every instance"):
        ordered(tower, "cancel")


def test_another_tenants_instances_are_never_chosen(tower: Airport) -> None:
    mine = tower.fly(FEE, {"no": "P-1"})
    found = orders.order(tower.system, "cancel", Filter(tenant="elsewhere", workflow_id="fee"))
    assert found.matched == 0
    assert tower.status(mine)["status"] == "RUNNING"


def test_the_lane_is_found_by_its_index(tower: Airport) -> None:
    with tower.system.database.transaction(flights.TENANT) as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        from orchestrator.store import filters

        lane = filters.CONDITIONS["lane"].replace(":tenant", "'local'").replace(":lane", "'keyed'")
        plan = connection.execute(text(f"EXPLAIN SELECT i.id FROM instance i WHERE i.tenant = 'local' AND {lane}"))
        assert "step_by_lane" in "\n".join(plan.scalars())
