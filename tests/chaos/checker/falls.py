"""How an instance fell, each time: what was put on its undo list, and what had its turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.checker.replay import Event, Key, Place


@dataclass(kw_only=True)
class Fall:
    """One time that an instance fell: what was put on the undo list, and what had its turn."""

    life: int
    listed: list[tuple[str, Place]] = field(default_factory=list)  # as it stood before it was put there
    turns: list[str] = field(default_factory=list)
    ended: dict[str, Place] | None = None  # how everything stood when the fall was over; none: it is not


def falls(events: Sequence[Event]) -> dict[int, Fall]:
    found: dict[int, Fall] = {}
    places: dict[Key, Place] = {}
    for event in events:
        number, key = event.standing.falls, event.key
        fall = found.setdefault(number, Fall(life=event.standing.life))
        if key is not None:
            places[key] = event.after
            _note(fall, event)
        elif event.verb in ("compensate", "fail", "cancel"):
            fall.ended = {name: place for (name, phase), place in places.items() if phase == "do"}
    return found


def _note(fall: Fall, event: Event) -> None:
    name = event.entry.step or ""
    if event.verb == "undo" and event.before.state != "STUCK":
        fall.listed.append((name, event.before))
    elif event.entry.phase == "undo" and event.verb in ("ready", "renew") and name not in fall.turns:
        fall.turns.append(name)
