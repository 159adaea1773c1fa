"""How far an instance has come, for people who do not run it: its outermost steps in order, and how each stands. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from orchestrator import states
from orchestrator.definition import BranchesStep, Definition, EndStep, Step, walk

Standing: TypeAlias = Literal["done", "now", "next", "skipped", "failed", "held", "undone", "dropped"]

# The first that any step inside a milestone is in is the milestone's own.
BY_STATE: tuple[tuple[Standing, frozenset[str]], ...] = (
    ("held", frozenset({states.UNKNOWN, states.STUCK})),
    ("undone", frozenset({states.COMPENSATING, states.COMPENSATED})),
    ("failed", frozenset({states.FAILED})),
    ("now", frozenset({states.READY, states.RUNNING, states.RETRYING, states.WAITING})),
    ("done", frozenset({states.SUCCEEDED})),
    ("skipped", frozenset({states.SKIPPED})),
)


@dataclass(frozen=True, kw_only=True)
class Milestone:
    step: str
    title: str
    standing: Standing
    together: bool = False  # side by side with the one before it


def milestones(definition: Definition, found: Mapping[str, frozenset[str]], *, is_over: bool) -> tuple[Milestone, ...]:
    """`found`: step id → the states of its rows, one an iteration. `is_over`: what has no row will not be reached."""
    return tuple(
        Milestone(
            step=step.id, title=title_of(step), standing=_standing(step, found, is_over=is_over), together=together
        )
        for step, together in _outermost(definition.steps)
    )


def title_of(step: Step) -> str:
    return step.title or plain(step.id)


def plain(name: str) -> str:
    """`uploadDocs` as `Upload docs`: an id as somebody would say it, where nobody has given a title."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-_]+", " ", name).split()
    said = " ".join(word if len(word) > 1 and word.isupper() else word.lower() for word in words)
    return said[:1].upper() + said[1:]


def _outermost(steps: tuple[Step, ...]) -> Iterator[tuple[Step, bool]]:
    """Neighbours that run side by side in a block nobody wrote count one by one. An unnamed end is no milestone."""
    for step in steps:
        if isinstance(step, BranchesStep) and not step.written:
            inside = [one for branch in step.branches for one in branch.steps]
            yield from ((one, number > 0) for number, one in enumerate(inside))
        elif not isinstance(step, EndStep) or step.title:
            yield step, False


def _standing(step: Step, found: Mapping[str, frozenset[str]], *, is_over: bool) -> Standing:
    own = found.get(step.id, frozenset())
    inside = _all_of(found.get(one.id, frozenset()) for one in walk((step,)))
    if states.SUCCEEDED in own and not inside & (
        states.ACTIVE | {states.COMPENSATING, states.COMPENSATED, states.STUCK}
    ):
        return "done"  # an error inside that was gone on from is no failure of the whole
    standing = next((name for name, wanted in BY_STATE if inside & wanted), None)
    if standing is None:
        return "dropped" if is_over else "next"
    return "dropped" if standing == "now" and is_over else standing


def _all_of(several: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*several)
