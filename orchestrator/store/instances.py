"""Reading instances: what the status page, the lists and an attempt's context need. Writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.rows import CANARY
from orchestrator.states import Phase
from orchestrator.store.statements import ENTRY_COLUMNS, ROW_COLUMNS, WRITE_ONLY

SUMMARY = (
    "id, workflow_id, version_id, version, status, reason, business_key, started_at, ended_at, suspended_at,"
    " cancel_requested_at, deadline_at, parent_id, parent_step"
)
COMPLETION = "completion_url, completion_life, completion_tries, completion_due_at, completion_error"
FIND = text(
    f"SELECT {SUMMARY}, payload, life, {COMPLETION} FROM instance WHERE tenant = :tenant AND id = CAST(:id AS uuid)"
)
GLANCE = text(
    "SELECT status, reason, history_seq, ended_at IS NOT NULL FROM instance WHERE tenant = :tenant AND id = CAST(:id AS uuid)"
)
BY_KEY = text(
    "SELECT id, status, request_digest FROM instance WHERE tenant = :tenant AND idempotency_key = :idempotency_key"
)
# Columns are named wherever a result has them: a `*` is another result once a migration has added one, and Postgres
# refuses it to every connection that has prepared the statement before.
STEP = ", ".join(f'"{name}"' for name in ("instance_id", "tenant", "version_id", *ROW_COLUMNS, *sorted(WRITE_ONLY)))
ENTRY = ", ".join(f'h."{name}"' for name in ENTRY_COLUMNS)
# What is settled comes last, so that what a limit leaves out is what nobody has to look at.
STEPS = text(f"""
SELECT {STEP} FROM step WHERE instance_id = CAST(:id AS uuid) AND phase = :phase
ORDER BY state IN ('SUCCEEDED', 'SKIPPED'), "order", length(step), step LIMIT :limit
""")
STEP_COUNT = text("SELECT count(*) FROM step WHERE instance_id = CAST(:id AS uuid) AND phase = :phase")
HISTORY = text(f"""
SELECT {ENTRY}, i.workflow_id FROM history h JOIN instance i ON i.id = h.instance_id
WHERE h.instance_id = CAST(:id AS uuid) AND h.tenant = :tenant ORDER BY h.seq LIMIT :limit
""")
NEWEST = text(HISTORY.text.replace("ORDER BY h.seq", "ORDER BY h.seq DESC"))
# An instance and all that descend from it. [instance_child]
FAMILY = """
RECURSIVE family AS (
  SELECT id, workflow_id FROM instance WHERE tenant = :tenant AND id = CAST(:id AS uuid)
  UNION ALL
  SELECT c.id, c.workflow_id FROM family f JOIN instance c ON c.parent_id = f.id AND c.tenant = :tenant)
"""
FAMILY_HISTORY = text(f"""
WITH {FAMILY}
SELECT {ENTRY}, f.workflow_id FROM family f CROSS JOIN LATERAL (
  SELECT * FROM history WHERE instance_id = f.id AND tenant = :tenant
    AND (time, instance_id, seq) > (CAST(:time AS timestamptz), CAST(:instance AS uuid), :seq)
  ORDER BY time, seq LIMIT :limit) h
ORDER BY h.time, h.instance_id, h.seq LIMIT :limit
""")
# For who follows as it happens: by each one's own numbers, for a moment may be committed after a later one was read.
FAMILY_NEWS = text(f"""
WITH {FAMILY}
SELECT {ENTRY}, f.workflow_id FROM family f
LEFT JOIN json_to_recordset(CAST(:seen AS json)) AS known(id uuid, seq int) ON known.id = f.id
CROSS JOIN LATERAL (
  SELECT * FROM history WHERE instance_id = f.id AND tenant = :tenant AND seq > coalesce(known.seq, 0)
  ORDER BY seq LIMIT :limit) h
