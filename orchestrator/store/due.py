"""What is due: unpublished work, lost messages, expired leases, deadlines. Reads without locks.

A sweep reads ids here, and the transition that follows locks and checks again; so everything here may be stale, and
ten sweeps at once are harmless. Each statement names the index that serves it; the clock is read in a subquery, for an
index is not searched by a volatile function.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.attempts import Attempt
from orchestrator.states import Phase


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A step that a message has been promised for."""

    instance_id: str
    tenant: str
    version_id: str
    step: str
    phase: Phase
    queue: str
    service: str | None
    alone: bool
    escalated: bool = False


# The tenants and queues that have something unpublished, one index probe each (a loose scan of step_unpublished).
GROUPS = """
RECURSIVE waiting AS (
  (SELECT tenant, queue FROM step WHERE state IN ('READY', 'RETRYING') AND published_at IS NULL AND deferred IS NULL
   ORDER BY tenant, queue LIMIT 1)
  UNION ALL
  SELECT next.tenant, next.queue FROM waiting, LATERAL (
    SELECT tenant, queue FROM step WHERE state IN ('READY', 'RETRYING') AND published_at IS NULL AND deferred IS NULL
      AND (tenant, queue) > (waiting.tenant, waiting.queue) ORDER BY tenant, queue LIMIT 1) next)
"""

# Round robin by tenant: the first of each, then the second of each …; no more than the window leaves room for.
# The instances are looked up one by one: a join would be planned for all there are, and read them all for every round.
# All of a round get one stamp, for they are not sent in the order in which they are stamped: with a stamp each, the
# first of them to be claimed would seem to have overtaken the others.
PUBLISH = text(f"""
WITH {GROUPS},
chosen AS (
  SELECT s.instance_id, s.step, s.phase FROM waiting w
  CROSS JOIN LATERAL (
    SELECT count(*) AS flying FROM step WHERE state IN ('READY', 'RETRYING') AND published_at IS NOT NULL
      AND tenant = w.tenant AND queue = w.queue) f
  CROSS JOIN LATERAL (
    SELECT s.instance_id, s.step, s.phase, row_number() OVER (ORDER BY s.ready_at) AS turn
    FROM step s WHERE s.tenant = w.tenant AND s.queue = w.queue AND s.state IN ('READY', 'RETRYING')
      AND s.published_at IS NULL AND s.deferred IS NULL AND s.ready_at <= (SELECT clock_now())
      AND (SELECT i.suspended_at IS NULL FROM instance i WHERE i.id = s.instance_id)
    ORDER BY s.ready_at LIMIT greatest(:window - f.flying, 0)) s
  ORDER BY s.turn LIMIT :limit),
locked AS MATERIALIZED (
  SELECT s.instance_id, s.step, s.phase FROM step s JOIN chosen USING (instance_id, step, phase)
  WHERE s.published_at IS NULL AND s.state IN ('READY', 'RETRYING') FOR NO KEY UPDATE OF s SKIP LOCKED)
UPDATE step s SET published_at = (SELECT clock_now()) FROM locked l
WHERE s.instance_id = l.instance_id AND s.step = l.step AND s.phase = l.phase
RETURNING s.instance_id, s.tenant, s.version_id, s.step, s.phase, s.queue, s.service, s.alone, s.escalated
""")

# This and EXTEND touch many instances without their locks, so they wait for nobody: a wave that is being recorded
# holds some of these rows and may be about to ask for others. Whoever holds one is moving it on anyway.
FREE = """
free AS MATERIALIZED (
  SELECT s.instance_id, s.step, s.phase FROM step s
  JOIN json_to_recordset(CAST(:rows AS json)) AS t(instance_id uuid, step text, phase text)
    ON s.instance_id = t.instance_id AND s.step = t.step AND s.phase = t.phase
  WHERE s.state IN ('READY', 'RETRYING') FOR NO KEY UPDATE OF s SKIP LOCKED)
"""
UNPUBLISH = text(f"""
WITH {FREE}
UPDATE step s SET published_at = NULL FROM free
WHERE s.instance_id = free.instance_id AND s.step = free.step AND s.phase = free.phase
""")

# How long until something that is not due yet will be: what the dispatcher may sleep. (step_next_ready)
NEXT_DUE = text("""
SELECT extract(epoch FROM min(ready_at) - (SELECT clock_now())) FROM step
WHERE state IN ('READY', 'RETRYING') AND published_at IS NULL AND deferred IS NULL AND ready_at > (SELECT clock_now())
""")

