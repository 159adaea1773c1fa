"""Undoing: what was done, in reverse order of completion, one at a time. Pure.

The failing transition ends what has not begun and lets running and unknown steps drain, for what they did has
to be known before it can be undone. The transition that leaves none of them writes the undo list.
"""

from __future__ import annotations

from orchestrator import doubts, lives, states
from orchestrator.definition import ServiceStep, WorkflowStep
from orchestrator.flow import next_generation
from orchestrator.instance import ENDED, ENDING, Instance
from orchestrator.rows import Row

FAILED, CANCELLED, DEADLINE = "failed", "cancelled", "deadline"  # outcomes
RECALLED = "recalled"  # the outcome of a child that had completed: its parent undoes it


def fall(instance: Instance, outcome: str, reason: str | None = None) -> None:
    """The instance will not complete: end what has not begun, drain the rest, then undo."""
    if instance.is_falling or instance.is_over:
        return
    instance.need_all()
    cause = reason or outcome
    instance.note("fall", states.COMPENSATING, reason=cause, outcome=outcome, cause=cause)
    for row in list(instance.rows("do")):
        end(instance, row)
    drain(instance)


def end_early(instance: Instance, reason: str) -> None:
    """An `end` was reached: end what has not begun, let the rest drain, and undo nothing."""
    instance.need_all()
    instance.mark(outcome=ENDING, cause=reason)
    for row in list(instance.rows("do")):
        end(instance, row)
    drain(instance)


def end(instance: Instance, row: Row) -> None:
    """End a step that need not be awaited. What it was asked to do may have happened: then it counts as attempted."""
    is_open_block = row.state == states.RUNNING and not row.is_leased
    if (row.state not in states.PENDING and not is_open_block) or is_awaited(instance, row):
        return
    let_go(instance, row)


def let_go(instance: Instance, row: Row) -> None:
    """End a step, attempted or not."""
    remedy = doubts.remedy(instance, row) if row.state in states.CLAIMABLE else "none"
    row = row if remedy == "none" else doubts.begun(instance, row)
    if remedy == "person" or (row.uncertain and lives.is_blind(instance, row)):
        instance.move(row, "doubt", reason="uncertain", error=doubts.ERROR if remedy == "person" else doubts.SENT)
    elif row.may_have_been_done:
        instance.move(row, "fail", reason=ENDED)
    else:
        instance.move(row, "end", reason=ENDED, branches_left=0)


def drain(instance: Instance) -> None:
    """Once nothing runs or is unknown any more, write the undo list and begin with its first."""
    if any(row.state in states.UNSETTLED or is_awaited(instance, row) for row in instance.rows("do")):
        return
    if instance.is_ending:
        _finish(instance)
        return
    for row in sorted(instance.rows("do"), key=lambda row: row.done_seq or 0):
        if _has_to_be_undone(instance, row):
            # Its place in the order is where it ended, not where it was put on the list.
            instance.amend(instance.move(row, "undo", branches_left=0), done_seq=row.done_seq)
    undo_next(instance)


def is_awaited(instance: Instance, row: Row) -> bool:
    """Whether a step goes on although its instance falls, or ends early.

    A sub-workflow that runs is cancelled then, and awaited; one that a lost attempt may have started is looked for
    first. What an early end undoes nothing of has to be known for certain, unless a person is yet to decide it.
    """
    step = instance.plan.place(row.step).step
    if row.phase == "undo" or row.state not in states.PENDING:
        return False
    if isinstance(step, ServiceStep):
        return instance.is_ending and row.uncertain and not step.pause
    return isinstance(step, WorkflowStep) and (row.state == states.WAITING or row.attempt > 0)


def _has_to_be_undone(instance: Instance, row: Row) -> bool:
    step = instance.plan.place(row.step).step
    if isinstance(step, WorkflowStep):
        return row.state == states.SUCCEEDED
    if not isinstance(step, ServiceStep) or step.compensation is None or row.attempt == 0:
        return False
    if row.state == states.SUCCEEDED:
        return True
    attempted = instance.plan.definition.compensate_on == "attempted" and row.state == states.FAILED
    return row.state in (states.FAILED, states.SKIPPED) and (row.may_have_been_done or attempted)


def undo_next(instance: Instance) -> None:
    """Let the latest step on the undo list have its turn; without one, the instance has ended."""
    waiting = [row for row in instance.rows("do") if row.state == states.COMPENSATING]
    if any(row.state == states.STUCK for row in instance.rows("do")):
        return
    if not waiting:
        _finish(instance)
        return
    _ready_undo(instance, max(waiting, key=lambda row: row.done_seq or 0))


def _ready_undo(instance: Instance, done: Row) -> None:
    step = instance.plan.place(done.step).step
    compensation = step.compensation if isinstance(step, ServiceStep) else None  # none: a child undoes itself
    new = Row(
        step=done.step, phase="undo", order=done.order, queue=instance.plan.undo_queue(done.step),
        service=str(compensation.operation) if compensation else None, generation=done.generation,
    )  # fmt: skip
    before = instance.row(done.step, "undo")
    # A lost attempt may still be in flight: undone before it has ended, what it does would stand for ever.
    due = {"due_at": done.lost_until}
    if before is None:
        instance.move(new, "ready", **due)
    else:
        instance.move(before, "renew", **next_generation(instance, before, new) | due)


def undone(instance: Instance, step: str) -> None:
    """The compensation of `step` has succeeded."""
    done = instance.row(step)
    assert done is not None, "an undo row has a do row"
    seq = done.done_seq
    instance.amend(instance.move(done, "compensate"), done_seq=seq)
    undo_next(instance)


def stick(instance: Instance, step: str) -> None:
    """The compensation of `step` cannot succeed: it is shown, and the undo stops here."""
    done = instance.row(step)
    assert done is not None, "an undo row has a do row"
    seq = done.done_seq
    instance.amend(instance.move(done, "stick", reason="undo_failed"), done_seq=seq)


def _finish(instance: Instance) -> None:
    reason, ended = instance.header.cause, instance.now
    undone = any(row.state == states.COMPENSATED for row in instance.rows("do"))
    if instance.is_ending:
        instance.note("complete", states.COMPLETED, reason=reason, ended_at=ended)
    elif instance.header.outcome == CANCELLED or (instance.header.outcome == RECALLED and not undone):
        instance.note("cancel", states.CANCELLED, reason=reason, ended_at=ended)
    elif undone:
        instance.note("compensate", states.COMPENSATED, reason=reason, ended_at=ended)
    else:
        instance.note("fail", states.FAILED, reason=reason, ended_at=ended)
