"""Definition → plan: who follows whom, where to join, and what can be laid out ahead. Pure.

A *segment* is what can be laid out ahead as one canvas; it ends where only Postgres can wait:
at a pause. A *leg* is a run of neighbours on the same queue: one message, no broker in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from orchestrator.definition import BranchesStep, Definition, ServiceStep, Step


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a step stands: its order in the definition, its block and what comes after it there."""

    step: Step
    order: int
    block: str | None
    after: str | None
    optional: bool  # it, or a block around it, has a condition


@dataclass(frozen=True, kw_only=True)
class Leg:
    """Neighbours on one queue. The last may be a conditional block, which then opens its branches."""

    steps: tuple[str, ...]
    queue: str


@dataclass(frozen=True, kw_only=True)
class Fork:
    """A block: what is laid out in each branch, and the step that follows its join."""

    block: str
    branches: tuple[Segment, ...]


Part: TypeAlias = Leg | Fork
Segment: TypeAlias = tuple[Part, ...]


class Plan:
    """The places of a definition's steps. `queue_of` says which queue serves a lane."""

    def __init__(self, definition: Definition, queue_of: Callable[[str], str]) -> None:
        self.definition = definition
        self.queue_of = queue_of
        self._places: dict[str, Place] = {}
        self._lay(definition.steps, None, optional=False)

    def _lay(self, steps: tuple[Step, ...], block: str | None, *, optional: bool) -> None:
        for step, after in zip(steps, (*(s.id for s in steps[1:]), None), strict=True):
            may_skip = optional or step.when is not None
            order = len(self._places)
            self._places[step.id] = Place(step=step, order=order, block=block, after=after, optional=may_skip)
            if isinstance(step, BranchesStep):
                for branch in step.branches:
                    self._lay(branch.steps, step.id, optional=may_skip)

    @property
    def first(self) -> str:
        return self.definition.steps[0].id

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._places)

    def place(self, step: str) -> Place:
        return self._places[step]

    def service(self, step: str) -> ServiceStep:
        found = self._places[step].step
        if not isinstance(found, ServiceStep):
            raise TypeError(f"{step} is a block: it calls no service")
        return found

    def block(self, step: str) -> BranchesStep | None:
        found = self._places[step].step
        return found if isinstance(found, BranchesStep) else None

    def heads(self, block: str) -> tuple[str, ...]:
        """The first step of each branch."""
        found = self.block(block)
        return tuple(branch.steps[0].id for branch in found.branches) if found else ()

    def queue(self, step: str) -> str:
        """The queue that serves a step: its lane's; a block or a bare pause goes where its leg is."""
        found = self._places[step].step
        operation = found.operation if isinstance(found, ServiceStep) else None
        return self.queue_of(operation.lane if operation else "")

    def undo_queue(self, step: str) -> str:
        compensation = self.service(step).compensation
        return self.queue_of(compensation.operation.lane if compensation else "")

    @cached_property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """The steps whose results a step's condition and input name."""
        return {name: _names(place.step) for name, place in self._places.items()}

    def segment(self, start: str) -> Segment:
        """What can be laid out from `start` on, within its own sequence of steps."""
        return tuple(self._merge(self._parts(start)))

    def body(self, block: str) -> Segment:
        """What follows a block's join."""
        after = self._places[block].after
        return self.segment(after) if after else ()

    def _parts(self, start: str) -> Iterator[Part]:
        step: str | None = start
        while step is not None:
            place = self._places[step]
            if isinstance(place.step, BranchesStep):
                if place.step.when is not None:
                    yield Leg(steps=(step,), queue=self.queue(step))
                yield Fork(block=step, branches=tuple(self.segment(head) for head in self.heads(step)))
            else:
                yield Leg(steps=(step,), queue=self.queue(step))
                if place.step.pause:
                    return
            step = place.after

    @staticmethod
    def _merge(parts: Iterator[Part]) -> Iterator[Part]:
        """Fuse neighbouring legs on one queue. A block's gate runs on any queue, so it joins the leg before it."""
        open_leg: Leg | None = None
        for part in parts:
            if isinstance(part, Leg) and open_leg is not None and part.queue == open_leg.queue:
                open_leg = Leg(steps=(*open_leg.steps, *part.steps), queue=open_leg.queue)
                continue
            if open_leg is not None:
                yield open_leg
            open_leg = part if isinstance(part, Leg) else None
            if isinstance(part, Fork):
                yield part
        if open_leg is not None:
            yield open_leg


def _names(step: Step) -> tuple[str, ...]:
    found: list[str] = list(step.when.steps) if step.when else []
    if isinstance(step, ServiceStep) and step.input:
        found += step.input.steps
    return tuple(dict.fromkeys(found))
