"""Sub-workflows: none goes on without its parent, and a parent says of them what is so."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.checker import table
from tests.chaos.checker.case import Case
from tests.chaos.checker.database import Header
from tests.chaos.checker.report import Violation

UNDONE = ("COMPENSATED", "CANCELLED", "FAILED")


def parented(case: Case) -> Iterator[Violation]:
    header = case.header
    if header.parent_id is None:
        return
    parent = case.world.headers.get(header.parent_id)
    if parent is None:
        yield case.violation("child-orphaned", f"its parent {header.parent_id.hex} is not there")
    elif parent.status in table.TERMINAL and header.status not in table.TERMINAL:
        yield case.violation("child-orphaned", f"its parent is {parent.status}, and it is {header.status}")


def agreed(case: Case) -> Iterator[Violation]:
    """What the steps of a parent say of their children."""
    children = {(one.parent_step, one.parent_generation): one for one in case.world.children.get(case.header.id, ())}
    for (name, phase), place in case.replay.places.items():
        node = case.node(name)
        if node is None or node.kind != "workflow" or phase != "do":
            continue
        child = children.pop((name, place.generation), None)
        if why := _why_not(place.state, child):
            yield case.violation("child-differs", f"{name} is {place.state}, and its sub-workflow {why}")
    for (step, generation), child in children.items():
        begun = case.place(step or "")
        if begun is None or (generation or 0) > begun.generation:
            text = f"{child.trace} is of {step} in generation {generation}, which was not"
            yield case.violation("child-differs", text)


def _why_not(state: str, child: Header | None) -> str | None:
    wanted = {"SUCCEEDED": ("COMPLETED",), "COMPENSATED": UNDONE}.get(state)
    if wanted is None:
        return None
    if child is None:
        return "is not there"
    return None if child.status in wanted else f"{child.trace} is {child.status}"
