"""Steps that their lane keeps waiting: put aside, and let in again as the lane takes them.

They are READY or RETRYING as before, and no message carries them. Nothing here waits for a step that somebody holds
(SKIP LOCKED): who holds it is moving it on anyway, and a lane is locked meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.admission import Refusal
from orchestrator.states import Phase
from orchestrator.store.due import Key, Ready, ready_of

SHUT = "('held', 'breaker')"
LIMITS = "('concurrency', 'rate')"

# One whose time is up is not put aside: it is claimed as it always was, found to be overdue, and nothing is sent. (Or it has
# to be asked for, which its lane may refuse: then the claim puts it aside.)
PUT_ASIDE = text("""
WITH free AS MATERIALIZED (
  SELECT s.instance_id, s.step, s.phase, t.gate, t.reason, t.budget FROM step s
  JOIN json_to_recordset(CAST(:rows AS json))
    AS t(instance_id uuid, step text, phase text, gate text, reason text, budget float8)
    ON s.instance_id = t.instance_id AND s.step = t.step AND s.phase = t.phase
  WHERE s.state IN ('READY', 'RETRYING') AND (s.budget_until IS NULL OR s.budget_until > (SELECT clock_now()))
  FOR NO KEY UPDATE OF s SKIP LOCKED)
UPDATE step s SET published_at = NULL, gate = free.gate, deferred = free.reason,
  budget_until = coalesce(s.budget_until, (SELECT clock_now()) + make_interval(secs => free.budget)) FROM free
WHERE s.instance_id = free.instance_id AND s.step = free.step AND s.phase = free.phase
RETURNING s.instance_id, s.step, s.phase
""")

# The lanes that somebody waits for, one index probe each (a loose scan of step_deferred).
GATES = text("""
WITH RECURSIVE waiting AS (
  (SELECT gate FROM step WHERE deferred IS NOT NULL ORDER BY gate LIMIT 1)
  UNION ALL
  SELECT next.gate FROM waiting, LATERAL (
    SELECT gate FROM step WHERE deferred IS NOT NULL AND gate > waiting.gate ORDER BY gate LIMIT 1) next)
SELECT gate FROM waiting
""")

# Round robin by tenant, the longest waiting of each; by chance who of the tenants goes first, for often there is room
# for one only. The instances are looked up one by one: a join would be planned for the whole backlog. (step_deferred)
LET_IN = text("""
WITH RECURSIVE tenants AS (
  (SELECT tenant FROM step WHERE deferred IS NOT NULL AND gate = :gate ORDER BY tenant LIMIT 1)
  UNION ALL
  SELECT next.tenant FROM tenants, LATERAL (
    SELECT tenant FROM step WHERE deferred IS NOT NULL AND gate = :gate AND tenant > tenants.tenant
    ORDER BY tenant LIMIT 1) next),
chosen AS (
  SELECT s.instance_id, s.step, s.phase FROM tenants t CROSS JOIN LATERAL (
    SELECT s.instance_id, s.step, s.phase, row_number() OVER (ORDER BY s.ready_at) AS turn
    FROM step s WHERE s.deferred IS NOT NULL AND s.gate = :gate AND s.tenant = t.tenant
      AND (SELECT i.suspended_at IS NULL FROM instance i WHERE i.id = s.instance_id)
    ORDER BY s.ready_at LIMIT :room) s
  ORDER BY s.turn, random() LIMIT :room),
locked AS MATERIALIZED (
  SELECT s.instance_id, s.step, s.phase FROM step s JOIN chosen USING (instance_id, step, phase)
  WHERE s.deferred IS NOT NULL AND s.state IN ('READY', 'RETRYING') FOR NO KEY UPDATE OF s SKIP LOCKED)
