"""After a restore: what an instance does next may have been done already, in the time that the backup does not know of.

An instance that was restored carries since when nothing is known of it (`doubted_since`). What it has not begun since
counts as if an attempt of it had been lost then: with the same key it is repeated or asked for, and where neither can
be done only a person can tell. Pure.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from orchestrator.clock import later
from orchestrator.definition import ServiceStep, WorkflowStep
from orchestrator.instance import Instance
from orchestrator.lane import limit_of
from orchestrator.rows import Row

Remedy: TypeAlias = Literal["none", "repeat", "person"]

ERROR = "the database was restored to an earlier point: it may have been done after that"
SENT = "it was sent, its instance ended before its answer came, and its lane can neither be asked nor told again"


def mark(instance: Instance, since: datetime) -> None:
    """Nothing is known of it since then; of several restores the earliest counts. Every worker has been stopped by now."""
    instance.mark(doubted_since=min(since, instance.header.doubted_since or since), restored_at=instance.now)


def remedy(instance: Instance, row: Row) -> Remedy:
    """What has to be done about a step before it is begun, or ended unbegun."""
    since = instance.header.doubted_since
    if since is None or _is_judged(row) or (row.started_at is not None and row.started_at > since):
        return "none"
    step = instance.plan.place(row.step).step
    if isinstance(
        step, WorkflowStep
    ):  # the one that was started since is not there any more, and another has other keys
        return "person" if row.phase == "do" else "none"
    if not isinstance(step, ServiceStep) or row.service is None:
        return "none"
    idempotency = instance.plan.lane(row.service).idempotency
    if idempotency == "none":
        return "none" if step.pause and row.phase == "do" else "person"  # to tell somebody twice does no harm
    if idempotency == "safe":
        return "none"
    return "repeat" if _has_the_same_key(instance, row, since) else "person"


def _has_the_same_key(instance: Instance, row: Row, since: datetime) -> bool:
    """As it had in the time that was lost. Later generations depend on how often it was undone, which may be another now."""
    if row.generation == 1:
        return True
    undo = instance.row(row.step, "undo")
    return row.phase == "do" and (undo is None or (undo.ended_at is not None and undo.ended_at <= since))


def _is_judged(row: Row) -> bool:
    """An operator has ordered it again, knowing that it may have been done."""
    return row.uncertain and row.started_at is None


def begun(instance: Instance, row: Row) -> Row:
    """As if an attempt of it had been lost: one at least, and its key is as old as it can be. What was sent just before the
    restore may be in flight for as long as its lane allows."""
    since, restored = instance.header.doubted_since, instance.header.restored_at
    over = later(restored, limit_of(instance.plan.lane(row.service))) if restored and row.service else None
    return instance.amend(
        row, uncertain=True, attempt=max(row.attempt, 1), started_at=row.started_at or since,
        lost_until=max(filter(None, (over, row.lost_until)), default=None),
    )  # fmt: skip


def cleared(instance: Instance, row: Row) -> Row:
    """Its condition is false, and was so before the restore: nothing was done."""
    return row if instance.header.doubted_since is None else instance.amend(row, uncertain=False)
