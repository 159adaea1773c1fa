"""Choosing among many instances: the conditions of lists and pages, and of orders by filter. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from orchestrator import durations
from orchestrator.errors import BadRequest
from orchestrator.store.instances import SUMMARY

# Late: the whole has outlived its deadline, a decision's time was up, or something that could run has not been taken
# for a minute. A step past its own deadline is not listed beside these: the sweep settles it within seconds.
# The questions in brackets do not name the instance, so that each is asked once a statement, of the few rows that a
# partial index has [step_escalated, step_unpublished, step_published, step_deferred, step_unsettled].
IS_LATE = """
i.ended_at IS NULL AND (i.deadline_at <= (SELECT clock_now())
  OR i.id IN (SELECT instance_id FROM step WHERE tenant = :tenant AND state = 'WAITING' AND escalated)
  OR i.suspended_at IS NULL AND i.id IN (
    SELECT instance_id FROM step WHERE tenant = :tenant AND state IN ('READY', 'RETRYING')
      AND published_at IS NULL AND deferred IS NULL AND greatest(ready_at, due_at) < (SELECT clock_now()) - interval '1 minute'
    UNION ALL SELECT instance_id FROM step WHERE tenant = :tenant AND state IN ('READY', 'RETRYING')
      AND published_at IS NOT NULL AND greatest(ready_at, due_at) < (SELECT clock_now()) - interval '1 minute'
    UNION ALL SELECT instance_id FROM step WHERE tenant = :tenant AND state IN ('READY', 'RETRYING')
      AND deferred IS NOT NULL AND greatest(ready_at, due_at) < (SELECT clock_now()) - interval '1 minute'))
"""
IS_STUCK = """
i.ended_at IS NULL AND (i.status = 'STUCK'
  OR i.id IN (SELECT instance_id FROM step WHERE tenant = :tenant AND state IN ('UNKNOWN', 'STUCK')))
"""

# The end, or of what has not ended the last transition. What ended before is not asked for its history.
CHANGED = "coalesce(i.ended_at, (SELECT h.time FROM history h WHERE h.instance_id = i.id AND h.seq = i.history_seq))"
SINCE = (
    "coalesce(CAST(:since_at AS timestamptz), (SELECT clock_now()) - make_interval(secs => CAST(:since_ago AS float8)))"
)
UNTIL = (
    "coalesce(CAST(:until_at AS timestamptz), (SELECT clock_now()) - make_interval(secs => CAST(:until_ago AS float8)))"
)

# Only those that are asked for are in the statement. In brackets: the index that serves them.
CONDITIONS = {
    "status": "i.status = :status",  # [instance_by_status]
    "reason": "i.reason = :reason",
    "workflow_id": "i.workflow_id = :workflow_id",  # [instance_by_workflow]
    "version": "i.version = :version",
    "business_key": "i.business_key = :business_key",  # [instance_by_business_key]
    # [step_by_lane] As a range of names in bytes: what row-level security allows an index to be searched by. As an array,
    # so that it begins there: as a question about each instance, a lane that none of them is on costs a look at all.
    "lane": """i.id = ANY(ARRAY(SELECT s.instance_id FROM step s WHERE s.tenant = :tenant
      AND s.service COLLATE "C" >= :lane || '.' AND s.service COLLATE "C" < :lane || '/'
      AND s.state IN ('FAILED', 'UNKNOWN', 'STUCK', 'RETRYING', 'WAITING')))""",
    "since": f"(i.ended_at IS NULL OR i.ended_at >= {SINCE}) AND {CHANGED} >= {SINCE}",  # [instance_ended]
    "until": f"{CHANGED} < {UNTIL}",
    "late": f"({IS_LATE})",
    "stuck": f"({IS_STUCK})",
    "trace": "i.id = CAST(:trace AS uuid)",
    "words": "(i.business_key ILIKE :words OR i.workflow_id ILIKE :words)",
    "ids": "i.id = ANY(CAST(:ids AS uuid[]))",
    "before": "i.id < CAST(:before AS uuid)",
}


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which instances; none and false: not asked for."""

    tenant: str
    status: str | None = None
    reason: str | None = None
    workflow_id: str | None = None
    version: int | None = None
    business_key: str | None = None
    words: str | None = None  # a trace id, or any part of a business key or of a workflow's id
    lane: str | None = None  # that one of their steps is on, failed, unknown, stuck, or waiting to go on
    since: str | None = None  # something has happened to them since: a moment, or a duration ago
    until: str | None = None  # and nothing since this
    late: bool = False
    stuck: bool = False  # something of them needs a person
    ids: tuple[str, ...] | None = None
    before: str | None = None  # the id that the page before ended with
    limit: int = 50

    @property
    def is_empty(self) -> bool:
        """Whether it means every instance of the tenant."""
        own = ("tenant", "before", "limit")
        return not any(getattr(self, field.name) for field in fields(self) if field.name not in own)


def listed(connection: Connection, wanted: Filter) -> list[dict[str, Any]]:
    """Newest first (ids are ordered by time). Raises BadRequest for what is no moment."""
    asked = _asked(wanted)
    where = " AND ".join(["i.tenant = :tenant", *(CONDITIONS[name] for name in CONDITIONS if name in asked)])
    statement = text(f"SELECT {SUMMARY} FROM instance i WHERE {where} ORDER BY id DESC LIMIT :limit")
    bound: dict[str, Any] = {"tenant": wanted.tenant, "limit": wanted.limit}
    for name, value in asked.items():
        bound |= moment(name, value) if name in ("since", "until") else {name: value} if value is not True else {}
    return [dict(row) for row in connection.execute(statement, bound).mappings()]


def _asked(wanted: Filter) -> Mapping[str, Any]:
    """Condition → what it compares with."""
    given = {
        field.name: getattr(wanted, field.name) for field in fields(wanted) if field.name not in ("tenant", "limit")
    }
    asked = {name: value for name, value in given.items() if value not in (None, False)}
    if wanted.words is not None:
        asked |= _meant(asked.pop("words"))
    if wanted.ids is not None:
        asked["ids"] = list(wanted.ids)
    return asked


def _meant(words: str) -> dict[str, str]:
    """A trace id is looked up as one; anything else is no pattern, whatever its characters."""
    try:
        return {"trace": UUID(words).hex}
    except ValueError:
        literal = words.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
        return {"words": f"%{literal}%"}


def moment(name: str, given: str) -> dict[str, datetime | float | None]:
    """`{name}_at` and `{name}_ago`: one of them has a value. Raises BadRequest."""
    try:
        at = datetime.fromisoformat(given)
        return {f"{name}_at": at if at.tzinfo else at.replace(tzinfo=UTC), f"{name}_ago": None}
    except ValueError:
        pass
    try:
        return {f"{name}_at": None, f"{name}_ago": durations.seconds(given)}
    except ValueError:
        raise BadRequest(
            f"{name}: {given!r} is neither a moment such as 2026-01-31T08:00:00Z nor a duration such as 2h"
        ) from None
