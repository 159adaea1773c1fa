"""All that is known of one instance, as the laws are given it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID

from tests.chaos.checker import table
from tests.chaos.checker.database import Entry, Header, Step
from tests.chaos.checker.definition import Definition, Node
from tests.chaos.checker.falls import Fall, falls
from tests.chaos.checker.ledger import Line
from tests.chaos.checker.replay import Event, Key, Place, Replay, Standing
from tests.chaos.checker.report import Violation

Generation = tuple[str, str, int | None]  # a step's name, the phase, and its generation


@dataclass(frozen=True, slots=True)
class Claim:
    """One attempt, as the history tells of it."""

    seq: int
    generation: int
    service: str | None
    life: int
    fall: int
    escalations: int  # of the step before it
    standing: Standing


@dataclass(frozen=True, kw_only=True)
class World:
    """What the laws need of other instances."""

    now: datetime
    headers: Mapping[UUID, Header]
    children: Mapping[UUID, Sequence[Header]]
    lines: Mapping[str, Sequence[Line]]  # of the ledger, by trace
    tenants: Mapping[UUID, str]  # of the definitions' versions
    storm: int  # calls for one key that are still sane


@dataclass(frozen=True, kw_only=True)
class Case:
    header: Header
    definition: Definition
    rows: Mapping[Key, Step]
    entries: Sequence[Entry]
    lines: Sequence[Line]
    replay: Replay
    world: World

    def violation(self, kind: str, text: str) -> Violation:
        return Violation(kind=kind, trace=self.header.trace, text=text)

    def node(self, name: str) -> Node | None:
        return self.definition.node(name)

    def place(self, name: str, phase: str = "do") -> Place | None:
        return self.replay.places.get((name, phase))

    @property
    def events(self) -> Sequence[Event]:
        return self.replay.events

    @property
    def is_over(self) -> bool:
        return self.header.status in table.TERMINAL

    @cached_property
    def claims(self) -> dict[tuple[str, str, int], Claim]:
        """By step, phase and attempt."""
        found: dict[tuple[str, str, int], Claim] = {}
        escalations: dict[str, int] = defaultdict(int)
        for event in self.events:
            entry = event.entry
            if event.verb == "escalate":
                escalations[entry.step or ""] += 1
            if entry.step is not None and event.verb in table.CLAIMS:
                found.setdefault(
                    (entry.step, entry.phase or "do", entry.attempt or 0),
                    Claim(entry.seq, entry.generation or 0, entry.service, event.standing.life, event.standing.falls,
                          escalations[entry.step], event.standing),
                )  # fmt: skip
        return found

    def claim(self, line: Line) -> Claim | None:
        """The claim that a call was made under."""
        return self.claims.get((line.key.step, line.key.phase, line.attempt or 0))

    @cached_property
    def falls(self) -> dict[int, Fall]:
        """By number; before the first one it is 0."""
        return falls(self.events)

    @cached_property
    def effects(self) -> list[Line]:
        return [line for line in self.lines if line.what == "effect"]

    @cached_property
    def effects_of(self) -> dict[Generation, list[Line]]:
        return self._grouped("effect")

    @cached_property
    def calls_of(self) -> dict[Generation, list[Line]]:
        return self._grouped("call")

    def _grouped(self, what: str) -> dict[Generation, list[Line]]:
        found: dict[Generation, list[Line]] = defaultdict(list)
        for line in self.lines:
            if line.what == what:
                claim = self.claim(line)
                generation = claim.generation if claim is not None else line.key.generation
                found[line.key.step, line.key.phase, generation].append(line)
        return dict(found)


Law = Callable[[Case], Iterator[Violation]]