ORDER BY h.time, h.instance_id, h.seq LIMIT :limit
""")
ACTIVE_STEPS = text("""
SELECT instance_id, step FROM step WHERE instance_id = ANY(CAST(:ids AS uuid[])) AND branches_left = 0
  AND state IN ('READY', 'RUNNING', 'RETRYING', 'WAITING', 'UNKNOWN', 'COMPENSATING', 'STUCK')
ORDER BY instance_id, "order"
""")
TENANT = text("SELECT tenant FROM instance WHERE id = CAST(:id AS uuid)")
PAYLOADS = text("SELECT id, payload FROM instance WHERE id = ANY(CAST(:ids AS uuid[]))")
# Of a loop only how many iterations have begun: its output is the list of its items, each of which is read where it is named.
OUTPUTS = text("""
SELECT instance_id, step, state, CASE WHEN items = 0 THEN output END, error, decision, begun, reason FROM step
WHERE instance_id = ANY(CAST(:ids AS uuid[])) AND phase = 'do' AND step = ANY(CAST(:steps AS text[]))
""")
ITERATED = text(OUTPUTS.text.replace("step = ANY(CAST(:steps AS text[]))", "step LIKE ANY(CAST(:iterated AS text[]))"))
ITEMS = text(
    "SELECT output -> 'items' FROM step WHERE instance_id = CAST(:id AS uuid) AND step = :loop AND phase = 'do'"
)
ITEM = text("""
SELECT output -> 'items' -> CAST(:number AS int) FROM step
WHERE instance_id = CAST(:id AS uuid) AND step = :loop AND phase = 'do'
""")
# Both begin with what has not ended (instance_open): what has is by far the most.
# The canary's are nobody's.
COUNTS = text("SELECT status, count(*) FROM instance WHERE ended_at IS NULL AND tenant <> :canary GROUP BY status")
STEP_COUNTS = text("""
SELECT s.state, count(*), extract(epoch FROM (SELECT clock_now()) - min(s.ready_at))
FROM instance i JOIN step s ON s.instance_id = i.id WHERE i.ended_at IS NULL AND i.tenant <> :canary
  AND s.state IN ('READY', 'RUNNING', 'RETRYING', 'WAITING', 'UNKNOWN', 'STUCK') GROUP BY s.state
""")


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a page of a family's history ended."""

    time: datetime
    instance: str
    seq: int


@dataclass(frozen=True, kw_only=True)
class Glance:
    """The least that tells whether an instance has changed."""

    status: str
    reason: str | None
    seq: int
    has_ended: bool


def glance(connection: Connection, tenant: str, instance_id: str) -> Glance | None:
    row = connection.execute(GLANCE, {"tenant": tenant, "id": instance_id}).first()
    return Glance(status=row[0], reason=row[1], seq=row[2], has_ended=row[3]) if row else None


def find(connection: Connection, tenant: str, instance_id: str) -> dict[str, Any] | None:
    row = connection.execute(FIND, {"tenant": tenant, "id": instance_id}).mappings().first()
    return dict(row) if row else None


def by_idempotency_key(connection: Connection, tenant: str, key: str) -> dict[str, Any] | None:
    row = connection.execute(BY_KEY, {"tenant": tenant, "idempotency_key": key}).mappings().first()
    return dict(row) if row else None


def steps(connection: Connection, instance_id: str, phase: Phase, limit: int) -> tuple[list[dict[str, Any]], int]:
    """At most `limit` of them, and how many were left out: those first that ended well."""
    values = {"id": instance_id, "phase": phase, "limit": limit}
    found = [dict(row) for row in connection.execute(STEPS, values).mappings()]
    if len(found) < limit:
        return found, 0
    return found, int(connection.execute(STEP_COUNT, {"id": instance_id, "phase": phase}).scalar_one()) - len(found)


