"""Random definitions, small ones most of the time: a bug that needs a large one is rare, and a small one flies quickly."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from orchestrator.definition import (
    Case,
    Compensation,
    Definition,
    EndStep,
    Escalation,
    Expression,
    ForEachStep,
    RepeatStep,
    Retry,
    ServiceStep,
    Step,
    SwitchStep,
    TimeoutAction,
    WaitStep,
    WorkflowStep,
)
from orchestrator.plan import Plan
from tests.unit.flying import LANES as FLYING
from tests.unit.flying import TRUE, block, operation
from tests.unit.simulation.choices import Choices
from tests.unit.simulation.swift import SwiftPlan

# Some calls may take longer than a lease is good for: a lost attempt is then still in flight when it is taken over.
LANES = {**FLYING, **{name: replace(FLYING[name], timeout=40.0) for name in ("key", "query", "none")}}
KINDS = ("key", "none", "query", "forgetful", "other", "safe")  # `other` honours the key, on a queue of its own
UNDOS = ("key", None, "none", "query", "other", "forgetful", "key")
FAIL = TimeoutAction()
ACTIONS = (
    FAIL, TimeoutAction(kind="escalate"), TimeoutAction(kind="escalate"), TimeoutAction(kind="skip"), TimeoutAction(kind="retry"),
    TimeoutAction(kind="decide", decision="approved"), TimeoutAction(kind="decide", decision="rejected"),
)  # fmt: skip
LEAVES = (*["service"] * 12, "workflow", "wait", "end", "fail")
BLOCKS = ("branches", "branches", "branches", "switch", "forEach", "repeat")
DEPTHS = (1, 0, 1, 1, 1, 2)
TIMEOUT, PAUSE = 50.0, 100.0  # seconds


def plan(choices: Choices) -> Plan:
    depth = choices.among(DEPTHS)
    definition = Definition(
        id="flight", steps=_sequence(choices, "", depth), deadline=choices.among((None, None, None, None, 80.0)),
        compensate_on=choices.among(("completed", "completed", "attempted")),
    )  # fmt: skip
    return SwiftPlan(definition, LANES)


def _sequence(choices: Choices, prefix: str, depth: int) -> tuple[Step, ...]:
    length = choices.among((2, 3, 1)) if not prefix else choices.among((1, 2))
    return tuple(_step(choices, f"{prefix}{'abc'[at]}", depth) for at in range(length))


def _step(choices: Choices, name: str, depth: int) -> Step:
    return _block(choices, name, depth - 1) if depth and choices.below(2) else _leaf(choices, name)


def _leaf(choices: Choices, name: str) -> Step:
    match choices.among(LEAVES):
        case "wait":
            return WaitStep(id=name, seconds=PAUSE, when=_when(choices))
        case "workflow":
            return WorkflowStep(id=name, workflow="child", when=_when(choices), on_error=_on(choices))
        case "end":
            return EndStep(id=name, kind="end", reason="enough", when=TRUE)
        case "fail":
            return EndStep(id=name, kind="fail", reason="enough", when=TRUE)
        case _:
            return _service(choices, name)


def _service(choices: Choices, name: str) -> ServiceStep:
    call, undo = choices.among(KINDS), choices.among(UNDOS)
    pause = choices.one_in(3)
    action = choices.among(ACTIONS) if choices.below(2) else FAIL
    timeout = TIMEOUT if action is not FAIL or choices.one_in(4) else None
    return ServiceStep(
        id=name, when=_when(choices), operation=None if pause and choices.below(2) else operation(f"{call}.{name}"),
        compensation=Compensation(operation=operation(f"{undo}.{name}")) if undo else None,
        retry=Retry(max=choices.below(3), jitter=False), timeout=timeout, on_timeout=action,
        escalation=_escalation(choices) if action.kind == "escalate" else None, pause=pause,
        on_reject=choices.among(("fail", "continue")), on_error=_on(choices),
    )  # fmt: skip


def _escalation(choices: Choices) -> Escalation:
    return Escalation(to=operation(f"{choices.among(KINDS)}.backup"), timeout=choices.among((None, TIMEOUT)),
                      on_timeout=choices.among((FAIL, ACTIONS[3], ACTIONS[4])))  # fmt: skip


def _when(choices: Choices) -> Expression | None:
    return TRUE if choices.one_in(3) else None


def _on(choices: Choices) -> Literal["fail", "continue"]:
    return choices.among(("fail", "fail", "continue"))


def _block(choices: Choices, name: str, depth: int) -> Step:
    kind = choices.among(BLOCKS)
    if kind == "forEach":
        return ForEachStep(id=name, items=TRUE, concurrency=1 + choices.below(3), when=_when(choices),
                           steps=_sequence(choices, f"{name}i", depth))  # fmt: skip
    if kind == "repeat":
        return RepeatStep(id=name, until=TRUE, max=1 + choices.below(3), when=_when(choices), on_error=_on(choices),
                          steps=_sequence(choices, f"{name}r", depth))  # fmt: skip
    inside = [_sequence(choices, f"{name}{branch}", depth) for branch in range(2 + choices.below(2))]
    if kind == "switch":
        return SwitchStep(id=name, cases=tuple(Case(steps=steps, when=TRUE) for steps in inside), when=_when(choices))
    written = bool(choices.below(2))
    return block(name, *inside, written=written, when=_when(choices) if written else None)
