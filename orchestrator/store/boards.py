"""Reading for the boards of the pages: counts, waits, lanes, who runs on which version. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.store.filters import IS_LATE, IS_STUCK

LIVE = "('RUNNING', 'WAITING', 'COMPENSATING', 'SUSPENDED', 'STUCK')"  # what instance_by_status finds without a scan

NOW = text("SELECT clock_now()")
COUNTS = text(f"SELECT status, count(*) FROM instance WHERE tenant = :tenant AND status IN {LIVE} GROUP BY status")
TROUBLED = text(f"""
SELECT count(*) FILTER (WHERE {IS_LATE}), count(*) FILTER (WHERE {IS_STUCK})
FROM instance i WHERE i.tenant = :tenant AND i.status IN {LIVE}
""")
ENDED = text("""
SELECT status, count(*) FROM instance
WHERE tenant = :tenant AND ended_at > (SELECT clock_now()) - make_interval(secs => :seconds) GROUP BY status
""")

WAITS = text("""
SELECT s.instance_id, s.step, s.version_id, s.due_at, s.escalated, s.service, s.ready_at, s.started_at,
  i.workflow_id, i.version, i.business_key, i.payload, i.started_at AS begun_at
FROM step s JOIN instance i ON i.id = s.instance_id
WHERE s.tenant = :tenant AND s.state = 'WAITING' AND s.phase = 'do' AND i.ended_at IS NULL
ORDER BY s.due_at NULLS LAST, s.instance_id, length(s.step), s.step LIMIT :limit OFFSET :offset
""")
# A step of what has ended is in none of these states, and most steps are of what has ended: OFFSET 0 lets it begin with
# the instances that have not.
LANES = text(f"""
SELECT split_part(s.service, '.', 1), s.state, count(*), min(s.ready_at) FROM instance i CROSS JOIN LATERAL (
  SELECT * FROM step WHERE instance_id = i.id AND tenant = :tenant AND service IS NOT NULL
    AND state IN ('READY', 'RUNNING', 'RETRYING', 'WAITING', 'UNKNOWN') OFFSET 0) s
WHERE i.tenant = :tenant AND i.status IN {LIVE} GROUP BY 1, 2
""")
VERSIONS = text(f"""
SELECT v.version, v.created_at, count(i.id) AS live FROM definition_version v
LEFT JOIN instance i ON i.version_id = v.id AND i.tenant = v.tenant
  AND i.status IN {LIVE}
WHERE v.tenant = :tenant AND v.workflow_id = :workflow_id GROUP BY v.version, v.created_at ORDER BY v.version DESC
""")
LIVE_BY_WORKFLOW = text(f"""
SELECT workflow_id, count(*) FROM instance WHERE tenant = :tenant AND status IN {LIVE} GROUP BY workflow_id
""")
KIN = text("""
SELECT i.version_id, p.workflow_id AS parent_workflow_id FROM instance i
LEFT JOIN instance p ON p.id = i.parent_id AND p.tenant = i.tenant
WHERE i.tenant = :tenant AND i.id = CAST(:id AS uuid)
""")
STATES = text("""
SELECT step, state FROM step WHERE tenant = :tenant AND instance_id = CAST(:id AS uuid) AND phase = 'do'
""")
CHILDREN = text("""
SELECT id, workflow_id, status, reason, parent_step FROM instance
WHERE tenant = :tenant AND parent_id = CAST(:id AS uuid) ORDER BY id LIMIT :limit
""")


Rows = list[dict[str, Any]]


def now(connection: Connection) -> datetime:
    found: datetime = connection.execute(NOW).scalar_one()
    return found


def counts(connection: Connection, tenant: str) -> dict[str, int]:
    """Instances that have not ended, by status."""
    return {row[0]: row[1] for row in connection.execute(COUNTS, {"tenant": tenant})}


def troubled(connection: Connection, tenant: str) -> tuple[int, int]:
    """How many are late, and how many stuck."""
    row = connection.execute(TROUBLED, {"tenant": tenant}).one()
    return row[0], row[1]


def ended(connection: Connection, tenant: str, seconds: float) -> dict[str, int]:
    """What has ended in the last so many seconds, by status."""
    return {row[0]: row[1] for row in connection.execute(ENDED, {"tenant": tenant, "seconds": seconds})}


def waits(connection: Connection, tenant: str, *, limit: int, offset: int) -> Rows:
    """Steps that wait, the next deadline first, with what their instance is about."""
    return _rows(connection, WAITS, {"tenant": tenant, "limit": limit, "offset": offset})


def lanes(connection: Connection, tenant: str) -> dict[str, dict[str, tuple[int, datetime]]]:
    """Lane → state → how many steps, and since when the first of them."""
    found: dict[str, dict[str, tuple[int, datetime]]] = {}
    for lane, state, count, oldest in connection.execute(LANES, {"tenant": tenant}):
        found.setdefault(lane, {})[state] = (count, oldest)
    return found


def versions(connection: Connection, tenant: str, workflow_id: str) -> Rows:
    """Newest first: {version, created_at, live}."""
    return _rows(connection, VERSIONS, {"tenant": tenant, "workflow_id": workflow_id})


def live_by_workflow(connection: Connection, tenant: str) -> dict[str, int]:
    return {row[0]: row[1] for row in connection.execute(LIVE_BY_WORKFLOW, {"tenant": tenant})}


def kin(connection: Connection, tenant: str, instance_id: str) -> dict[str, Any] | None:
    """{version_id, parent_workflow_id}"""
    found = _rows(connection, KIN, {"tenant": tenant, "id": instance_id})
    return found[0] if found else None


def states(connection: Connection, tenant: str, instance_id: str) -> dict[str, str]:
    """Step's name → state, of all of them."""
    return {row[0]: row[1] for row in connection.execute(STATES, {"tenant": tenant, "id": instance_id})}


def children(connection: Connection, tenant: str, instance_id: str, limit: int) -> Rows:
    """{id, workflow_id, status, reason, parent_step}, oldest first."""
    return _rows(connection, CHILDREN, {"tenant": tenant, "id": instance_id, "limit": limit})


def _rows(connection: Connection, statement: Any, values: Mapping[str, Any]) -> Rows:
    return [dict(row) for row in connection.execute(statement, values).mappings()]
