"""Ended instances that are old enough to go: whole families, and none that still has something to tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

# Their steps, history and children go with them, and their idempotency keys. [instance_old, instance_family]
OLD = """
SELECT i.id FROM instance i WHERE i.parent_id IS NULL AND i.ended_at IS NOT NULL
  AND i.ended_at < (SELECT clock_now()) - make_interval(secs => :older_than)
  AND (CAST(:tenant AS text) IS NULL OR i.tenant = :tenant)
  AND (CAST(:workflow_id AS text) IS NULL OR i.workflow_id = :workflow_id)
  AND (CAST(:statuses AS text[]) IS NULL OR i.status = ANY(CAST(:statuses AS text[])))
  AND NOT (i.completion_url IS NOT NULL AND i.completion_life < i.life)
  AND NOT EXISTS (SELECT FROM instance c WHERE c.root_id = i.id AND c.ended_at IS NULL)
"""
COUNT = text(f"SELECT count(*) FROM ({OLD}) old")
PURGE = text(f"DELETE FROM instance WHERE id IN ({OLD} ORDER BY i.ended_at LIMIT :limit FOR UPDATE SKIP LOCKED)")


@dataclass(frozen=True, kw_only=True)
class Old:
    """Which may go; none: any."""

    older_than: float  # seconds since the end
    tenant: str | None = None
    workflow_id: str | None = None
    statuses: Sequence[str] | None = None


def count(connection: Connection, old: Old) -> int:
    return int(connection.execute(COUNT, _values(old)).scalar_one())


def purge(connection: Connection, old: Old, limit: int) -> int:
    """At most `limit`, the oldest first; returns how many, without their children."""
    return connection.execute(PURGE, {**_values(old), "limit": limit}).rowcount


def _values(old: Old) -> dict[str, object]:
    statuses = list(old.statuses) if old.statuses is not None else None
    return {"older_than": old.older_than, "tenant": old.tenant, "workflow_id": old.workflow_id, "statuses": statuses}
