"""What a person may order: cancel, suspend, resume, retry, and a verdict on an uncertain step. Pure.

Each raises Conflict with the present state when it does not fit, and then nothing has changed.
"""

from __future__ import annotations

from typing import Any, Literal

from orchestrator import attempts, compensation, flow, states
from orchestrator.clock import later
from orchestrator.definition import Block, EndStep, WorkflowStep
from orchestrator.errors import Conflict, NotFound
from orchestrator.flow import next_generation, same_generation
from orchestrator.instance import Instance
from orchestrator.rows import Row

Verdict = Literal["succeeded", "failed", "retry"]


def cancel(instance: Instance) -> None:
    """End it, and undo what was done."""
    if instance.is_over or instance.is_falling:
        raise _conflict(instance, "cannot be cancelled")
    instance.mark(cancel_requested_at=instance.now)
    compensation.fall(instance, compensation.CANCELLED)


def suspend(instance: Instance) -> None:
    """Block new claims. What runs is still recorded, and so are callbacks and deadlines."""
    if instance.is_over or instance.header.suspended_at is not None:
        raise _conflict(instance, "cannot be suspended")
    instance.note("suspend", states.SUSPENDED, suspended_at=instance.now)


def resume(instance: Instance) -> None:
    if instance.header.suspended_at is None or instance.is_over:
        raise _conflict(instance, "is not suspended")
    instance.mark(suspended_at=None)
    if instance.is_falling and not instance.is_ending:
        instance.note("drop", states.COMPENSATING, reason=instance.header.cause)
    else:
        instance.note("proceed", states.RUNNING)
    for row in list(instance.rows()):
        if row.state in states.CLAIMABLE:  # its message was refused meanwhile
            instance.amend(row, published_at=None)


def retry(instance: Instance) -> None:
    """Try again what stopped: a stuck undo, a quarantined step, a step between two attempts, or a failed instance."""
    if instance.header.status in (states.FAILED, states.COMPENSATED):
        _restart(instance)
    elif not sum(_try_again(instance, row) for row in list(instance.rows())):  # all of them, not the first
        raise _conflict(instance, "has nothing to retry; an UNKNOWN step is settled by `resolve`")


def _restart(instance: Instance) -> None:
    """A new life, with a deadline of its own: what has ended well stands, all else runs in a new generation."""
    if instance.header.parent_id is not None:
        raise _conflict(
            instance, f"its parent has been told so: retry {instance.header.parent_id}, which starts another"
        )
    seconds = instance.plan.definition.deadline
    deadline_at = later(instance.now, seconds) if seconds is not None else None
    instance.note("restart", states.RUNNING, outcome=None, cause=None, ended_at=None, cancel_requested_at=None,
                  suspended_at=None, deadline_at=deadline_at, life=instance.header.life + 1)  # fmt: skip
    flow.enter(instance, instance.plan.first)


def _try_again(instance: Instance, row: Row) -> bool:
    if row.state == states.STUCK:
        instance.amend(instance.move(row, "undo"), done_seq=row.done_seq)
        _undo_again(instance, row.step)
        return True
    if row.state == states.UNKNOWN and row.reason == attempts.QUARANTINED:
        _redo(instance, row)
        return True
    if row.state == states.RETRYING:
        due = attempts.repeatable_at(instance, row)
        instance.amend(row, due_at=due, ready_at=due, published_at=None)
        return True
    return False


def _undo_again(instance: Instance, step: str) -> None:
    """A refund that failed for certain gets a new key; one whose outcome is uncertain keeps its own."""
    row = instance.row(step, "undo")
    assert row is not None, "a stuck step has an undo row"
    instance.move(row, "renew", **same_generation(row) if row.uncertain else next_generation(instance, row, row))


