"""Ends of instances that are to be told to a completion URL.

Nothing is written when an instance ends: that it has ended, and that the end of this life of it was not told yet, is all
that makes it due. So none can be lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

ASK = text("UPDATE instance SET completion_url = :url WHERE id = CAST(:id AS uuid) AND tenant = :tenant")
# Whoever takes one has `lease` seconds; if he dies, another tells it, with the same key. [instance_completion]
TAKE = text("""
UPDATE instance SET completion_tries = completion_tries + 1,
  completion_due_at = (SELECT clock_now()) + make_interval(secs => :lease)
WHERE id IN (
  SELECT id FROM instance WHERE completion_url IS NOT NULL AND ended_at IS NOT NULL AND completion_life < life
    AND (completion_due_at IS NULL OR completion_due_at <= (SELECT clock_now()))
  ORDER BY completion_due_at NULLS FIRST LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id, tenant, workflow_id, status, reason, business_key, ended_at, life, completion_url, completion_tries,
  (SELECT clock_now())
""")
TOLD = text("""
UPDATE instance SET completion_life = :life, completion_error = NULL, completion_due_at = NULL, completion_tries = 0
WHERE id = CAST(:id AS uuid) AND completion_life < :life
""")
# Given up is one that nobody took in `patience` seconds after the end.
NOT_TOLD = text("""
UPDATE instance SET completion_error = :error,
  completion_due_at = (SELECT clock_now()) + make_interval(secs => :pause),
  completion_life = CASE WHEN ended_at < (SELECT clock_now()) - make_interval(secs => :patience) THEN :life
    ELSE completion_life END
WHERE id = CAST(:id AS uuid) AND completion_life < :life AND life = :life
""")


@dataclass(frozen=True, kw_only=True)
class End:
    """What is to be told."""

    instance_id: str
    tenant: str
    workflow_id: str
    status: str
    reason: str | None
    business_key: str | None
    ended: datetime
    life: int
    url: str
    tries: int  # with this one
    now: datetime


def ask(connection: Connection, tenant: str, instance_id: str, url: str) -> None:
    """In the transaction that starts the instance."""
    connection.execute(ASK, {"tenant": tenant, "id": instance_id, "url": url})


def take(connection: Connection, *, limit: int, lease: float) -> list[End]:
    """Up to `limit` that are due; nobody else takes them for `lease` seconds."""
    found = connection.execute(TAKE, {"limit": limit, "lease": lease})
    return [
        End(instance_id=row[0].hex, tenant=row[1], workflow_id=row[2], status=row[3], reason=row[4], business_key=row[5],
            ended=row[6], life=row[7], url=row[8], tries=row[9], now=row[10])
        for row in found
    ]  # fmt: skip


def told(connection: Connection, end: End) -> None:
    connection.execute(TOLD, {"id": end.instance_id, "life": end.life})


def not_told(connection: Connection, end: End, *, error: str, pause: float, patience: float) -> None:
    """Once more after `pause` seconds, unless the end is longer ago than `patience` seconds."""
    values = {"id": end.instance_id, "life": end.life, "error": error, "pause": pause, "patience": patience}
    connection.execute(NOT_TOLD, values)