def history(
    connection: Connection, tenant: str, instance_id: str, *, limit: int, newest: bool = False
) -> list[dict[str, Any]]:
    """Its own, oldest first. `newest`: of more than `limit`, those that came last."""
    values = {"tenant": tenant, "id": instance_id, "limit": limit}
    found = [dict(row) for row in connection.execute(NEWEST if newest else HISTORY, values).mappings()]
    return found[::-1] if newest else found


def family_history(
    connection: Connection, tenant: str, instance_id: str, *, after: Position, limit: int
) -> list[dict[str, Any]]:
    """Its own and that of all who descend from it, by time."""
    values = {"tenant": tenant, "id": instance_id, "limit": limit, "time": after.time, "instance": after.instance,
              "seq": after.seq}  # fmt: skip
    return [dict(row) for row in connection.execute(FAMILY_HISTORY, values).mappings()]


def family_news(
    connection: Connection, tenant: str, instance_id: str, *, seen: Mapping[str, int], limit: int
) -> list[dict[str, Any]]:
    """The same, of each beyond the number that was `seen` of it."""
    known = json.dumps([{"id": trace, "seq": seq} for trace, seq in seen.items()])
    values = {"tenant": tenant, "id": instance_id, "limit": limit, "seen": known}
    return [dict(row) for row in connection.execute(FAMILY_NEWS, values).mappings()]


def active_steps(connection: Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    """Instance id → its active steps in definition order."""
    found: dict[str, list[str]] = {}
    for row in connection.execute(ACTIVE_STEPS, {"ids": list(ids)}):
        names = found.setdefault(row[0].hex, [])
        if row[1] not in names:
            names.append(row[1])
    return found


def tenant_of(connection: Connection, instance_id: str) -> str | None:
    found: str | None = connection.execute(TENANT, {"id": instance_id}).scalar_one_or_none()
    return found


def payloads(connection: Connection, ids: Sequence[str]) -> dict[str, Any]:
    return {row[0].hex: row[1] for row in connection.execute(PAYLOADS, {"ids": list(ids)})}


def outputs(connection: Connection, ids: Sequence[str], steps: Sequence[str],
            iterated: Sequence[str] = ()) -> dict[str, dict[str, dict[str, Any]]]:  # fmt: skip
    """Instance id → step's name → {state, output, error, decision, begun, reason}, of the steps with these names and of all
    iterations of those in `iterated`."""
    rows = list(connection.execute(OUTPUTS, {"ids": list(ids), "steps": list(steps)})) if steps else []
    if iterated:
        patterns = [f"{name}[%" for name in iterated]  # `_` in an id finds others, too, which nobody then looks at
        rows += connection.execute(ITERATED, {"ids": list(ids), "iterated": patterns})
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        told = {
            "state": row[2],
            "output": row[3],
            "error": row[4],
            "decision": row[5],
            "begun": row[6],
            "reason": row[7],
        }
        found.setdefault(row[0].hex, {})[row[1]] = told
    return found


def items(connection: Connection, instance_id: str, loop: str) -> list[Any] | None:
    """All of the items that a loop was opened with; none where it was not, or had none."""
    found: list[Any] | None = connection.execute(ITEMS, {"id": instance_id, "loop": loop}).scalar_one_or_none()
    return found


def item(connection: Connection, instance_id: str, loop: str, number: int) -> Any:
    """One of the items that a loop was opened with."""
    return connection.execute(ITEM, {"id": instance_id, "loop": loop, "number": number}).scalar_one_or_none()


def counts(connection: Connection) -> dict[str, int]:
    """Instances that have not ended, by status."""
    return {row[0]: row[1] for row in connection.execute(COUNTS, {"canary": CANARY})}


def step_counts(connection: Connection) -> dict[str, tuple[int, float]]:
    """Unfinished steps by state: how many, and the age in seconds of the oldest."""
    return {row[0]: (row[1], float(row[2] or 0)) for row in connection.execute(STEP_COUNTS, {"canary": CANARY})}
