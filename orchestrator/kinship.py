"""Parents and children: a `workflow` step starts an instance, awaits its end, and has it undone. Pure.

No transaction locks two related instances: each of these verbs works on one of the two, and `children` carries the news
from one to the other, as often as it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator import attempts, compensation, states
from orchestrator.instance import CHILD, Instance
from orchestrator.rows import Row


@dataclass(frozen=True, kw_only=True)
class End:
    """How a child has ended, as its parent is told."""

    step: str
    generation: int
    status: str
    output: dict[str, Any]  # {instanceId, status, reason, result}
    error: str | None


def await_child(instance: Instance, row: Row, child: str) -> None:
    """The child has been started, or told to undo what it did. When the instance is falling, it is awaited all the same:
    what it did has to be undone before what was done before it."""
    instance.move(row, "delegate", output={"instanceId": child})


def do_without(instance: Instance, row: Row) -> None:
    """There is no child to be awaited: none to be undone, or the instance had fallen before one was started."""
    if row.phase == "undo":
        attempts.succeed(instance, row, None)
    elif instance.is_falling:
        compensation.let_go(instance, row)
        compensation.drain(instance)
    else:
        attempts.release(instance, row)


def learn(instance: Instance, end: End) -> None:
    """A parent is told how its child has ended, perhaps again, and perhaps before its leg has parked."""
    row, undo = instance.row(end.step), instance.row(end.step, "undo")
    if row is None or row.generation != end.generation:
        return
    if row.state in states.ACTIVE:
        _learn_of_doing(instance, row, end)
    elif undo is not None and undo.state in states.ACTIVE and end.status != states.COMPLETED:
        instance.move(undo, "resolve", output=end.output, error="")
        compensation.undone(instance, row.step)


def _learn_of_doing(instance: Instance, row: Row, end: End) -> None:
    """Whatever was in doubt about the legs that have looked for it: now it is known."""
    if end.status == states.COMPLETED:
        instance.move(row, "resolve", output=end.output, error="", uncertain=False)
        attempts.go_on(instance, row.step)
    else:
        instance.move(row, "reject", reason=CHILD, output=end.output, error=end.error, uncertain=False)
        attempts.after_failure(instance, row, CHILD)


def recall(instance: Instance) -> None:
    """A completed child is undone, because its parent is. One that was told before, and has ended since, tells again."""
    if instance.header.status != states.COMPLETED:
        instance.mark(parent_told=False)
        return
    instance.note("recall", states.COMPENSATING, reason=compensation.RECALLED, outcome=compensation.RECALLED,
                  cause=compensation.RECALLED, ended_at=None, parent_told=False, suspended_at=None)  # fmt: skip
    compensation.drain(instance)


def abandon(instance: Instance) -> bool:
    """A child whose parent has fallen is cancelled. False: it is over, or falling already."""
    if instance.is_over or instance.is_falling:
        return False
    instance.mark(cancel_requested_at=instance.now)
    compensation.fall(instance, compensation.CANCELLED, "parent")
    return True
