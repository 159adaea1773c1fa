"""The canary's rows: whose turn it is, the newest proof, and what may go."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from orchestrator.rows import CANARY

TURN = text("SELECT floor(extract(epoch FROM clock_now()) / :every)::bigint")
COMPLETED = "SELECT {what} FROM instance WHERE tenant = :tenant AND status = 'COMPLETED' ORDER BY id DESC LIMIT 1"
NEWEST = text(
    COMPLETED.format(
        what="extract(epoch FROM (SELECT clock_now()) - started_at), extract(epoch FROM ended_at - started_at)"
    )
)
# All but the newest that came through; those that have not ended only when they are old. There are never more than a few.
FORGET = text(f"""
DELETE FROM instance WHERE id IN (
  SELECT id FROM instance WHERE tenant = :tenant AND id IS DISTINCT FROM ({COMPLETED.format(what="id")})
    AND (ended_at IS NOT NULL OR started_at < (SELECT clock_now()) - make_interval(secs => :older_than))
  FOR UPDATE SKIP LOCKED)
""")


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The newest canary that has completed."""

    age: float  # seconds since it was started: all that was started then has had its chance
    duration: float  # seconds from its start to its end


def turn(connection: Connection, every: float) -> str:
    """Names the present interval, in Postgres' time."""
    return f"{every:g}s:{connection.execute(TURN, {'every': every}).scalar_one()}"


def newest(connection: Connection) -> Proof | None:
    row = connection.execute(NEWEST, {"tenant": CANARY}).first()
    return Proof(age=float(row[0]), duration=float(row[1])) if row else None


def forget(connection: Connection, *, older_than: float) -> None:
    connection.execute(FORGET, {"tenant": CANARY, "older_than": older_than})