# Published long ago, and either overtaken by messages that were sent later and have been claimed (the watermark), or
# in one of the queues that the broker says are empty. A row that was republished sets no watermark: its first message
# may be the one that was claimed, and its stamp is the second's, before which nothing needs to be lost: a backlog
# would republish itself again and again. (step_published, step_claimed)
FLYING_QUEUES = text("""
SELECT DISTINCT queue FROM step WHERE state IN ('READY', 'RETRYING') AND published_at < (SELECT clock_now())
  - make_interval(secs => :grace)
""")
REPUBLISH = text("""
UPDATE step s SET published_at = NULL, republished = true WHERE (s.instance_id, s.step, s.phase) IN (
  SELECT instance_id, step, phase FROM step
  WHERE queue = :queue AND state IN ('READY', 'RETRYING') AND published_at < (SELECT clock_now()) - make_interval(secs => :grace)
    AND (:empty OR published_at < (
      SELECT published_at FROM step WHERE queue = :queue AND published_at IS NOT NULL AND NOT republished
        AND state NOT IN ('READY', 'RETRYING') ORDER BY published_at DESC LIMIT 1))
  ORDER BY published_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED)
""")

# Before the reads of a sweep and of the dispatcher, in their transaction. The policies of tenants are estimated to let
# one row in two hundred through, though for the engine it is all: so a plan that reads all that is due and sorts it seems
# cheaper than to read the first of an index, and a hundred thousand deadlines would all be read again for every batch
# of them. The estimated costs would also have each statement compiled (jit), which takes longer than it does.
FROM_THE_INDEX = text("""
SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true),
  set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)
""")

# An instance that could not be swept is put off, so that it does not fill the batch of every sweep.
NOT_PUT_OFF = "EXISTS (SELECT FROM instance i WHERE i.id = s.instance_id AND (i.sweep_after IS NULL OR i.sweep_after <= (SELECT clock_now())))"
LOST = text(f"""
SELECT DISTINCT instance_id FROM (
  SELECT instance_id FROM step s WHERE state = 'RUNNING' AND lease_until < (SELECT clock_now()) AND {NOT_PUT_OFF}
  ORDER BY lease_until LIMIT :limit) s
""")
# What a process has under way. (step_worker)
HELD = text(
    "SELECT DISTINCT instance_id FROM step WHERE state = 'RUNNING' AND worker = :worker AND lease_until IS NOT NULL"
)
OVERDUE = text(f"""
SELECT DISTINCT instance_id FROM (
  SELECT instance_id FROM step s WHERE state = 'WAITING' AND due_at <= (SELECT clock_now()) AND {NOT_PUT_OFF}
  ORDER BY due_at LIMIT :limit) s
""")
DEADLINES = text("""
SELECT id FROM instance WHERE deadline_at <= (SELECT clock_now()) AND ended_at IS NULL AND outcome IS NULL
  AND (sweep_after IS NULL OR sweep_after <= (SELECT clock_now())) ORDER BY deadline_at LIMIT :limit
""")
PUT_OFF = text("""
UPDATE instance SET sweep_after = (SELECT clock_now()) + make_interval(secs => :seconds) WHERE id = CAST(:id AS uuid)
""")

# A step that cannot be published: unpublished, put off, and shown with the reason.
CANNOT_PUBLISH = text(f"""
WITH {FREE}
UPDATE step s SET published_at = NULL, ready_at = (SELECT clock_now()) + make_interval(secs => :seconds),
  error = :error FROM free
WHERE s.instance_id = free.instance_id AND s.step = free.step AND s.phase = free.phase
""")
REROUTE = text(f"""
WITH {FREE}
UPDATE step s SET queue = :queue FROM free
WHERE s.instance_id = free.instance_id AND s.step = free.step AND s.phase = free.phase
""")

EXTEND = text("""
WITH free AS MATERIALIZED (
  SELECT instance_id, step, phase FROM step
  WHERE worker = :worker AND state = 'RUNNING' AND lease_until > (SELECT clock_now())
  FOR NO KEY UPDATE SKIP LOCKED)
UPDATE step s SET lease_until = least((SELECT clock_now()) + make_interval(secs => :lease), s.limit_until) FROM free
WHERE s.instance_id = free.instance_id AND s.step = free.step AND s.phase = free.phase
""")
# Taken anew just before a send that comes late: only by who still holds it.
RENEW = text("""
UPDATE step SET limit_until = clock_now() + make_interval(secs => :limit),
  lease_until = clock_now() + make_interval(secs => least(:lease, :limit))
WHERE instance_id = CAST(:id AS uuid) AND step = :step AND phase = :phase AND state = 'RUNNING'
  AND attempt = :attempt AND worker = :worker AND lease_until > (SELECT clock_now())
""")

