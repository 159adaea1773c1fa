"""What a schedule is made of: any definition and any move; or few of them, so that a certain bug is likely to show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.definition import Definition, Escalation, Retry, Step, WorkflowStep
from orchestrator.plan import Plan
from tests.unit.flying import operation, service
from tests.unit.simulation import definitions
from tests.unit.simulation.choices import Choices
from tests.unit.simulation.definitions import ACTIONS, FAIL, LANES, TIMEOUT
from tests.unit.simulation.swift import SwiftPlan

CARRY = ("publish", "deliver", "step")
GO = (*CARRY, "time", "sweep")
LOSE = ("publish", "deliver", "step", "kill", "time", "time", "sweep")  # a call that has been sent, perhaps


@dataclass(frozen=True)
class Scene:
    plan: Callable[[Choices], Plan] = definitions.plan
    moves: frozenset[str] | None = None  # that there are; none: all
    opening: tuple[str, ...] = ()  # moves that it begins with


def scene(step: Step, moves: tuple[str, ...], *, opening: tuple[str, ...] = ()) -> Scene:
    """Of a definition that has one step."""
    plan = SwiftPlan(Definition(id="flight", steps=(step,)), LANES)
    return Scene(lambda _: plan, frozenset(moves), opening)


def _retry(most: int) -> Retry:
    return Retry(max=most, jitter=False)


ANYTHING = Scene()
HANDED_BACK = scene(service("a", retry=_retry(1)), GO)
ESCALATED = scene(
    service("a", undo="key.a", timeout=TIMEOUT, on_timeout=ACTIONS[1], retry=_retry(2),
            escalation=Escalation(to=operation("key.backup"), timeout=None, on_timeout=FAIL)), GO,
)  # fmt: skip
LOST_AND_UNDONE = scene(service("a", undo="key.a", retry=_retry(0)), CARRY, opening=(*LOSE, *CARRY))
FORGETFUL = scene(service("a", "forgetful.a", retry=_retry(2)), (*GO, "kill", "land"))
SENT_LATE = scene(service("a", "none.a", undo="key.a"), (*GO, "resolve"))
FAMILY = scene(WorkflowStep(id="a", workflow="child"), (*GO, "child", "tell", "tell_lost", "retry"))
