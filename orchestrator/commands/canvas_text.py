"""A plan's canvases as text: what `orchestrator compile` prints. Pure; it says what `canvas.compile` makes of a segment.

Nothing depends on a canvas being sent whole: where a block opens with no leg before it, the dispatcher sends its
branches one by one, and Postgres joins them all the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.definition import BranchesStep, ServiceStep
from orchestrator.lane import DEFAULT_QUEUE
from orchestrator.plan import Fork, Leg, Plan, Segment


def lines(plan: Plan) -> Iterator[str]:
    """A line a canvas: the first is sent at the start, each of the others when what it waits for has ended."""
    covered: set[str] = set()
    for step in plan.ids:
        if step in covered:
            continue
        reason = "" if step == plan.first else f"{_cause(plan, step)}: "
        yield reason + _canvas(_lay(plan.segment(step), covered, nested=False))


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
    place = plan.place(step)
    before = next((one for one in plan.ids if plan.place(one).after == step), None)
    if before is None:
        return f"when {place.block} opens"
    found = plan.place(before).step
    return f"after the join of {before}" if isinstance(found, BranchesStep) else _after(found)


def _after(step: ServiceStep) -> str:
    return f"after the decision on {step.id}" if step.pause else f"after {step.id}"
