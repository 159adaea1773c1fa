"""Sub-workflows: none goes on without its parent, and a parent says of them what is so."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.checker import table
from tests.chaos.checker.case import Case
from tests.chaos.checker.database import Header
from tests.chaos.checker.definition import Path, path_of, precedes
from tests.chaos.checker.ledger import Line
from tests.chaos.checker.order import effects_done
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


def in_turn(case: Case) -> Iterator[Violation]:
    """By the ledger: what stands before a sub-workflow was done before it called anybody, and it had done all that it
    did before what stands behind it called."""
    for child in case.world.children.get(case.header.id, ()):
        lines, life = lines_of(case, child), _life(case, child)
        node = case.node(child.parent_step or "")
        if node is None or life is None or not lines:
            continue
        path = path_of(node, child.parent_step or "")
        for other, its_path, effect, its_life in effects_done(case):
            if precedes(its_path, path) and its_life <= life and effect > lines[0].n:
                text = f"{child.trace} called (line {lines[0].n}) before {other} was done (line {effect})"
                yield case.violation("effect-out-of-order", text)
        if child.status == "COMPLETED":
            yield from _before_the_next(case, child, path, life, lines)


def _before_the_next(case: Case, child: Header, path: Path, life: int, lines: list[Line]) -> Iterator[Violation]:
    last = max((line.n for line in lines if line.what == "effect" and line.key.phase == "do"), default=0)
    for (name, phase, _), calls in case.calls_of.items():
        node, claim = case.node(name), case.claim(calls[0])
        if phase != "do" or node is None or claim is None or claim.life < life:
            continue
        if precedes(path, path_of(node, name)) and calls[0].n < last:
            text = f"{name} was called (line {calls[0].n}) before {child.trace} was done (line {last})"
            yield case.violation("effect-out-of-order", text)


def lines_of(case: Case, child: Header) -> list[Line]:
    """Of the sub-workflow and of all beneath it."""
    found = list(case.world.lines.get(child.trace, ()))
    for one in case.world.children.get(child.id, ()):
        found += lines_of(case, one)
    return sorted(found, key=lambda line: line.n)


def _life(case: Case, child: Header) -> int | None:
    """In which it was begun."""
    key = (child.parent_step or "", "do")
    begun = (one for one in case.events if one.key == key and one.entry.generation == child.parent_generation)
    return next((one.standing.life for one in begun), None)
