"""The liveness phase: nothing is broken any more, so everything has to end, or be visibly parked.

It begins when the last fault has ended, every process was started again and the servers answer; then nobody may rest.
While anything is open, the history has to grow: at the latest after STILL, which adds up what can stand between two
entries of an instance that was hit by the last fault.

- the attempt's limit: a call may be under way for so long; and the lease, for who held it may have been killed
- two sweeps: one to see that, one to publish what was lost; and the grace before a message counts as lost
- the longest that a workflow of this run waits by its definition, and what the services may sleep over a reply

So what was lost for good is found STILL after everything else has ended, however slow the machine. In the beginning, the
processes are given thrice the time that they took at the start of the run: this time all start at once. And there is an
end to patience: START + STILL + the backlog at RATE, where this machine surely manages more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psycopg

from tests.chaos.ledger_service import SLOW
from tests.chaos.run import options
from tests.chaos.run.arena import Arena

WAIT = 5.0
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
    left: tuple[str, ...]  # what is open


def wait_for_all(arena: Arena, say: Callable[[str], None], is_started: Callable[[], bool]) -> Ending:
    """`is_started`: whether every start has been answered; until then more may come."""
    began = time.monotonic()
    with psycopg.connect(arena.settings.database_url or "", autocommit=True) as connection:
        backlog, start = _ask(connection, OPEN), STARTS * arena.booted_within
        patience = start + STILL + backlog / RATE
        say(f"the last fault has ended, and {backlog} instances are under way. They may be still for {STILL:.0f} s, "
            f"in the beginning for {start + STILL:.0f} s, and have {patience:.0f} s in all")  # fmt: skip
        entries, moved = 0, began + start
        while _ask(connection, OPEN) or not is_started():
            time.sleep(LOOK_EVERY)
            for member in arena.ours:
                member.supervise()
            if (found := _ask(connection, ENTRIES)) != entries:
                entries, moved = found, max(moved, time.monotonic())
            if time.monotonic() > min(moved + STILL, began + patience):
                return Ending(took=None, left=tuple(_told(row) for row in connection.execute(LEFT)))
    return Ending(took=time.monotonic() - began, left=())


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
