"""What may have been done: who can tell, and whether it is what a later life is to do. Pure."""

from __future__ import annotations

from orchestrator import scope, states
from orchestrator.definition import ServiceStep
from orchestrator.instance import CHANGED, CHILD, Instance
from orchestrator.plan import Names
from orchestrator.rows import Row


def is_blind(instance: Instance, row: Row) -> bool:
    """Whether only a person can tell what may have been done: its lane can neither be asked nor told again. To have told
    somebody who is to decide (`pause`) is no such effect."""
    step = instance.plan.place(row.step).step
    is_told = row.phase == "do" and isinstance(step, ServiceStep) and step.pause
    return not is_told and instance.plan.lane(row.service).idempotency == "none"


def keeps_its_key(instance: Instance, row: Row) -> bool:
    """Whether a step that may have been done runs under the same key. Not one that was undone since, that is for another
    item or another child, or whose input has changed: that is another effect, unless only a person can tell. Who decides
    (`pause`) is asked anew."""
    if not row.uncertain or row.state == states.COMPENSATED or row.reason in (CHANGED, CHILD):
        return False
    step = instance.plan.place(row.step).step
    if row.decision is not None and isinstance(step, ServiceStep) and step.pause:
        return False
    return is_blind(instance, row) or not _has_another_input(instance, row)


def _has_another_input(instance: Instance, row: Row) -> bool:
    """Whether something that its input names has ended since it was first sent, or does not stand any more."""
    step = instance.plan.place(row.step).step
    named = step.input.steps if isinstance(step, ServiceStep) and step.input else ()
    if not named or row.started_at is None:
        return False
    instance.need_all()
    want = scope.wanted(instance.plan, Names(steps=named), scope.standpoint(instance.plan, row.step))
    seen = [one for one in instance.rows("do") if scope.is_wanted(one.step, want)]
    return any(one.reason == CHANGED or (one.ended_at or row.started_at) > row.started_at for one in seen)
