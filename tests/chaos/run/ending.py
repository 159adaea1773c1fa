"""The liveness phase: nothing is broken any more, so everything has to end, or be visibly parked.

It begins when the last fault has ended, every process was started again and the servers answer; then nobody may rest.
Each instance that is open has to write history itself: at the latest after STILL, which adds up what can stand between
two entries of one that was hit by the last fault.

- the attempt's limit: a call may be under way for so long; and the lease, for who held it may have been killed
- two sweeps: one to see that, one to publish what was lost; and the grace before a message counts as lost
- the longest that anything waits here by its definition: a workflow for 5 s, a lane whose breaker is open for ten times
  its pause; and what the services may sleep over a reply

In the beginning, the processes are given thrice the time that they took at the start of the run: this time all start at
once. Where the machine was slow with the whole backlog, a turn in it is granted besides (see `stillness.turn`). It is
judged at the end, by the history; so what was lost for good is found STILL after everything else has ended. And there is
an end to patience: START + STILL + the backlog at RATE, where this machine surely manages more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psycopg

from tests.chaos.ledger_service import SLOW
from tests.chaos.run import options, stillness
from tests.chaos.run.arena import Arena
from tests.chaos.run.figures import spread
from tests.chaos.run.stillness import Bound, Course

WAIT = 10.0
STILL = options.LIMIT + options.LEASE + 2 * options.SWEEP_EVERY + options.REPUBLISH_AFTER + WAIT + SLOW
RATE = 1.0  # instances a second
STARTS = 3  # times the start of the run
LOOK_EVERY = 0.2

ENTRIES = "SELECT coalesce(sum(history_seq), 0)::int FROM instance"
OPEN = "SELECT count(*) FROM instance WHERE ended_at IS NULL AND status <> 'STUCK'"
LEFT = """
SELECT i.id, i.workflow_id, i.status, i.reason, s.step, s.phase, s.state, s.attempt, s.queue, s.worker, s.published_at,
  s.lease_until, s.limit_until, s.due_at, s.ready_at, s.deferred, s.error, clock_now()
FROM instance i LEFT JOIN step s ON s.instance_id = i.id
  AND s.state IN ('READY', 'RUNNING', 'RETRYING', 'WAITING', 'COMPENSATING', 'UNKNOWN')
WHERE i.ended_at IS NULL AND i.status <> 'STUCK' ORDER BY i.id LIMIT 100
"""


@dataclass(frozen=True, kw_only=True)
class Ending:
    took: float | None  # seconds; none: not all have ended
    left: tuple[str, ...] = ()  # what is open
    courses: tuple[Course, ...] = ()
    bound: Bound = field(default_factory=lambda: Bound(since=0.0, start=0.0, still=STILL, turn=0.0))
    until: float = 0.0  # seconds of the epoch, by Postgres: when it was over

    @property
    def idle(self) -> tuple[str, ...]:
        return tuple(stillness.idle(self.courses, self.bound, self.until))

    def tell(self, say: Callable[[str], None]) -> None:
        since = self.bound.since
        gaps = sorted(stillness.longest(one, since, self.until) for one in self.courses)
        ends = sorted(one.ended - max(one.began, since) for one in self.courses if one.ended is not None)
        say(f"the ending, by instance: the longest time without an entry {spread(gaps)}, of {self.bound.still:.0f} s and "
            f"{self.bound.turn:.1f} s for a turn in the backlog, in the beginning {self.bound.start:.0f} s more; "
            f"from the last fault to its end {spread(ends)}")  # fmt: skip


def wait_for_all(arena: Arena, say: Callable[[str], None], is_started: Callable[[], bool]) -> Ending:
    """`is_started`: whether every start has been answered; until then more may come."""
    began = time.monotonic()
    with psycopg.connect(arena.settings.database_url or "", autocommit=True) as connection:
        since, start = stillness.moment(connection), STARTS * arena.booted_within
        took = _wait(arena, connection, say, start, is_started)
        left = () if took else tuple(_told(row) for row in connection.execute(LEFT))
        courses = stillness.read(connection, since)
        bound = Bound(since=since, start=start, still=STILL, turn=stillness.turn(courses, since, start, RATE))
        return Ending(
            took=time.monotonic() - began if took else None, left=left, courses=tuple(courses), bound=bound,
            until=stillness.moment(connection),
        )  # fmt: skip


def _wait(arena: Arena, connection: psycopg.Connection[tuple[object, ...]], say: Callable[[str], None], start: float,
          is_started: Callable[[], bool]) -> bool:  # fmt: skip
    """Whether all have ended. It gives up when nothing at all moves any more."""
    began, backlog = time.monotonic(), _ask(connection, OPEN)
    patience = start + STILL + backlog / RATE
    say(f"the last fault has ended, and {backlog} instances are under way. Each may be still for {STILL:.0f} s, "
        f"in the beginning for {start + STILL:.0f} s, and all have {patience:.0f} s")  # fmt: skip
    entries, moved = 0, began + start
    while _ask(connection, OPEN) or not is_started():
        time.sleep(LOOK_EVERY)
        for member in arena.ours:
            member.supervise()
        if (found := _ask(connection, ENTRIES)) != entries:
            entries, moved = found, max(moved, time.monotonic())
        if time.monotonic() > min(moved + STILL, began + patience):
            return False
    return True


def _ask(connection: psycopg.Connection[tuple[object, ...]], question: str) -> int:
    row = connection.execute(question.encode()).fetchone()
    assert row is not None
    assert isinstance(row[0], int)
    return row[0]


def _told(row: tuple[object, ...]) -> str:
    names = ("instance", "workflow", "status", "reason", "step", "phase", "state", "attempt", "queue", "worker", "published",
             "lease", "limit", "due", "ready", "deferred", "error", "now")  # fmt: skip
    told: Mapping[str, object] = dict(zip(names, row, strict=True))
    return " ".join(f"{name}={value}" for name, value in told.items() if value is not None)
