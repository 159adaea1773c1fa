"""An instance's history gone through from its first entry: what stood at each of them, and what comes of it in the end.

Nothing is judged here; the laws look at the events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.chaos.checker import table
from tests.chaos.checker.database import Entry
from tests.chaos.checker.definition import Definition, id_of

Key = tuple[str, str]  # a step's name, and the phase


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step, or its compensation, stands."""

    state: str = ""
    reason: str | None = None
    service: str | None = None
    generation: int = 1
    attempt: int = 0
    done_seq: int | None = None  # of the entry by which it ended
    ended_by: str | None = None  # the verb of that
    holder: str | None = None  # the worker that has claimed it, while it is RUNNING
    is_held: bool = False  # claimed, and not merely an open block
    life: int = 0  # in which it was begun last
    decision: str | None = None


UNBORN = Place()


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the instance itself stands."""

    status: str = ""
    reason: str | None = None
    is_falling: bool = False
    is_ending: bool = False  # an `end` was reached
    is_suspended: bool = False
    life: int = 0
    falls: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One entry, and what stood before it and after it."""

    entry: Entry
    before: Place
    after: Place
    opposite: Place  # of the step's undo, where this is of what it does; and of that, where this is of its undo
    standing: Standing  # of the instance, before it

    @property
    def key(self) -> Key | None:
        return None if self.entry.step is None else (self.entry.step, self.entry.phase or "do")

    @property
    def is_do(self) -> bool:
        return self.entry.step is not None and self.entry.phase == "do"

    @property
    def verb(self) -> str:
        return self.entry.verb


@dataclass(kw_only=True)
class Replay:
    events: list[Event] = field(default_factory=list)
    places: dict[Key, Place] = field(default_factory=dict)
    standing: Standing = field(default_factory=Standing)


def replay(entries: Sequence[Entry], definition: Definition) -> Replay:
    found = Replay()
    for entry in entries:
        standing, before, opposite = found.standing, UNBORN, UNBORN
        if entry.step is None:
            after = before
            found.standing = _noted(standing, entry)
        else:
            key = (entry.step, entry.phase or "do")
            before = found.places.get(key, UNBORN)
            opposite = found.places.get((entry.step, "do" if key[1] == "undo" else "undo"), UNBORN)
            after = found.places[key] = _moved(before, entry, standing)
            found.standing = replace(standing, is_ending=True) if _ends(entry, definition) else standing
        found.events.append(Event(entry, before, after, opposite, standing))
    return found


def _noted(standing: Standing, entry: Entry) -> Standing:
    match entry.verb:
        case "start":
            changes: Mapping[str, object] = {"life": standing.life + 1}
        case "restart":
            changes = {"life": standing.life + 1, "is_falling": False, "is_ending": False, "is_suspended": False}
        case "fall" | "recall":
            changes = {"is_falling": True, "falls": standing.falls + 1, "is_ending": False}
            changes = {**changes, "is_suspended": standing.is_suspended and entry.verb == "fall"}
        case "suspend" | "proceed" | "drop":
            changes = {"is_suspended": entry.verb == "suspend"}
        case _:
            changes = {}
    return replace(standing, status=entry.status, reason=entry.reason, **changes)  # type: ignore[arg-type]


def _moved(before: Place, entry: Entry, standing: Standing) -> Place:
    is_over = entry.status not in table.ACTIVE
    keeps = not is_over or entry.verb in table.KEEPS_ITS_PLACE
    is_claimed = entry.verb in table.CLAIMS
    begins = entry.verb in table.BIRTHS or before is UNBORN
    return Place(
        state=entry.status,
        reason=entry.reason,
        service=entry.service,
        generation=entry.generation or 0,
        attempt=entry.attempt or 0,
        done_seq=before.done_seq if keeps else entry.seq,
        ended_by=before.ended_by if keeps else entry.verb,
        holder=entry.worker if is_claimed else None,
        is_held=is_claimed,
        life=standing.life if begins else before.life,
        decision=entry.decision or (None if begins or entry.verb == "escalate" else before.decision),
    )


def _ends(entry: Entry, definition: Definition) -> bool:
    node = definition.nodes.get(id_of(entry.step or ""))
    return entry.verb == "succeed" and entry.phase == "do" and node is not None and node.kind == "end"