UPDATE step s SET deferred = NULL, published_at = (SELECT clock_now()) FROM locked l
WHERE s.instance_id = l.instance_id AND s.step = l.step AND s.phase = l.phase
RETURNING s.instance_id, s.tenant, s.version_id, s.step, s.phase, s.queue, s.service, s.alone, s.escalated
""")
# Not those of suspended instances: nothing claims by their messages, so they would keep room that nobody uses.
PUBLISHED = text("""
SELECT count(*) FROM step s WHERE gate = :gate AND state IN ('READY', 'RETRYING') AND published_at IS NOT NULL
  AND (SELECT i.suspended_at IS NULL FROM instance i WHERE i.id = s.instance_id)
""")

COUNTS = text("SELECT gate, count(*) FROM step WHERE deferred IS NOT NULL GROUP BY gate")


def _let_go(condition: str) -> Any:
    """Back to where the dispatcher finds them."""
    return text(f"""
UPDATE step SET deferred = NULL, gate = NULL WHERE (instance_id, step, phase) IN (
  SELECT instance_id, step, phase FROM step WHERE deferred IS NOT NULL AND {condition}
  LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED)
""")


LET_GO = _let_go("gate = :gate")
LET_GO_LIMITED = _let_go(f"gate = :gate AND deferred IN {LIMITS}")  # (step_deferred_why)
# Who still has to be asked for waits for the lane all the same: let go, he would only be put aside again. (step_deferred_due)
LET_GO_OVERDUE = _let_go("budget_until <= (SELECT clock_now()) AND NOT (uncertain AND gate = ANY(:asked))")
CALL_LIMITED = text(f"""
UPDATE step SET deferred = :reason WHERE (instance_id, step, phase) IN (
  SELECT instance_id, step, phase FROM step WHERE deferred IN {SHUT} AND gate = :gate
  LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED)
""")


@dataclass(frozen=True, kw_only=True)
class Aside:
    """A step to put aside."""

    instance_id: str
    step: str
    phase: Phase
    gate: str
    reason: Refusal
    budget: float | None  # seconds that begin to run now, unless its budget runs already


def put_aside(connection: Connection, rows: Sequence[Aside]) -> set[Key]:
    """Returns which now wait; the others are held by somebody, or their time is up."""
    told = json.dumps([asdict(row) for row in rows])
    return {(row[0].hex, row[1], row[2]) for row in connection.execute(PUT_ASIDE, {"rows": told})}


def gates(connection: Connection) -> list[str]:
    """The lanes that steps wait for."""
    return list(connection.execute(GATES).scalars())


def let_in(connection: Connection, gate: str, room: int) -> list[Ready]:
    """Mark up to `room` of a lane's as published, and return them; the caller publishes after its commit."""
    return [ready_of(row) for row in connection.execute(LET_IN, {"gate": gate, "room": room})]


def published(connection: Connection, gate: str) -> int:
    """Of a lane: how many messages are on their way."""
    return int(connection.execute(PUBLISHED, {"gate": gate}).scalar_one())


def let_go(connection: Connection, gate: str, limit: int) -> int:
    """All, for the lane has no limit (any more)."""
    return connection.execute(LET_GO, {"gate": gate, "limit": limit}).rowcount


def let_go_limited(connection: Connection, gate: str, limit: int) -> int:
    """Those who waited for their turn, for the lane is shut now: the dispatcher puts them aside anew, for that reason."""
    return connection.execute(LET_GO_LIMITED, {"gate": gate, "limit": limit}).rowcount


def let_go_overdue(connection: Connection, asked: Collection[str], limit: int) -> int:
    """Of all lanes; `asked`: those that can be asked for a key."""
    return connection.execute(LET_GO_OVERDUE, {"asked": list(asked), "limit": limit}).rowcount


def call_limited(connection: Connection, gate: str, reason: Refusal, limit: int) -> int:
    """The lane is shut no more: what waited for that waits for its turn."""
    return connection.execute(CALL_LIMITED, {"gate": gate, "reason": reason, "limit": limit}).rowcount


def counts(connection: Connection) -> dict[str, int]:
    """How many steps each lane keeps waiting."""
    return {row[0]: row[1] for row in connection.execute(COUNTS)}
