"""Definition → plan: who follows whom, where to join, and what can be laid out ahead. Pure.

A *segment* is what can be laid out ahead as one canvas; it ends where only Postgres can wait:
at a pause. A *leg* is a run of neighbours on the same queue: one message, no broker in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from orchestrator.definition import BranchesStep, Definition, ServiceStep, Step
from orchestrator.lane import DEFAULT_QUEUE, Lane

NO_LANE = Lane(name="", transport="local", idempotency="safe")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a step stands: its order in the definition, its block and what comes after it there."""

    step: Step
    order: int
    block: str | None
    after: str | None


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
    """The places of a definition's steps, and the lanes that they call as those are configured now."""

    def __init__(self, definition: Definition, lanes: Mapping[str, Lane]) -> None:
        self.definition = definition
        self._lanes = lanes
        self._places: dict[str, Place] = {}
        self._lay(definition.steps, None)

    def _lay(self, steps: tuple[Step, ...], block: str | None) -> None:
        for step, after in zip(steps, (*(s.id for s in steps[1:]), None), strict=True):
            self._places[step.id] = Place(step=step, order=len(self._places), block=block, after=after)
            if isinstance(step, BranchesStep):
                for branch in step.branches:
                    self._lay(branch.steps, step.id)

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

    def lane(self, service: str | None) -> Lane:
        """The lane of `lane.operation`. One that is not configured any more may neither be asked nor repeated; where
        no service is called there is nothing to repeat."""
        if service is None:
            return NO_LANE
        name = service.partition(".")[0]
        return self._lanes.get(name) or Lane(name=name, transport="local", idempotency="none")

    def queue_of(self, lane: str) -> str:
        return self._lanes[lane].queue if lane in self._lanes else DEFAULT_QUEUE

    def queue(self, step: str) -> str:
        """The queue that serves a step: its lane's; for a block or a bare pause the one that serves no lane in particular."""
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
        """Fuse neighbouring legs on one queue."""
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
