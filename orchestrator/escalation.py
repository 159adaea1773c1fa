"""When a step's time is up: one of five things, as its definition says. Pure."""

from __future__ import annotations

from orchestrator import approvals, attempts, blocks, states
from orchestrator.clock import later
from orchestrator.definition import ServiceStep, TimeoutAction, WaitStep
from orchestrator.instance import Instance
from orchestrator.rows import Row


def is_due(instance: Instance, row: Row) -> bool:
    """A waiting step whose deadline has passed."""
    return row.state == states.WAITING and row.due_at is not None and row.due_at <= instance.now


def time_out(instance: Instance, row: Row, *, error: str = "its time is up", uncertain: bool | None = None) -> None:
    """Perform the step's `onTimeout`. `row` is RUNNING, RETRYING or WAITING.

    `uncertain`: whether what it was asked to do may have happened; none: as the row says.
    """
    if isinstance(instance.plan.place(row.step).step, WaitStep):
        blocks.wake(instance, row)
        return
    row = instance.amend(row, uncertain=row.uncertain if uncertain is None else uncertain)
    step = instance.plan.service(row.step)
    action = TimeoutAction() if instance.is_falling or row.phase == "undo" else _action(step, row)
    if action.kind in ("fail", "retry") and _only_a_person_can_tell(instance, row, step):
        attempts.doubt(instance, row, reason=attempts.UNCERTAIN, error=error)
    else:
        _perform(instance, row, step, action, error)


def _only_a_person_can_tell(instance: Instance, row: Row, step: ServiceStep) -> bool:
    """What was accepted or begun on a lane that can neither be asked nor repeated. To have told somebody who is to
    decide (`pause`) is no such effect: nothing is lost when they are told twice, or never decide."""
    is_told = step.pause and row.phase == "do"
    return row.uncertain and not is_told and instance.plan.lane(row.service).idempotency == "none"


def _action(step: ServiceStep, row: Row) -> TimeoutAction:
    if row.escalated:
        return step.escalation.on_timeout if step.escalation else TimeoutAction()
    return step.on_timeout


def _perform(instance: Instance, row: Row, step: ServiceStep, action: TimeoutAction, error: str) -> None:
    if action.kind == "escalate" and step.escalation is not None and not row.escalated:
        escalate(instance, row, step)
    elif action.kind == "skip":
        attempts.skip(instance, row, reason=attempts.TIMEOUT)
    elif action.kind == "retry" and row.rounds < step.retry.max:
        _renew_budget(instance, row, error)
    elif action.kind == "decide" and action.decision is not None:
        approvals.settle(instance, row, decision=action.decision, by="deadline", comment=error,
                         uncertain=row.uncertain)  # fmt: skip
    else:
        attempts.fail(instance, row, reason=attempts.TIMEOUT, error=error, uncertain=row.uncertain)


def escalate(instance: Instance, row: Row, step: ServiceStep) -> None:
    """A new generation goes to the backup; whoever had it before is told 410, but may have acted all the same."""
    assert step.escalation is not None, "the loader refuses an escalation without a target"
    target = step.escalation.to
    instance.move(
        row, "escalate", reason="escalated", generation=row.generation + 1, service=str(target), escalated=True,
        queue=instance.plan.queue_of(target.lane), tries=0, losses=0, started_at=None, budget_until=None, due_at=None,
        published_at=None, worker=None, uncertain=False, uncertain_before=row.may_have_been_done, clears=True,
    )  # fmt: skip


def _renew_budget(instance: Instance, row: Row, error: str) -> None:
    """`onTimeout: retry`: the same generation again, with a fresh budget; at most `retry.max` times."""
    budget = attempts.budget_of(instance, row)
    if row.state != states.RETRYING:
        row = instance.move(row, "retry", error=error, reason=attempts.TIMEOUT)
    instance.amend(
        row, due_at=instance.now, ready_at=instance.now, rounds=row.rounds + 1, tries=0, published_at=None,
        budget_until=later(instance.now, budget) if budget else None,
    )  # fmt: skip
