"""What the expressions of a step can see: the same iteration inside a loop, a list of all of them outside it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator import states
from orchestrator.definition import ForEachStep, RepeatStep
from orchestrator.instance import CHANGED
from orchestrator.iterations import Numbers, named, numbers_of
from orchestrator.lane import result_of
from orchestrator.plan import Names, Plan

Told = Mapping[str, Mapping[str, Any]]  # a row's name → {state, output, error, decision, begun, reason}

SKIPPED: dict[str, Any] = {"result": None, "output": None, "status": states.SKIPPED, "error": None, "decision": None}


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item of a loop: the loop's row, and the number of the iteration."""

    loop: str
    number: int


@dataclass(frozen=True, kw_only=True)
class Standpoint:
    """Where a step stands: the loops around it, and the numbers of its iterations."""

    loops: tuple[str, ...]
    numbers: Numbers


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The rows to be read: those with these names, and all iterations of others (the part of the name before them)."""

    names: frozenset[str]
    iterated: frozenset[str]
    items: Mapping[str, Item]


def standpoint(plan: Plan, step: str, begun: int = 0) -> Standpoint:
    """`begun`: of a `repeat` that looks back at its latest round, how many there were."""
    loops, numbers = plan.place(step).loops, numbers_of(step)
    if isinstance(plan.place(step).step, RepeatStep) and begun:
        return Standpoint(loops=(*loops, plan.place(step).step.id), numbers=(*numbers, begun - 1))
    return Standpoint(loops=loops, numbers=numbers)


def wanted(plan: Plan, names: Names, stand: Standpoint) -> Wanted:
    exact: set[str] = set()
    iterated: set[str] = set()
    for step in names.steps:
        loops, numbers = _beyond(plan, step, stand)
        exact.add(named((*loops, step)[0], numbers))
        iterated |= {named(inner, numbers) for inner in (*loops, step)[1:]}
    items = {name: _item(plan, name, stand) for name in names.items}
    return Wanted(names=frozenset(exact), iterated=frozenset(iterated), items=items)


def is_wanted(row: str, want: Wanted) -> bool:
    return row in want.names or any(row.startswith(f"{name}[") for name in want.iterated)


def _beyond(plan: Plan, step: str, stand: Standpoint) -> tuple[tuple[str, ...], Numbers]:
    """The loops around a step that are not around the standpoint, and the numbers that both have in common."""
    loops = plan.place(step).loops
    common = 0
    while common < min(len(loops), len(stand.loops)) and loops[common] == stand.loops[common]:
        common += 1
    return loops[common:], stand.numbers[:common]


def _item(plan: Plan, name: str, stand: Standpoint) -> Item:
    for depth, loop in reversed(list(enumerate(stand.loops))):
        step = plan.place(loop).step
        if isinstance(step, ForEachStep) and step.variable == name:
            return Item(loop=named(loop, stand.numbers[:depth]), number=stand.numbers[depth])
    raise LookupError(f"no loop here calls its item {name!r}")


def steps(plan: Plan, names: Iterable[str], stand: Standpoint, told: Told) -> dict[str, Any]:
    """By id, what is known of each step that is named; one that was skipped, or not reached, is absent."""
    found = {step: _seen(plan, step, stand, told) for step in names}
    return {step: seen for step, seen in found.items() if seen is not None}


def _seen(plan: Plan, step: str, stand: Standpoint, told: Told) -> Any:
    loops, numbers = _beyond(plan, step, stand)
    first = told.get(named((*loops, step)[0], numbers))
    if first is None or not _is_seen(first):
        return None
    return _listed(step, loops, numbers, told)


def _listed(step: str, loops: tuple[str, ...], numbers: Numbers, told: Told) -> Any:
    row = told.get(named((*loops, step)[0], numbers))
    if not loops:
        return known(row) if row is not None and _is_seen(row) else SKIPPED
    return [_listed(step, loops[1:], (*numbers, number), told) for number in range(row["begun"] if row else 0)]


def _is_seen(row: Mapping[str, Any]) -> bool:
    """Neither skipped nor, in an earlier life, undone or left on another way."""
    return row["state"] not in (states.SKIPPED, states.COMPENSATED) and row["reason"] != CHANGED


def known(row: Mapping[str, Any]) -> dict[str, Any]:
    """What an expression may ask of a step."""
    return {
        "result": result_of(row["output"]), "output": row["output"], "status": row["state"],
        "error": row["error"], "decision": row["decision"],
    }  # fmt: skip
