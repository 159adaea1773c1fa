"""What a step that calls no service comes to: a way is chosen, iterations begin, a timer is set, the instance ends. Pure.

A leg claims such a step and evaluates its expressions like any other's; these verbs record what they gave. An instance
that has fallen meanwhile opens nothing any more.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from orchestrator import attempts, compensation, flow
from orchestrator.definition import EndStep, RepeatStep
from orchestrator.instance import CONDITION, Instance
from orchestrator.rows import Row

EXHAUSTED = "exhausted"


def open_block(instance: Instance, row: Row) -> None:
    if not _let_go(instance, row):
        flow.open_block(instance, row.step)


def choose(instance: Instance, row: Row, case: int | None) -> None:
    """`case`: which way a switch goes; none: no condition of it is true."""
    if _let_go(instance, row):
        return
    if case is None:
        attempts.skip(instance, row, reason=CONDITION)
    else:
        flow.choose(instance, row.step, case)


def iterate(instance: Instance, row: Row, items: list[Any], before: list[Any] | None = None) -> None:
    """`before`: the items of an earlier life."""
    if not _let_go(instance, row):
        flow.iterate(instance, row.step, items, before)


def check(instance: Instance, row: Row, *, is_done: bool) -> None:
    """A round of a `repeat` is over, and its condition was looked at."""
    if _let_go(instance, row):
        return
    step = instance.plan.place(row.step).step
    assert isinstance(step, RepeatStep)
    if is_done:
        instance.move(row, "succeed")
        flow.leave(instance, row.step)
    elif row.begun < row.items:
        flow.next_round(instance, row.step)
    else:
        error = f"`{step.until.source}` was not true after {row.begun} rounds"
        attempts.fail(instance, row, reason=EXHAUSTED, error=error)


def _let_go(instance: Instance, row: Row) -> bool:
    if instance.is_falling:
        compensation.let_go(instance, row)
        compensation.drain(instance)
    return instance.is_falling


def sleep(instance: Instance, row: Row, until: datetime) -> None:
    """Wait for a moment; one that has passed is not waited for."""
    if until <= instance.now and not instance.is_falling:
        wake(instance, row)
        return
    instance.move(row, "sleep", due_at=until, output={"until": until.isoformat()})
    if instance.is_falling:
        compensation.end(instance, instance.row(row.step) or row)
        compensation.drain(instance)


def wake(instance: Instance, row: Row) -> None:
    """A timer's moment has come."""
    instance.move(row, "elapse")
    flow.leave(instance, row.step)


def finish(instance: Instance, row: Row) -> None:
    """An `end` or a `fail` has been reached: it ends the whole instance, unless that is falling already."""
    step = instance.plan.place(row.step).step
    assert isinstance(step, EndStep)
    if _let_go(instance, row):
        return
    if step.kind == "end":
        instance.move(row, "succeed")
        compensation.end_early(instance, step.reason)
    else:
        instance.move(row, "fail", reason=step.reason)
        compensation.fall(instance, compensation.FAILED, step.reason)
