"""Parents and children as they are stored: what one has to be told of the other. Reads, but for the mark that it was."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.attempts import Attempt

# With a share of the parent's lock it cannot fall before the child that is about to be born is there to be cancelled.
PARENT = text("SELECT outcome IS NOT NULL OR ended_at IS NOT NULL FROM instance WHERE id = CAST(:id AS uuid) FOR SHARE")
HELD = text("""
SELECT 1 FROM step WHERE instance_id = CAST(:id AS uuid) AND step = :step AND phase = 'do' AND state = 'RUNNING'
  AND attempt = :attempt
""")
GENERATION = text("SELECT generation FROM step WHERE instance_id = CAST(:id AS uuid) AND step = :step AND phase = 'do'")
LINE = text("""
WITH RECURSIVE line AS (
  SELECT id, parent_id, workflow_id FROM instance WHERE id = CAST(:id AS uuid)
  UNION ALL SELECT i.id, i.parent_id, i.workflow_id FROM instance i JOIN line ON i.id = line.parent_id)
SELECT id, workflow_id FROM line
""")
# Of an instance and all that descend from it. The oldest first: a parent's own is told before its child's.
WAITS = text("""
WITH RECURSIVE family AS (
  SELECT id FROM instance WHERE id = CAST(:id AS uuid)
  UNION ALL SELECT i.id FROM instance i JOIN family ON i.parent_id = family.id)
SELECT s.instance_id, s.step FROM family JOIN step s ON s.instance_id = family.id WHERE s.state = 'WAITING'
ORDER BY s.instance_id, s."order"
""")
CHILD = text("""
SELECT id FROM instance WHERE parent_id = CAST(:parent AS uuid) AND parent_step = :step
  AND parent_generation = :generation
""")
UNTOLD = text("""
SELECT id, parent_id, parent_step, parent_generation, workflow_id, status, reason, outcome, ended_at FROM instance
WHERE parent_id IS NOT NULL AND ended_at IS NOT NULL AND NOT parent_told
  AND (sweep_after IS NULL OR sweep_after <= (SELECT clock_now())) ORDER BY ended_at LIMIT :limit
""")
RESULTS = text("""
SELECT step, output FROM step WHERE instance_id = :id AND phase = 'do' AND state = 'SUCCEEDED' AND items = 0
  AND strpos(step, '[') = 0 AND output IS NOT NULL ORDER BY "order"
""")
FAILURE = text("""
SELECT step, error FROM step WHERE instance_id = :id AND phase = 'do' AND error IS NOT NULL
  AND state IN ('FAILED', 'COMPENSATED', 'SKIPPED') ORDER BY ended_at DESC LIMIT 1
""")
TOLD = text("UPDATE instance SET parent_told = true WHERE id = :id AND ended_at = :ended_at AND status = :status")
TELL_AGAIN = text(
    "UPDATE instance SET parent_told = false WHERE id = CAST(:id AS uuid) AND parent_told AND ended_at IS NOT NULL"
)
ABANDONED = text("""
SELECT c.id FROM instance p JOIN instance c ON c.parent_id = p.id
WHERE p.outcome IS NOT NULL AND p.ended_at IS NULL AND c.ended_at IS NULL AND c.outcome IS NULL
  AND (c.sweep_after IS NULL OR c.sweep_after <= (SELECT clock_now())) LIMIT :limit
""")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A child that has ended, and whose parent does not know of it."""

    id: str
    parent_id: str
    parent_step: str
    parent_generation: int
    workflow_id: str
    status: str
    reason: str | None
    outcome: str | None
    ended_at: datetime


def has_fallen(connection: Connection, parent: str) -> bool:
    """Or is over. Holds a share of the parent's lock until the transaction ends."""
    return bool(connection.execute(PARENT, {"id": parent}).scalar_one())


def is_held(connection: Connection, attempt: Attempt) -> bool:
    """Whether an attempt is still the one that runs its step. Ask while its instance cannot move."""
    values = {"id": attempt.instance, "step": attempt.step, "attempt": attempt.attempt}
    return connection.execute(HELD, values).scalar_one_or_none() is not None


def generation(connection: Connection, attempt: Attempt) -> int:
    """Of the step itself: an attempt to undo it has one of its own."""
    found: int = connection.execute(GENERATION, {"id": attempt.instance, "step": attempt.step}).scalar_one()
    return found


def line(connection: Connection, instance: str) -> list[tuple[str, str]]:
    """An instance and those it descends from, the root last: their ids and workflows."""
    return [(row[0].hex, row[1]) for row in connection.execute(LINE, {"id": instance})]


def waits(connection: Connection, root: str) -> list[tuple[str, str]]:
    """What an instance and its descendants wait for: their ids and steps; timers and sub-workflows, too."""
    return [(row[0].hex, row[1]) for row in connection.execute(WAITS, {"id": root})]


def child(connection: Connection, parent: str, step: str, generation: int) -> str | None:
    """The child that a step has started in one of its generations."""
    values = {"parent": parent, "step": step, "generation": generation}
    found = connection.execute(CHILD, values).scalar_one_or_none()
    return found.hex if found is not None else None


def untold(connection: Connection, limit: int) -> list[Ended]:
    found = connection.execute(UNTOLD, {"limit": limit}).mappings()
    return [Ended(**{**row, "id": row["id"].hex, "parent_id": row["parent_id"].hex}) for row in found]


def results(connection: Connection, instance: str) -> dict[str, Any]:
    """By id, the replies of an instance's steps outside loops."""
    return {row[0]: row[1] for row in connection.execute(RESULTS, {"id": instance})}


def failure(connection: Connection, instance: str) -> str | None:
    """What went wrong last, as `step: error`."""
    row = connection.execute(FAILURE, {"id": instance}).first()
    return f"{row[0]}: {row[1]}" if row else None


def told(connection: Connection, child: Ended) -> None:
    """Its parent knows of this end; if it was recalled meanwhile, another is still to come."""
    connection.execute(TOLD, {"id": child.id, "ended_at": child.ended_at, "status": child.status})


def tell_again(connection: Connection, child: str) -> None:
    """Its parent waits for it (anew): if it has ended, that is news."""
    connection.execute(TELL_AGAIN, {"id": child})


def abandoned(connection: Connection, limit: int) -> list[str]:
    """Children that run on although their parents have fallen."""
    return [row[0].hex for row in connection.execute(ABANDONED, {"limit": limit})]
