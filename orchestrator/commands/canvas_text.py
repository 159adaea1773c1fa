"""A plan's canvases as text: what `orchestrator compile` prints. Pure; it says what `canvas.compile` makes of a segment.

A canvas ends where only Postgres can wait or decide. What comes then has a line of its own, which begins with what it
waits for. Nothing depends on a canvas being sent whole: where a block opens with no leg before it, the dispatcher sends its
branches one by one, and Postgres joins them all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from orchestrator.definition import (
    Block,
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
from orchestrator.graph import case_label, shortened
from orchestrator.lane import DEFAULT_QUEUE
from orchestrator.plan import Fork, Leg, Plan, Segment


def lines(plan: Plan) -> Iterator[str]:
    """A line a canvas: the first is sent at the start, each of the others when what it waits for has come about. Then
    a line for each `end` and `fail`, which nothing follows."""
    covered: set[str] = set()
    for step in plan.ids:
        if step in covered:
            continue
        reason = "" if step == plan.first else f"{_cause(plan, step)}: "
        if canvas := _lay(plan.segment(step), covered, nested=False):
            yield reason + _canvas(canvas)
    for step in plan.ids:
        found = plan.place(step).step
        if isinstance(found, EndStep):
            yield f"at {step}: {_end(found)}"


def _canvas(laid: list[str]) -> str:
    alone = len(laid) == 1 and not laid[0].startswith("[")
    return laid[0] if alone else f"chain({', '.join(laid)})"


def _lay(segment: Segment, covered: set[str], *, nested: bool) -> list[str]:
    if not segment:
        return []
    part = segment[0]
    if isinstance(part, Leg):
        covered.update(part.steps)
        return [_leg(part), *_lay(segment[1:], covered, nested=nested)]
    return _fork(part, segment[1:], covered, nested=nested)


def _leg(leg: Leg) -> str:
    queue = "" if leg.queue == DEFAULT_QUEUE else f"@{leg.queue}"
    return f"[{' '.join(leg.steps)}]{queue}"


def _fork(fork: Fork, rest: Segment, covered: set[str], *, nested: bool) -> list[str]:
    """As `canvas` does it: a chord needs a body. Without one the branches go as a group, and within a branch they are
    left to the dispatcher: their lines stand below."""
    if nested and not rest:
        return []
    covered.add(fork.block)
    laid = [_lay(branch, covered, nested=True) for branch in fork.branches]
    header = ", ".join(parts[0] if len(parts) == 1 else _canvas(parts) for parts in laid if parts)
    body = _lay(rest, covered, nested=nested)
    if not header:
        return body
    return [f"chord({header}) → {body[0]}", *body[1:]] if body else [f"group({header})"]


def _cause(plan: Plan, step: str) -> str:
    """What the canvas that starts at `step` waits for."""
    before = next((one for one in plan.ids if plan.place(one).after == step), None)
    if before is not None:
        return _after(plan.place(before).step)
    around = plan.place(step).block
    block = plan.block(around) if around is not None else None
    if block is None:
        raise ValueError(f"{step} is the first of all, and waits for nothing")
    return _opening(block, step)


def _opening(block: Block, first: str) -> str:
    match block:
        case BranchesStep():
            return f"when {block.id} opens"
        case SwitchStep():
            chosen = next(case for case in block.cases if case.steps[0].id == first)
            return f"when {block.id} finds {case_label(chosen) if chosen.when else 'none of these true'}"
        case ForEachStep():
            return f"for each of {shortened(block.items.source)} in {block.id}, {block.concurrency} at a time"
        case RepeatStep():
            return f"in each round of {block.id}, until {shortened(block.until.source)} (at most {block.max})"
    assert_never(block)


def _after(step: Step) -> str:
    match step:
        case ServiceStep():
            return f"after the decision on {step.id}" if step.pause else f"after {step.id}"
        case WaitStep():
            return f"when the time of {step.id} has come"
        case WorkflowStep():
            return f"when {step.workflow} has ended, which {step.id} starts"
        case EndStep():
            return f"when {step.id} is skipped"
        case _:
            return _closing(step)


def _closing(block: Block) -> str:
    if isinstance(block, BranchesStep | SwitchStep):
        return f"after the join of {block.id}"
    return f"after the last {'item' if isinstance(block, ForEachStep) else 'round'} of {block.id}"


def _end(step: EndStep) -> str:
    if step.kind == "end":
        return f"the instance completes ({step.reason})"
    return f"the instance fails ({step.reason}), and what was done is undone"
