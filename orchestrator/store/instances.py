"""Reading instances: what the status page, the lists and an attempt's context need. Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

SUMMARY = (
    "id, workflow_id, version_id, version, status, reason, business_key, started_at, ended_at, suspended_at,"
    " cancel_requested_at, deadline_at"
)
FIND = text(f"SELECT {SUMMARY}, payload FROM instance WHERE tenant = :tenant AND id = CAST(:id AS uuid)")
GLANCE = text(
    "SELECT status, reason, history_seq, ended_at IS NOT NULL FROM instance WHERE tenant = :tenant AND id = CAST(:id AS uuid)"
)
BY_KEY = text(
    "SELECT id, status, request_digest FROM instance WHERE tenant = :tenant AND idempotency_key = :idempotency_key"
)
STEPS = text('SELECT * FROM step WHERE instance_id = CAST(:id AS uuid) ORDER BY "order", phase')
HISTORY = text(
    "SELECT * FROM history WHERE instance_id = CAST(:id AS uuid) AND tenant = :tenant AND seq > :after"
    " ORDER BY seq LIMIT :limit"
)
ACTIVE_STEPS = text("""
SELECT instance_id, step FROM step WHERE instance_id = ANY(CAST(:ids AS uuid[])) AND branches_left = 0
  AND state IN ('READY', 'RUNNING', 'RETRYING', 'WAITING', 'UNKNOWN', 'COMPENSATING', 'STUCK')
ORDER BY instance_id, "order"
""")
TENANT = text("SELECT tenant FROM instance WHERE id = CAST(:id AS uuid)")
PAYLOADS = text("SELECT id, payload FROM instance WHERE id = ANY(CAST(:ids AS uuid[]))")
# Of a loop only how many iterations have begun: its output is the list of its items, each of which is read where it is named.
OUTPUTS = text("""
SELECT instance_id, step, state, CASE WHEN items = 0 THEN output END, error, decision, begun FROM step
WHERE instance_id = ANY(CAST(:ids AS uuid[])) AND phase = 'do'
  AND (step = ANY(CAST(:steps AS text[])) OR step LIKE ANY(CAST(:iterated AS text[])))
""")
ITEM = text("""
SELECT output -> 'items' -> CAST(:number AS int) FROM step
WHERE instance_id = CAST(:id AS uuid) AND step = :loop AND phase = 'do'
""")
# Both begin with what has not ended (instance_open): what has is by far the most.
COUNTS = text("SELECT status, count(*) FROM instance WHERE ended_at IS NULL GROUP BY status")
STEP_COUNTS = text("""
SELECT s.state, count(*), extract(epoch FROM (SELECT clock_now()) - min(s.ready_at))
FROM instance i JOIN step s ON s.instance_id = i.id WHERE i.ended_at IS NULL
  AND s.state IN ('READY', 'RUNNING', 'RETRYING', 'WAITING', 'UNKNOWN', 'STUCK') GROUP BY s.state
""")


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


def steps(connection: Connection, instance_id: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(STEPS, {"id": instance_id}).mappings()]


def history(connection: Connection, tenant: str, instance_id: str, *, after: int, limit: int) -> list[dict[str, Any]]:
    values = {"tenant": tenant, "id": instance_id, "after": after, "limit": limit}
    return [dict(row) for row in connection.execute(HISTORY, values).mappings()]


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
    """Instance id → step's name → {state, output, error, decision, begun}, of the steps with these names and of all
    iterations of those in `iterated`."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    if not steps and not iterated:
        return found
    patterns = [
        name.replace("_", "\\_") + "[%" for name in iterated
    ]  # an id may hold `_`, which LIKE takes for any letter
    for row in connection.execute(OUTPUTS, {"ids": list(ids), "steps": list(steps), "iterated": patterns}):
        told = {"state": row[2], "output": row[3], "error": row[4], "decision": row[5], "begun": row[6]}
        found.setdefault(row[0].hex, {})[row[1]] = told
    return found


def item(connection: Connection, instance_id: str, loop: str, number: int) -> Any:
    """One of the items that a loop was opened with."""
    return connection.execute(ITEM, {"id": instance_id, "loop": loop, "number": number}).scalar_one_or_none()


def counts(connection: Connection) -> dict[str, int]:
    """Instances that have not ended, by status."""
    return {row[0]: row[1] for row in connection.execute(COUNTS)}


def step_counts(connection: Connection) -> dict[str, tuple[int, float]]:
    """Unfinished steps by state: how many, and the age in seconds of the oldest."""
    return {row[0]: (row[1], float(row[2] or 0)) for row in connection.execute(STEP_COUNTS)}
