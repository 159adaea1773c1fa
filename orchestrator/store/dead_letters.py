"""Dead letters, bounded in number and size, and what counts them. Across tenants: they are the operator's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

KEPT = 200  # of each reason, the newest: one flood does not wash away the others
FORGOTTEN = "7 days"  # a message that has not come back for so long will not come back

# First the counters, always in the same order, which make those who come at once wait for each other; then the letters.
COUNT = text(
    """
    INSERT INTO dead_letter_count AS c (reason, count, last_at) VALUES (:reason, :count, (SELECT clock_now()))
    ON CONFLICT (reason) DO UPDATE SET count = c.count + excluded.count, last_at = excluded.last_at
    """
)
PUT = text(
    """
    INSERT INTO dead_letter (reason, queue, error, content, size, worker)
    VALUES (:reason, :queue, :error, :content, :size, :worker)
    """
)
TRIM = text(
    f"""
    DELETE FROM dead_letter WHERE id IN (
      SELECT id FROM dead_letter WHERE reason = :reason ORDER BY id DESC OFFSET {KEPT})
    """
)
LISTED = text(
    """
    SELECT id, reason, queue, error, content, size, worker, time FROM dead_letter
    WHERE CAST(:reason AS text) IS NULL OR reason = :reason ORDER BY id DESC LIMIT :limit
    """
)
COUNTS = text("SELECT reason, count AS count_ FROM dead_letter_count ORDER BY reason")
KEPT_NOW = text("SELECT reason, count(*), max(time) FROM dead_letter GROUP BY reason ORDER BY reason")
CLEAR = text("DELETE FROM dead_letter WHERE CAST(:reason AS text) IS NULL OR reason = :reason")
CAME_BACK = text(
    """
    INSERT INTO redelivery AS r (message, count, seen_at) VALUES (:message, 1, (SELECT clock_now()))
    ON CONFLICT (message) DO UPDATE SET count = r.count + 1, seen_at = excluded.seen_at RETURNING count
    """
)
# The whole table, of some hundreds.
AGE = text("DELETE FROM dead_letter WHERE time < (SELECT clock_now()) - make_interval(secs => :older_than)")
# Served by redelivery_old.
FORGET = text(f"DELETE FROM redelivery WHERE seen_at < (SELECT clock_now()) - interval '{FORGOTTEN}'")


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A message that no task can take."""

    reason: str
    queue: str
    error: str
    content: str  # the beginning of it
    size: int  # bytes of the whole
    worker: str


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One that was kept."""

    id: int
    letter: Letter
    time: datetime


def put(connection: Connection, letters: Sequence[Letter]) -> None:
    counted = [{"reason": reason, "count": n} for reason, n in sorted(Counter(one.reason for one in letters).items())]
    for one in counted:
        connection.execute(COUNT, one)
    connection.execute(PUT, [vars(letter) for letter in letters])
    for one in counted:
        connection.execute(TRIM, {"reason": one["reason"]})


def listed(connection: Connection, reason: str | None, limit: int) -> Sequence[Kept]:
    """The newest first; `reason`: none: of any."""
    found = connection.execute(LISTED, {"reason": reason, "limit": limit}).mappings()
    return [
        Kept(id=row["id"], time=row["time"], letter=Letter(**{name: row[name] for name in Letter.__annotations__}))
        for row in found
    ]


def counts(connection: Connection) -> dict[str, int]:
    """How many there ever were, by reason."""
    return {row.reason: row.count_ for row in connection.execute(COUNTS)}


def kept(connection: Connection) -> dict[str, tuple[int, datetime]]:
    """How many are kept, and since when the newest is, by reason."""
    return {reason: (count, newest) for reason, count, newest in connection.execute(KEPT_NOW)}


def clear(connection: Connection, reason: str | None) -> int:
    """Delete what is kept; what was counted stays counted. Returns how many."""
    return connection.execute(CLEAR, {"reason": reason}).rowcount


def came_back(connection: Connection, message: str) -> int:
    """Note that a broker has delivered a message again. Returns how often it has by now."""
    return int(connection.execute(CAME_BACK, {"message": message}).scalar_one())


def forget(connection: Connection, *, older_than: float) -> int:
    """Letters older than so many seconds, and messages that have not come back for long. Returns how many letters."""
    connection.execute(FORGET)
    return connection.execute(AGE, {"older_than": older_than}).rowcount
