"""The liveness phase: nothing is broken any more, so everything has to end, or be visibly parked, within a bound.

The bound is counted from the moment when the last fault has ended, every process was started and the servers answer. It adds up what an
instance may have to sit out in the worst case, once each, and what the backlog takes:

- START: a process that was just started has to be there, and Celery to have found its broker again (it tries at growing
  intervals).
- the attempt's limit and the lease: the last call of a process that was killed at the last moment counts as under way.
- two sweeps, to see that and to publish what was lost; and the grace before a message counts as lost.
- the longest that a workflow of this run waits by its definition: two waits for a decision, of 4 + 4 and 5 seconds.
- LATE_REPLY: the service may sleep over the reply that it owes.
- the backlog: what was under way when the faults ended, at the rate RATE that this machine surely manages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psycopg

from tests.chaos.ledger_service import SLOW
from tests.chaos.run import options
from tests.chaos.run.arena import Arena

START = 15.0
WAITS = 13.0
RATE = 8.0  # instances a second
FIXED = START + options.LIMIT + options.LEASE + 2 * options.SWEEP_EVERY + options.REPUBLISH_AFTER + WAITS + SLOW
LOOK_EVERY = 0.2

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
    backlog: int
    bound: float
    took: float | None  # none: not within the bound
    left: tuple[str, ...]  # what was open then


def wait_for_all(arena: Arena, say: Callable[[str], None], is_started: Callable[[], bool]) -> Ending:
    """`is_started`: whether every start has been answered; until then more may come."""
    began = time.monotonic()
    with psycopg.connect(arena.settings.database_url or "", autocommit=True) as connection:
        backlog = _open(connection)
        bound = FIXED + backlog / RATE
        say(f"the last fault has ended: {backlog} instances are under way, and have {bound:.0f} s")
        while (still := _open(connection) or not is_started()) and time.monotonic() - began < bound:
            time.sleep(LOOK_EVERY)
        took = time.monotonic() - began
        left = [_told(row) for row in connection.execute(LEFT)] if still else []
    return Ending(backlog=backlog, bound=bound, took=None if still else took, left=tuple(left))


def _open(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    row = connection.execute(OPEN).fetchone()
    assert row is not None
    assert isinstance(row[0], int)
    return row[0]


def _told(row: tuple[object, ...]) -> str:
    names = ("instance", "workflow", "status", "reason", "step", "phase", "state", "attempt", "queue", "worker", "published",
             "lease", "limit", "due", "ready", "deferred", "error", "now")  # fmt: skip
    told: Mapping[str, object] = dict(zip(names, row, strict=True))
    return " ".join(f"{name}={value}" for name, value in told.items() if value is not None)
