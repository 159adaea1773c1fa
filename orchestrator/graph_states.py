"""What the picture of a definition says about an instance: its rows, one a step and iteration, counted together. Pure.

The drawing shows a loop's body once. A row is named for its step and the iterations it stands in, outermost first,
from 0: `sign`, `sign[3]`, `visit[0][2]`.

How rows become one state (`tallies`):
- The most urgent state is shown, in the order of `URGENCY`: what needs a person before what moves by itself, and that
  before what has ended.
- Of a `repeat` only the latest round counts: what an earlier round left behind is history.
- A step in a `forEach` says how many of the iterations have done it, and what else there is: `3 of 7 done, 1 failed`.
  The whole is every iteration that is known; behind a `switch`, those that went this way.
- A `forEach` says the same of its iterations: one is done when the last step of its body is. Until then, it counts
  as its most urgent step does.
- A loop that is under way shows its most urgent iteration's state, for its own row only says that it runs.
- A `repeat` says its round: `round 2 of at most 5`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from orchestrator.definition import Definition, ForEachStep, Loop, RepeatStep, Step, SwitchStep, sequences, walk
from orchestrator.iterations import Numbers, id_of, numbers_of

Value = TypeVar("Value")
Loops: TypeAlias = tuple[Loop, ...]  # around a step, the outermost first

NOT_REACHED = ""
# State → in words, the most urgent first.
URGENCY = {
    "STUCK": "undo failed",
    "UNKNOWN": "unknown",
    "FAILED": "failed",
    "WAITING": "waiting",
    "RETRYING": "to be retried",
    "COMPENSATING": "being undone",
    "RUNNING": "running",
    "READY": "ready",
    "COMPENSATED": "undone",
    "SUCCEEDED": "done",
    "SKIPPED": "skipped",
}
UNDER_WAY = frozenset({"RUNNING", "WAITING"})
ENDED_WELL = frozenset({"SUCCEEDED", "SKIPPED"})
WORTH_SAYING = 2  # kinds of states beside those done: a badge has to stay short


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What is shown at a step: the most urgent state of its rows, and how its iterations stand ("" outside loops)."""

    state: str
    badge: str = ""


def tallies(
    definition: Definition, states: Mapping[str, str], totals: Mapping[str, int] | None = None
) -> dict[str, Tally]:
    """Step id → tally, of the steps that have been reached.

    `states`: row name → state. `totals`: row name of a `forEach` → how many items its list has, where that is known;
    otherwise the whole is what has begun.
    """
    return dict(_Count(states, totals or {}).sequence(definition.steps, (), 0))


def most_urgent(states: Iterable[str]) -> str:
    """`NOT_REACHED` of none. A state that has no words here is the most urgent: nobody knows what it means."""
    order = list(URGENCY)
    return min(states, key=lambda state: order.index(state) if state in URGENCY else -1, default=NOT_REACHED)


def in_words(state: str) -> str:
    return URGENCY.get(state, state) if state else "not reached"


def counted(states: Iterable[str], whole: int) -> str:
    """`3 of 7 done, 1 failed`: what is done, then what is not, the most urgent first."""
    counts = Counter(states)
    others = [f"{counts[state]} {words}" for state, words in URGENCY.items() if counts[state] and state != "SUCCEEDED"]
    return ", ".join([f"{counts['SUCCEEDED']} of {whole} done", *others[:WORTH_SAYING]])


def _rows(named: Mapping[str, Value]) -> dict[str, dict[Numbers, Value]]:
    found: dict[str, dict[Numbers, Value]] = {}
    for row, value in named.items():
        found.setdefault(id_of(row), {})[numbers_of(row)] = value
    return found


class _Count:
    def __init__(self, states: Mapping[str, str], items: Mapping[str, int]) -> None:
        self._states, self._items = _rows(states), _rows(items)

    def sequence(self, steps: tuple[Step, ...], loops: Loops, whole: int) -> Iterator[tuple[str, Tally]]:
        """`whole`: how many iterations come by here; 0 where that is known of those only that have come."""
        for step in steps:
            if isinstance(step, ForEachStep | RepeatStep):
                yield from self._loop(step, loops, whole)
                continue
            yield from self._reached(step, loops, whole)
            for inner in sequences(step):
                yield from self.sequence(inner, loops, 0 if isinstance(step, SwitchStep) else whole)

    def _reached(self, step: Step, loops: Loops, whole: int) -> Iterator[tuple[str, Tally]]:
        rows = _latest(self._states.get(step.id, {}), loops)
        if rows:
            yield step.id, Tally(state=most_urgent(rows.values()), badge=_badge(rows, loops, whole))

    def _loop(self, loop: Loop, loops: Loops, whole: int) -> Iterator[tuple[str, Tally]]:
        inside = (*loops, loop)
        iterations = self._iterations(loop, inside)
        known = sum(_latest(self._items.get(loop.id, {}), loops).values())
        inner_whole = max(len(iterations), known)
        for step_id, own in self._reached(loop, loops, whole):
            state = most_urgent([own.state, *iterations.values()]) if own.state in UNDER_WAY else own.state
            yield step_id, Tally(state=state, badge=_loop_badge(loop, iterations, inner_whole) or own.badge)
        yield from self.sequence(loop.steps, inside, inner_whole)

    def _iterations(self, loop: Loop, inside: Loops) -> dict[Numbers, str]:
        """Where → how far it is, of every iteration that has begun."""
        found: dict[Numbers, list[str]] = {}
        for step in walk(loop.steps):
            for path, state in self._states.get(step.id, {}).items():
                found.setdefault(path[: len(inside)], []).append(state)
        last = self._states.get(loop.steps[-1].id, {})
        iterations = {path: _progress(states, last.get(path, "")) for path, states in found.items()}
        return _latest(iterations, inside)


def _progress(states: list[str], last: str) -> str:
    """An iteration all of whose rows have ended well is done only when the last step's is among them."""
    if last in ENDED_WELL:
        return "SUCCEEDED"
    urgent = most_urgent(states)
    return "RUNNING" if urgent in ENDED_WELL else urgent


def _latest(rows: Mapping[Numbers, Value], loops: Loops) -> dict[Numbers, Value]:
    """The rows without those of a `repeat`'s earlier rounds."""
    found = dict(rows)
    for depth, loop in enumerate(loops):
        if isinstance(loop, RepeatStep):
            newest: dict[Numbers, int] = {}
            for path in found:
                newest[path[:depth]] = max(path[depth], newest.get(path[:depth], 0))
            found = {path: value for path, value in found.items() if path[depth] == newest[path[:depth]]}
    return found


def _badge(rows: Mapping[Numbers, str], loops: Loops, whole: int) -> str:
    if any(isinstance(loop, ForEachStep) for loop in loops):
        return counted(rows.values(), max(whole, len(rows)))
    return f"round {max(rows)[-1] + 1}" if loops else ""


def _loop_badge(loop: Loop, iterations: Mapping[Numbers, str], whole: int) -> str:
    """Empty where the loop's own rows say more: a `repeat` that other loops run side by side has no one round."""
    if isinstance(loop, ForEachStep):
        return counted(iterations.values(), whole)
    return f"round {max(iterations)[-1] + 1} of at most {loop.max}" if len(iterations) == 1 else ""