# Whatever of some instances a message is promised for: it is promised anew, to whoever says it again. (primary key)
AGAIN = text("""
WITH free AS MATERIALIZED (
  SELECT instance_id, step, phase FROM step
  WHERE instance_id = ANY(CAST(:ids AS uuid[])) AND state IN ('READY', 'RETRYING') AND published_at IS NOT NULL
  FOR NO KEY UPDATE SKIP LOCKED)
UPDATE step s SET published_at = (SELECT clock_now()) FROM free
WHERE s.instance_id = free.instance_id AND s.step = free.step AND s.phase = free.phase
RETURNING s.instance_id, s.tenant, s.version_id, s.step, s.phase, s.queue, s.service, s.alone, s.escalated
""")

Key = tuple[str, str, Phase]  # instance id, step, phase


def claim_for_publishing(connection: Connection, *, window: int, limit: int) -> list[Ready]:
    """Mark up to `limit` steps as published, and return them; the caller publishes after its commit."""
    found = connection.execute(PUBLISH, {"window": window, "limit": limit})
    return [ready_of(row) for row in found]


def ready_of(row: Any) -> Ready:
    """Of the columns that PUBLISH returns."""
    return Ready(instance_id=row[0].hex, tenant=row[1], version_id=row[2].hex, step=row[3], phase=row[4], queue=row[5],
                 service=row[6], alone=row[7], escalated=row[8])  # fmt: skip


def unpublish(connection: Connection, rows: Sequence[Key]) -> None:
    """No message carries these steps after all."""
    connection.execute(UNPUBLISH, {"rows": _told(rows)})


def promised(connection: Connection, instances: Sequence[str]) -> list[Ready]:
    """The steps of instances that messages are under way for; the caller publishes them once more after its commit."""
    return [ready_of(row) for row in connection.execute(AGAIN, {"ids": list(instances)})]


def cannot_publish(connection: Connection, rows: Sequence[Key], *, error: str, seconds: float) -> None:
    """Put steps off for some seconds, and let their `error` say why."""
    connection.execute(CANNOT_PUBLISH, {"rows": _told(rows), "error": error, "seconds": seconds})


def reroute(connection: Connection, rows: Sequence[Key], queue: str) -> None:
    """Their lane has another queue now than when they became READY."""
    connection.execute(REROUTE, {"rows": _told(rows), "queue": queue})


def _told(rows: Sequence[Key]) -> str:
    return json.dumps([{"instance_id": instance, "step": step, "phase": phase} for instance, step, phase in rows])


def read_from_the_index(connection: Connection) -> None:
    """For the rest of this transaction: what is first in an index is not looked for by reading all of it."""
    connection.execute(FROM_THE_INDEX)


def lost_instances(connection: Connection, limit: int) -> list[str]:
    """Instances with a step whose lease has run out."""
    return [row[0].hex for row in connection.execute(LOST, {"limit": limit})]


def held_instances(connection: Connection, worker: str) -> list[str]:
    """Instances with a step that a process runs."""
    return [row[0].hex for row in connection.execute(HELD, {"worker": worker})]


def overdue_instances(connection: Connection, limit: int) -> list[str]:
    """Instances with a step that has waited past its deadline."""
    return [row[0].hex for row in connection.execute(OVERDUE, {"limit": limit})]


def past_deadline(connection: Connection, limit: int) -> list[str]:
    return [row[0].hex for row in connection.execute(DEADLINES, {"limit": limit})]


def flying_queues(connection: Connection, grace: float) -> list[str]:
    """Queues with a message that nobody has claimed for `grace` seconds."""
    return list(connection.execute(FLYING_QUEUES, {"grace": grace}).scalars())


def republish(connection: Connection, *, queue: str, grace: float, empty: bool, limit: int) -> int:
    values = {"queue": queue, "grace": grace, "empty": empty, "limit": limit}
    return connection.execute(REPUBLISH, values).rowcount


def put_off(connection: Connection, instance: str, seconds: float) -> None:
    """Look at an instance that cannot be swept again only later; no state and no deadline is touched."""
    connection.execute(PUT_OFF, {"id": instance, "seconds": seconds})


def seconds_to_next(connection: Connection) -> float | None:
    found = connection.execute(NEXT_DUE).scalar_one()
    return float(found) if found is not None else None


def extend_leases(connection: Connection, *, worker: str, lease: float) -> int:
    """Extend every unexpired lease of a process, in one statement, but none beyond its attempt's own limit."""
    return connection.execute(EXTEND, {"worker": worker, "lease": lease}).rowcount


def renew(connection: Connection, attempt: Attempt, *, lease: float, limit: float) -> bool:
    """Give an attempt that still holds its lease a whole one again, in seconds; false when somebody else has it."""
    values = {"id": attempt.instance, "step": attempt.step, "phase": attempt.phase, "attempt": attempt.attempt,
              "worker": attempt.worker, "lease": lease, "limit": limit}  # fmt: skip
    return connection.execute(RENEW, values).rowcount == 1
