"""Reading for the boards of the pages: counts, lists by what an operator asks for, waits, lanes. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

LIVE = "('RUNNING', 'WAITING', 'COMPENSATING', 'SUSPENDED', 'STUCK')"  # what instance_by_status finds without a scan

# Late: the whole has outlived its deadline, a decision's time was up, or something that could run has not been taken
# for a minute. A step past its own deadline is not listed beside these: the sweep settles it within seconds.
IS_LATE = """
i.ended_at IS NULL AND (i.deadline_at <= (SELECT clock_now()) OR EXISTS (
  SELECT FROM step s WHERE s.instance_id = i.id AND (
    (s.state = 'WAITING' AND s.escalated)
    OR (s.state IN ('READY', 'RETRYING') AND i.suspended_at IS NULL
        AND greatest(s.ready_at, s.due_at) < (SELECT clock_now()) - interval '1 minute'))))
"""
IS_STUCK = """
i.ended_at IS NULL AND (i.status = 'STUCK' OR EXISTS (
  SELECT FROM step s WHERE s.instance_id = i.id AND s.state IN ('UNKNOWN', 'STUCK')))
"""

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

LISTED = "i.id, i.workflow_id, i.version_id, i.version, i.status, i.reason, i.business_key, i.started_at, i.ended_at, i.deadline_at"
# The conditions of a list. Only those that are asked for are in the statement.
CONDITIONS = {
    "status": "i.status = :status",
    "workflow_id": "i.workflow_id = :workflow_id",
    "business_key": "i.business_key = :business_key",
    "lane": "i.ended_at IS NULL AND EXISTS (SELECT FROM step s WHERE s.instance_id = i.id AND split_part(s.service, '.', 1) = :lane"
    " AND s.state IN ('READY', 'RUNNING', 'RETRYING', 'WAITING', 'UNKNOWN', 'STUCK'))",
    "since": "i.started_at >= (SELECT clock_now()) - make_interval(secs => :since)",
    "late": f"({IS_LATE})",
    "stuck": f"({IS_STUCK})",
    "version": "i.version = :version",
    "trace": "i.id = CAST(:trace AS uuid)",
    "words": "(i.business_key ILIKE :words OR i.workflow_id ILIKE :words)",
    "before": "i.id < CAST(:before AS uuid)",
    "ids": "i.id = ANY(CAST(:ids AS uuid[]))",
}

WAITS = text("""
SELECT s.instance_id, s.step, s.version_id, s.due_at, s.escalated, s.service, s.ready_at, s.started_at,
  i.workflow_id, i.version, i.business_key, i.payload, i.started_at AS begun_at
FROM step s JOIN instance i ON i.id = s.instance_id
WHERE s.tenant = :tenant AND s.state = 'WAITING' AND s.phase = 'do' AND i.ended_at IS NULL
ORDER BY s.due_at NULLS LAST, s.instance_id, s.step LIMIT :limit OFFSET :offset
""")
LANES = text("""
SELECT split_part(s.service, '.', 1), s.state, count(*), min(s.ready_at) FROM step s JOIN instance i ON i.id = s.instance_id
WHERE s.tenant = :tenant AND s.service IS NOT NULL AND i.status IN ('RUNNING', 'WAITING', 'COMPENSATING', 'SUSPENDED', 'STUCK')
  AND s.state IN ('READY', 'RUNNING', 'RETRYING', 'WAITING', 'UNKNOWN') GROUP BY 1, 2
""")
VERSIONS = text("""
SELECT v.version, v.created_at, count(i.id) AS live FROM definition_version v
LEFT JOIN instance i ON i.version_id = v.id AND i.tenant = v.tenant
  AND i.status IN ('RUNNING', 'WAITING', 'COMPENSATING', 'SUSPENDED', 'STUCK')
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
CHILDREN = text("""
SELECT id, workflow_id, status, reason, parent_step FROM instance
WHERE tenant = :tenant AND parent_id = CAST(:id AS uuid) ORDER BY id LIMIT :limit
""")


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is to be listed; none and false: not asked for."""

    tenant: str
    status: str | None = None
    workflow_id: str | None = None
    business_key: str | None = None
    lane: str | None = None
    since: float | None = None  # seconds ago
    late: bool = False
    stuck: bool = False
    version: int | None = None
    trace: str | None = None
    words: str | None = None  # a pattern of ILIKE
    before: str | None = None  # the id that the page before ended with
    ids: tuple[str, ...] | None = None
    limit: int = 50


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


def listed(connection: Connection, search: Search) -> Rows:
    """Newest first."""
    asked = {name: value for name in CONDITIONS if (value := getattr(search, name)) not in (None, False)}
    where = " AND ".join(["i.tenant = :tenant", *(CONDITIONS[name] for name in asked)])
    statement = text(f"SELECT {LISTED} FROM instance i WHERE {where} ORDER BY i.id DESC LIMIT :limit")
    bound = {name: value for name, value in asked.items() if value is not True}
    if search.ids is not None:
        bound["ids"] = list(search.ids)
    return _rows(connection, statement, {**bound, "tenant": search.tenant, "limit": search.limit})


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


def children(connection: Connection, tenant: str, instance_id: str, limit: int) -> Rows:
    """{id, workflow_id, status, reason, parent_step}, oldest first."""
    return _rows(connection, CHILDREN, {"tenant": tenant, "id": instance_id, "limit": limit})


def _rows(connection: Connection, statement: Any, values: Mapping[str, Any]) -> Rows:
    return [dict(row) for row in connection.execute(statement, values).mappings()]
