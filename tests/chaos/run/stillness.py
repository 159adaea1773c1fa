"""How long each instance has stood still in the liveness phase: by the history alone, in Postgres' time. Pure, but for `read`.

That others move is no excuse for one that does not: each is judged by itself. A parent moves with its sub-workflows, for
it waits for them and writes nothing meanwhile. What had ended and is recalled was not late before that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

NOW = "SELECT extract(epoch FROM clock_now())::float"
COURSES = """
SELECT i.id::text, i.workflow_id, i.status, extract(epoch FROM i.started_at)::float, extract(epoch FROM i.ended_at)::float,
  (SELECT coalesce(array_agg(extract(epoch FROM h.time)::float ORDER BY h.time, h.seq), '{}')
   FROM instance f JOIN history h ON h.instance_id = f.id WHERE i.id IN (f.id, f.parent_id)
     AND h.time >= to_timestamp(%(since)s)),
  (SELECT coalesce(array_agg(extract(epoch FROM h.time)::float), '{}') FROM history h WHERE h.instance_id = i.id
     AND h.step IS NULL AND h.verb IN ('recall', 'restart') AND h.time >= to_timestamp(%(since)s))
FROM instance i WHERE i.ended_at IS NULL OR i.ended_at >= to_timestamp(%(since)s) ORDER BY i.id
"""


@dataclass(frozen=True, kw_only=True)
class Course:
    """What one instance has done since the last fault. Times are seconds of the epoch."""

    instance: str
    workflow: str
    status: str
    began: float  # when it was started
    ended: float | None
    entries: Sequence[float]  # its own and those of its sub-workflows, in order
    woken: Sequence[float] = ()  # those of them before which it had ended

    @property
    def is_parked(self) -> bool:
        return self.status == "STUCK"


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What an instance may take between two entries."""

    since: float  # the last fault has ended
    start: float  # seconds more in the beginning, when all processes start at once
    still: float  # seconds
    turn: float  # seconds that the backlog in front of it may need

    @property
    def allowed(self) -> float:
        return self.still + self.turn


def read(connection: psycopg.Connection[Any], since: float) -> list[Course]:
    """Of all that were open then, or have begun since."""
    rows = connection.execute(COURSES.encode(), {"since": since}).fetchall()
    names = ("instance", "workflow", "status", "began", "ended", "entries", "woken")
    return [Course(**dict(zip(names, row, strict=True))) for row in rows]


def moment(connection: psycopg.Connection[Any]) -> float:
    row = connection.execute(NOW.encode()).fetchone()
    assert row is not None
    return float(row[0])


def longest(course: Course, since: float, until: float) -> float:
    """Seconds of its longest time without an entry, from `since` on; what is open stands still until now."""
    last, found = max(course.began, since), 0.0
    for at in course.entries:
        if at not in course.woken:
            found = max(found, at - last)
        last = max(at, last)
    is_open = course.ended is None and not course.is_parked
    return max(found, until - last) if is_open else found


def turn(courses: Sequence[Course], since: float, start: float, rate: float) -> float:
    """Seconds that an instance may have to wait behind all others: had half of them ended some time after the start, then
    all would have, had there been nothing but work, at twice that. Never more than they need at `rate` a second."""
    backlog = [one for one in courses if one.began < since]
    ends = sorted(one.ended - since if one.ended else float("inf") for one in backlog)
    half = ends[(len(ends) - 1) // 2] if ends else 0.0
    return min(2 * max(0.0, half - start), len(backlog) / rate)


def idle(courses: Sequence[Course], bound: Bound, until: float) -> Iterator[str]:
    """Each that has stood still for longer than it may."""
    for one in courses:
        found = longest(one, bound.since + bound.start, until)
        if found > bound.allowed:
            yield (f"{one.instance} ({one.workflow}, {one.status}) wrote no history for {found:.1f} s, and "
                   f"{bound.allowed:.1f} s are allowed")  # fmt: skip
