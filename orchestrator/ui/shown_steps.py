"""Which of an instance's steps its page shows, for a loop may have begun thousands of times. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator import states
from orchestrator.definition import Definition, ForEachStep, RepeatStep, walk
from orchestrator.iterations import id_of

ROWS = 50  # of one table
FEWEST = 10  # of each loop, where there are many loops

Steps = list[dict[str, Any]]  # those of `queries.status`


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """The steps inside an outermost loop."""

    loop: str
    steps: Steps
    omitted: int


def outer(steps: Steps) -> Steps:
    """Those in no loop."""
    return _urgent([one for one in steps if id_of(one["step"]) == one["step"]], ROWS)


def rounds(definition: Definition | None, steps: Steps) -> list[Rounds]:
    """Those in loops, in order."""
    loops, found = _loops(definition), dict[str, Steps]()
    for one in steps:
        name = id_of(one["step"])
        if name != one["step"]:
            found.setdefault(loops.get(name, name), []).append(one)
    most = max(FEWEST, ROWS // (len(found) or 1))
    return [Rounds(loop=loop, steps=_urgent(own, most), omitted=max(0, len(own) - most)) for loop, own in found.items()]


def _loops(definition: Definition | None) -> dict[str, str]:
    """Step's id → the outermost loop around it."""
    found: dict[str, str] = {}
    for step in walk(definition.steps) if definition else ():
        if isinstance(step, ForEachStep | RepeatStep):
            found |= {inner.id: found.get(step.id, step.id) for inner in walk(step.steps)}
    return found


def _urgent(steps: Steps, most: int) -> Steps:
    """Of too many, those that have not ended well before the others; in order."""
    if len(steps) <= most:
        return steps
    ended_well = (states.SUCCEEDED, states.SKIPPED)
    by_urgency = sorted(range(len(steps)), key=lambda number: (steps[number]["status"] in ended_well, number))
    return [steps[number] for number in sorted(by_urgency[:most])]
