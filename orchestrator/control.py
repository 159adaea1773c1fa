"""One attempt at a step that calls no service, outside any transaction: evaluate what it asks, start or recall a child."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from orchestrator import children, expression
from orchestrator.attempts import Attempt
from orchestrator.children import Refused
from orchestrator.definition import (
    BranchesStep,
    EndStep,
    ForEachStep,
    RepeatStep,
    ServiceStep,
    Step,
    SwitchStep,
    WaitStep,
    WorkflowStep,
)
from orchestrator.store import instances
from orchestrator.system import System

MAX_ITEMS = 10_000  # of one `forEach`


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Branches, or the first round of a `repeat`."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which way a switch goes; none: no condition of it is true."""

    case: int | None


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The items of a `forEach`."""

    items: list[Any]
    before: list[Any] | None = None  # those of an earlier life


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Whether a `repeat` is done."""

    is_done: bool


@dataclass(frozen=True, kw_only=True)
class Sleeps:
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Ends:
    """An `end` or a `fail` has been reached."""


@dataclass(frozen=True, kw_only=True)
class AwaitsChild:
    """A child is under way, to do something or to be undone."""

    id: str


@dataclass(frozen=True, kw_only=True)
class NoChild:
    """There is none, and none is wanted any more."""


Control: TypeAlias = Opened | Chosen | Listed | Checked | Sleeps | Ends | AwaitsChild | NoChild | Refused


def perform(system: System, step: Step, attempt: Attempt, context: dict[str, Any]) -> Control:  # noqa: PLR0911  # one a kind
    """Raises ExpressionError."""
    match step:
        case BranchesStep():
            return Opened()
        case SwitchStep():
            return Chosen(case=_case(step, context))
        case ForEachStep():
            return Listed(items=expression.items(step.items, context, MAX_ITEMS), before=_before(system, attempt))
        case RepeatStep():
            return Checked(is_done=expression.truth(step.until, context)) if attempt.begun else Opened()
        case WaitStep():
            return Sleeps(until=_moment(step, attempt, context))
        case WorkflowStep():
            return _child(system, step, attempt, context)
        case EndStep():
            return Ends()
        case ServiceStep():
            raise TypeError(f"{step.id} calls a service: that is for `calls`")


def _before(system: System, attempt: Attempt) -> list[Any] | None:
    if attempt.generation == 1:
        return None
    with system.database.transaction() as connection:
        return instances.items(connection, attempt.instance, attempt.step)


def _case(step: SwitchStep, context: dict[str, Any]) -> int | None:
    ways = enumerate(step.cases)
    return next((at for at, case in ways if case.when is None or expression.truth(case.when, context)), None)


def _moment(step: WaitStep, attempt: Attempt, context: dict[str, Any]) -> datetime:
    if step.until is not None:
        return expression.moment(step.until, context)
    return attempt.started_at + timedelta(seconds=step.seconds or 0.0)  # a lost attempt does not prolong it


def _child(system: System, step: WorkflowStep, attempt: Attempt, context: dict[str, Any]) -> Control:
    if attempt.phase == "undo":
        recalled = children.recall(system, attempt)
        return AwaitsChild(id=recalled) if recalled else NoChild()
    payload = expression.render(step.input, context) if step.input else context["payload"]
    child = children.start(system, attempt, step.workflow, payload)
    if isinstance(child, Refused):
        return child
    return AwaitsChild(id=child) if child is not None else NoChild()