def _redo(instance: Instance, row: Row) -> None:
    is_child = isinstance(instance.plan.place(row.step).step, WorkflowStep)
    if instance.is_falling and row.phase == "do" and not is_child:  # it could never be claimed
        raise _conflict(
            instance, f"is being undone, so {row.step} cannot be tried again: say whether it has succeeded or failed"
        )
    # Who orders it knows that it may be done twice: the age of the key, which would forbid it, counts from now.
    due = attempts.repeatable_at(instance, row)
    instance.move(row, "redo", losses=0, tries=0, due_at=due, published_at=None, alone=True, budget_until=None,
                  started_at=None)  # fmt: skip


def resolve(instance: Instance, step: str, verdict: Verdict, *, result: Any = None, by: str | None = None) -> None:
    """A person's verdict on an UNKNOWN step, or on one whose compensation is STUCK.

    A retry of the unknown keeps its generation, and with it its key.
    """
    stuck = instance.row(step)
    if stuck is not None and stuck.state == states.STUCK:
        _settle_stuck(instance, stuck, verdict, result, by)
        return
    row = next((row for row in instance.rows() if row.step == step and row.state == states.UNKNOWN), None)
    if row is None:
        raise _nothing_to_resolve(instance, step)
    if row.lost_until is not None and row.lost_until > instance.now:
        raise Conflict(f"its last attempt may still be running until {row.lost_until.isoformat()}; ask again then",
                       present=states.UNKNOWN)  # fmt: skip
    _settle(instance, row, verdict, result, by)


def _nothing_to_resolve(instance: Instance, step: str) -> Conflict | NotFound:
    settle = (states.UNKNOWN, states.STUCK)
    open_ones = ", ".join(sorted({row.step for row in instance.rows() if row.state in settle})) or "none"
    if not instance.plan.has(step):
        return NotFound(f"there is no step {step!r}; to be resolved: {open_ones}")
    row = instance.row(step)
    return Conflict(f"{step} is not UNKNOWN, so there is nothing to resolve; to be resolved: {open_ones}",
                    present=row.state if row else "not reached")  # fmt: skip


def _settle_stuck(instance: Instance, stuck: Row, verdict: Verdict, result: Any, by: str | None) -> None:
    if verdict == "failed":
        raise Conflict(f"the compensation of {stuck.step} has failed already; undo it by hand and say that it succeeded, "
                       "or order a retry", present=states.STUCK)  # fmt: skip
    if verdict == "retry":
        _try_again(instance, stuck)
        return
    undo = instance.row(stuck.step, "undo")
    assert undo is not None, "a stuck step has an undo row"
    instance.amend(instance.move(stuck, "undo"), done_seq=stuck.done_seq)
    instance.move(undo, "attest", output=result, error="", uncertain=False, decided_by=by)
    compensation.undone(instance, stuck.step)


def _settle(instance: Instance, row: Row, verdict: Verdict, result: Any, by: str | None) -> None:
    if verdict == "retry":
        _redo(instance, row)
    elif row.phase == "do" and isinstance(instance.plan.place(row.step).step, WorkflowStep):
        raise _conflict(
            instance, f"{row.step} has a sub-workflow, whose end decides: order a retry, which looks for it"
        )
    elif verdict == "failed":
        error = "an operator found that it was not done"
        row = instance.move(row, "reject", reason="failed", error=error, uncertain=False, decided_by=by)
        attempts.after_failure(instance, row, "failed")
    elif isinstance(instance.plan.place(row.step).step, Block | EndStep) and not instance.is_falling:
        raise _conflict(instance, f"{row.step} succeeds by what is inside it: retry it, or let it fail")
    else:
        instance.move(row, "resolve", output=result, error="", uncertain=False, decided_by=by)
        if row.phase == "undo":
            compensation.undone(instance, row.step)
        else:
            attempts.go_on(instance, row.step)


def _conflict(instance: Instance, why: str) -> Conflict:
    status = instance.header.status
    return Conflict(f"instance {instance.header.id} is {status} and {why}", present=status)
