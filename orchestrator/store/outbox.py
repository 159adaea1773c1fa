"""The outbox: events that a lane has left in the database, and the publisher takes from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

CHANNEL = "orchestrator_outbox"
KEPT = "30 days"  # an event is remembered after it was sent, so that a late repeat of its call adds nothing
PATIENCE = 60_000  # milliseconds in which a round of the publisher is surely over
LONGEST_PAUSE = 10.0  # seconds before an event that the broker refused is tried again

# The time is the database's, to the microsecond, as RFC 3339 has it. The notification is for new events only.
PUT = text(
    """
    WITH new AS (
      INSERT INTO outbox (key, tenant, trace, topic, event)
      VALUES (:key, :tenant, CAST(:trace AS uuid), :topic, CAST(:event AS jsonb) || jsonb_build_object('time',
        to_char((SELECT clock_now()) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')))
      ON CONFLICT (key) DO NOTHING RETURNING key)
    SELECT pg_notify(:channel, '') FROM new
    """
)
# Served by outbox_unsent. Whoever else publishes takes the next ones; and these as well, if we are stopped meanwhile.
TAKE = text(
    f"""
    SELECT key, topic, event
    FROM (SELECT set_config('idle_in_transaction_session_timeout', '{PATIENCE}', true)) bounded CROSS JOIN outbox
    WHERE sent_at IS NULL AND due_at <= (SELECT clock_now())
    ORDER BY position LIMIT :limit FOR UPDATE OF outbox SKIP LOCKED
    """
)
SENT = text("UPDATE outbox SET sent_at = (SELECT clock_now()), error = NULL WHERE key = ANY(:keys)")
REFUSED = text(
    """
    UPDATE outbox SET tries = tries + 1, error = :error,
      due_at = (SELECT clock_now()) + make_interval(secs => least(:longest, 0.25 * 2 ^ least(tries, 16)))
    WHERE key = :key
    """
)
NEXT = text(
    """
    SELECT EXTRACT(EPOCH FROM min(due_at) - (SELECT clock_now())) FROM outbox WHERE sent_at IS NULL
    """
)
# Served by outbox_sent.
FORGET = text(
    f"""
    DELETE FROM outbox WHERE key IN (
      SELECT key FROM outbox WHERE sent_at < (SELECT clock_now()) - interval '{KEPT}' LIMIT :limit)
    """
)


@dataclass(frozen=True, kw_only=True)
class Unsent:
    key: str
    topic: str
    event: dict[str, Any]


def put(connection: Connection, event: dict[str, Any], *, tenant: str, trace: str, topic: str) -> None:
    """Add a CloudEvent under its id, unless it is there already. It gets its `time` here."""
    connection.execute(PUT, {"key": event["id"], "tenant": tenant, "trace": trace, "topic": topic,
                             "event": json.dumps(event), "channel": CHANNEL})  # fmt: skip


def take(connection: Connection, limit: int) -> list[Unsent]:
    """The oldest events that are due, locked until the end of the transaction."""
    return [Unsent(key=row.key, topic=row.topic, event=row.event) for row in connection.execute(TAKE, {"limit": limit})]


def sent(connection: Connection, keys: Sequence[str]) -> None:
    connection.execute(SENT, {"keys": list(keys)})


def refused(connection: Connection, key: str, error: str) -> None:
    """Put off what the broker did not take: half a second at first, LONGEST_PAUSE at most."""
    connection.execute(REFUSED, {"key": key, "error": error, "longest": LONGEST_PAUSE})


def seconds_to_next(connection: Connection) -> float | None:
    """Until an event is due; none where none waits."""
    found: float | None = connection.execute(NEXT).scalar_one()
    return None if found is None else float(found)


def forget(connection: Connection, limit: int) -> int:
    """Delete what was sent long ago. Returns how many."""
    return connection.execute(FORGET, {"limit": limit}).rowcount
