"""Workflows that would run each other for ever. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.definition import Definition, WorkflowStep, walk
from orchestrator.errors import Problem


def cycles(definitions: Iterable[Definition]) -> list[Problem]:
    """A problem for each cycle of sub-workflows among `definitions`, naming all of it: a → b → a.

    A sub-workflow that is not among them leads nowhere.
    """
    calls = {definition.id: list(dict.fromkeys(_called(definition))) for definition in definitions}
    found = dict.fromkeys(_rotated(cycle) for start in calls for cycle in _back_to(start, calls))
    return [
        Problem(
            message=f"these workflows run each other for ever: {' → '.join([*cycle, cycle[0]])}",
            hint="take one of these sub-workflows out; to do steps again, write a `repeat`",
        )
        for cycle in found
    ]


def _called(definition: Definition) -> Iterator[str]:
    return (step.workflow for step in walk(definition.steps) if isinstance(step, WorkflowStep))


def _back_to(start: str, calls: dict[str, list[str]]) -> list[tuple[str, ...]]:
    """A shortest way from `start` back to it, if there is one: one for each start is enough to find every knot."""
    seen: set[str] = set()
    ways: list[tuple[str, ...]] = [(start,)]
    while ways:
        following = []
        for way in ways:
            for callee in calls.get(way[-1], []):
                if callee == start:
                    return [way]
                if callee not in seen:
                    seen.add(callee)
                    following.append((*way, callee))
        ways = following
    return []


def _rotated(cycle: tuple[str, ...]) -> tuple[str, ...]:
    """Begun at its first name, so that a cycle is told once, wherever the search began."""
    at = cycle.index(min(cycle))
    return cycle[at:] + cycle[:at]
