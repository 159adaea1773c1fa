"""The attempts of an instance as horizontal bars, drawn from its history. Pure.

Hours of waiting and milliseconds of work do not fit on one scale: between two moments at which anything happened the
axis is as long as the logarithm of the time between them. The real lengths stand beside the bars in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from math import log1p
from typing import Any

WIDTH = 1000.0  # of the axis
THINNEST = 3.0  # of a stretch that took any time
MOST = 30  # bars; the newest
GRAIN = 20.0  # stretches shorter than 1/GRAIN s are drawn to scale, more or less
QUEUES = frozenset({"ready", "renew", "redo", "release", "escalate"})  # its turn has come; it waits to be taken
AGAIN = frozenset({"retry", "lose"})  # an attempt is over, and the next waits for its time


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt, or a wait to be taken that came to nothing. The moments follow each other."""

    step: str
    undo: bool
    number: int | None
    ready: datetime | None = None
    claimed: datetime | None = None
    parked: datetime | None = None
    ended: datetime | None = None  # none: not yet
    status: str = ""  # that the step was in after it


@dataclass(frozen=True, kw_only=True)
class Stretch:
    kind: str  # queued, ran, waited
    seconds: float
    left: float  # of WIDTH
    width: float


@dataclass(frozen=True, kw_only=True)
class Bar:
    attempt: Attempt
    stretches: tuple[Stretch, ...]

    def seconds(self, kind: str) -> float | None:
        return next((one.seconds for one in self.stretches if one.kind == kind), None)


def bars(history: Iterable[Mapping[str, Any]], *, now: datetime) -> tuple[Bar, ...]:
    """`history`: entries of `queries.status`, oldest first. What has not ended reaches to `now`."""
    found = attempts(history)[-MOST:]
    axis = Axis([moment for one in found for moment in _moments(one, now)])
    return tuple(Bar(attempt=one, stretches=tuple(_stretches(one, axis, now))) for one in found)


def attempts(history: Iterable[Mapping[str, Any]]) -> list[Attempt]:
    """In the order in which they became ready."""
    done: list[Attempt] = []
    live: dict[tuple[str, str], Attempt] = {}
    for entry in history:
        if entry["step"] is None or (entry["verb"] in ("open", "reopen") and not entry["attempt"]):
            continue
        key = (entry["step"], entry["phase"])
        following = _follow(live.pop(key, None), entry, done)
        if following is not None:
            live[key] = following
    return sorted([*done, *live.values()], key=_begun)


def _begun(one: Attempt) -> datetime:
    return min(moment for moment in (one.ready, one.claimed, one.parked) if moment is not None)


def _follow(one: Attempt | None, entry: Mapping[str, Any], done: list[Attempt]) -> Attempt | None:
    """The attempt that goes on after an entry; what the entry ends is added to `done`."""
    verb, time = entry["verb"], datetime.fromisoformat(entry["time"])
    new = Attempt(step=entry["step"], undo=entry["phase"] == "undo", number=entry["attempt"] or None)
    if verb in QUEUES | AGAIN:
        if one is not None:
            done.append(replace(one, ended=time, status=entry["status"]))
        return replace(new, number=None, ready=time, status=entry["status"])
    if verb == "claim":
        return replace(one or new, number=entry["attempt"], claimed=time, status=entry["status"])
    if verb == "open":
        return None
    if verb == "park":
        return replace(one or replace(new, claimed=time), parked=time, status=entry["status"])
    if one is not None:
        done.append(replace(one, ended=time, status=entry["status"]))
    return None


class Axis:
    """Where a moment stands on the axis."""

    def __init__(self, moments: Iterable[datetime]) -> None:
        ordered = sorted(set(moments))
        lengths = [log1p((later - earlier).total_seconds() * GRAIN) for earlier, later in pairwise(ordered)]
        scale = WIDTH / (sum(lengths) or 1.0)
        self._at = dict(zip(ordered, _sums([length * scale for length in lengths]), strict=True)) if ordered else {}

    def at(self, moment: datetime) -> float:
        return self._at[moment]


def _sums(lengths: Sequence[float]) -> list[float]:
    found = [0.0]
    for length in lengths:
        found.append(found[-1] + length)
    return found


def _moments(one: Attempt, now: datetime) -> list[datetime]:
    return [moment for moment in (one.ready, one.claimed, one.parked, _end(one, now)) if moment is not None]


def _end(one: Attempt, now: datetime) -> datetime:
    """The database's clock may have been read before the last entry was written."""
    last = max(moment for moment in (one.ready, one.claimed, one.parked) if moment is not None)
    return one.ended or max(now, last)


def _stretches(one: Attempt, axis: Axis, now: datetime) -> Iterable[Stretch]:
    end = _end(one, now)
    marks = (("queued", one.ready), ("ran", one.claimed), ("waited", one.parked))
    known = [(kind, moment) for kind, moment in marks if moment is not None]
    for number, (kind, start) in enumerate(known):
        stop = known[number + 1][1] if number + 1 < len(known) else end
        left, right = axis.at(start), axis.at(stop)
        width = max(THINNEST, right - left)
        yield Stretch(
            kind=kind, seconds=(stop - start).total_seconds(), left=max(0.0, min(left, WIDTH - width)), width=width
        )
