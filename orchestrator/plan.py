"""Definition → plan: who follows whom, where to join, and what can be laid out ahead. Pure.

A *segment* is what can be laid out ahead as one canvas; it ends where only Postgres can wait or decide: at a pause, a
timer, a sub-workflow, and where a `switch` or a loop says what comes next. A *leg* is a run of neighbours on the same
queue: one message, no broker in between. Steps go by name: their id, and in loops the iteration's number (`sign[3]`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from orchestrator.definition import (
    Block,
    BranchesStep,
    Definition,
    EndStep,
    Expression,
    ForEachStep,
    RepeatStep,
    ServiceStep,
    Step,
    SwitchStep,
    Template,
    WaitStep,
    WorkflowStep,
    sequences,
)
from orchestrator.iterations import id_of, is_name, named, numbers_of
from orchestrator.lane import DEFAULT_QUEUE, Lane

NO_LANE = Lane(name="", transport="local", idempotency="safe")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a step stands: its order in the definition, its block and what comes after it there (ids, as written)."""

    step: Step
    order: int
    block: str | None
    after: str | None
    loops: tuple[str, ...]  # the loops around it, the outermost first


@dataclass(frozen=True, kw_only=True)
class Leg:
    """Neighbours on one queue. The last may be a block, which then opens what is inside it."""

    steps: tuple[str, ...]
    queue: str


@dataclass(frozen=True, kw_only=True)
class Fork:
    """A block: what is laid out in each branch, and the step that follows its join."""

    block: str
    branches: tuple[Segment, ...]


@dataclass(frozen=True, kw_only=True)
class Names:
    """What expressions name: steps by id, and items of loops by what `as` calls them."""

    steps: tuple[str, ...] = ()
    items: tuple[str, ...] = ()


Part: TypeAlias = Leg | Fork
Segment: TypeAlias = tuple[Part, ...]


class Plan:
    """The places of a definition's steps, and the lanes that they call as those are configured now."""

    def __init__(self, definition: Definition, lanes: Mapping[str, Lane]) -> None:
        self.definition = definition
        self._lanes = lanes
        self._places: dict[str, Place] = {}
        self._lay(definition.steps, None, ())

    def _lay(self, steps: tuple[Step, ...], block: str | None, loops: tuple[str, ...]) -> None:
        for step, after in zip(steps, (*(s.id for s in steps[1:]), None), strict=True):
            self._places[step.id] = Place(step=step, order=len(self._places), block=block, after=after, loops=loops)
            inside = (*loops, step.id) if isinstance(step, ForEachStep | RepeatStep) else loops
            for inner in sequences(step):
                self._lay(inner, step.id, inside)

    @property
    def first(self) -> str:
        return self.definition.steps[0].id

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._places)

    def place(self, step: str) -> Place:
        """Raises KeyError for a name that is no step's."""
        return self._places[id_of(step)]

    def has(self, step: str) -> bool:
        """Whether a step may go by this name."""
        place = self._places.get(id_of(step))
        return place is not None and is_name(step) and len(numbers_of(step)) == len(place.loops)

    def after(self, step: str) -> str | None:
        """The next in the same sequence of steps, and of the same iteration."""
        after = self.place(step).after
        return named(after, numbers_of(step)) if after is not None else None

    def around(self, step: str) -> str | None:
        """The block that a step stands in."""
        block = self.place(step).block
        return named(block, numbers_of(step)[: len(self._places[block].loops)]) if block is not None else None

    def service(self, step: str) -> ServiceStep:
        found = self.place(step).step
        if not isinstance(found, ServiceStep):
            raise TypeError(f"{step} calls no service")
        return found

    def block(self, step: str) -> Block | None:
        found = self.place(step).step
        return found if isinstance(found, Block) else None

    def heads(self, block: str) -> tuple[str, ...]:
        """The first step of each of its sequences, in the block's own iteration; a loop's are told by `head`."""
        return tuple(named(inner[0].id, numbers_of(block)) for inner in sequences(self.place(block).step))

    def head(self, loop: str, iteration: int) -> str:
        """The first step of a loop's iteration."""
        (body,) = sequences(self.place(loop).step)
        return named(body[0].id, (*numbers_of(loop), iteration))

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
        found = self.place(step).step
        operation = found.operation if isinstance(found, ServiceStep) else None
        return self.queue_of(operation.lane if operation else "")

    def undo_queue(self, step: str) -> str:
        undone = self.place(step).step
        compensation = undone.compensation if isinstance(undone, ServiceStep) else None
        return self.queue_of(compensation.operation.lane if compensation else "")

    @cached_property
    def needs(self) -> dict[str, Names]:
        """By id: what a step's condition and its other expressions name."""
        return {name: _names(place.step) for name, place in self._places.items()}

    @cached_property
    def has_children(self) -> bool:
        return any(isinstance(place.step, WorkflowStep) for place in self._places.values())

    def segment(self, start: str) -> Segment:
        """What can be laid out from `start` on, within its own sequence of steps."""
        return tuple(self._merge(self._parts(start)))

    def _parts(self, start: str) -> Iterator[Part]:
        step: str | None = start
        while step is not None:
            found = self.place(step).step
            if isinstance(found, BranchesStep):
                if found.when is not None:
                    yield Leg(steps=(step,), queue=self.queue(step))
                yield Fork(block=step, branches=tuple(self.segment(head) for head in self.heads(step)))
            else:
                yield Leg(steps=(step,), queue=self.queue(step))
                if not isinstance(found, ServiceStep) or found.pause:
                    return
            step = self.after(step)

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


def _names(step: Step) -> Names:
    told = [one for one in (step.when, *_told(step)) if one is not None]
    return Names(
        steps=tuple(dict.fromkeys(name for one in told for name in one.steps)),
        items=tuple(dict.fromkeys(name for one in told for name in one.items)),
    )


def _told(step: Step) -> tuple[Expression | Template | None, ...]:
    """What a step evaluates when its turn has come."""
    match step:
        case ServiceStep(input=template) | WorkflowStep(input=template):
            return (template,)
        case SwitchStep(cases=cases):
            return tuple(case.when for case in cases)
        case ForEachStep(items=items):
            return (items,)
        case RepeatStep(until=until) | WaitStep(until=until):
            return (until,)
        case BranchesStep() | EndStep():
            return ()
