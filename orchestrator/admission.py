"""Whether a lane takes a call now, and what an outcome says of the lane. Pure.

Admission is part of the claim: it is decided under the lane's lock, in the transaction that claims. A step that is
refused has spent no attempt; it waits until the dispatcher lets it in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, TypeAlias

from orchestrator.clock import later
from orchestrator.lane import Breaker, Lane, Outcome

Refusal: TypeAlias = Literal["held", "breaker", "concurrency", "rate"]

SHUT: frozenset[str] = frozenset({"held", "breaker"})  # the others are limits: those who wait for them take their turn
FAILURES: frozenset[Outcome] = frozenset({"uncertain", "refused", "not_sent"})
LONGEST_PAUSE = 10  # times the breaker's own
HAIR = 1e-6  # seconds; what is left over by floating point


@dataclass(frozen=True, kw_only=True)
class LaneState:
    """What all processes know of a lane."""

    name: str
    held_at: datetime | None = None  # by an operator
    held_by: str | None = None
    held_why: str | None = None
    failures: int = 0  # in a row
    openings: int = 0  # of the breaker, in a row
    opened_at: datetime | None = None  # none: the breaker is closed
    open_until: datetime | None = None  # from then on one call at a time is let through, as a probe
    probe_until: datetime | None = None  # by then the probe that is under way is over
    next_at: datetime | None = None  # when the calls so far would be used up at the lane's rate

    @property
    def is_troubled(self) -> bool:
        """Whether a lane without limits has to be asked all the same."""
        return self.held_at is not None or self.open_until is not None

    def shut(self, now: datetime) -> Refusal | None:
        """Why nothing at all is let through."""
        if self.held_at is not None:
            return "held"
        return "breaker" if self.open_until is not None and now < self.open_until else None


def is_limited(lane: Lane) -> bool:
    return lane.concurrency is not None or lane.rate is not None


class Gate:
    """One lane under its lock: what it still takes in this transaction."""

    def __init__(self, lane: Lane, state: LaneState, now: datetime, *, flying: int = 0) -> None:
        """`flying`: calls that are in flight, of all workers."""
        self.lane, self.state, self.now, self.flying = lane, state, now, flying

    def refusal(self) -> Refusal | None:
        if shut := self.state.shut(self.now):
            return shut
        if self.state.open_until is not None and (self.state.probe_until or self.now) > self.now:
            return "breaker"
        if self.lane.concurrency is not None and self.flying >= self.lane.concurrency:
            return "concurrency"
        return "rate" if self._tokens() == 0 else None

    def begin(self, seconds: float) -> None:
        """A call is admitted, which is over in so many seconds at the latest."""
        self.flying += 1
        if self.lane.rate is not None:
            used_up = later(self.now, self._ahead() + self.lane.rate.interval)
            self.state = replace(self.state, next_at=used_up)
        if self.state.open_until is not None:
            self.state = replace(self.state, probe_until=later(self.now, seconds))

    def end(self) -> None:
        """A call that was in flight has ended in this transaction."""
        self.flying -= 1

    def room(self, most: int) -> int:
        """How many calls it would take one after the other, at most `most`."""
        if self.refusal() is not None:
            return 0
        if self.state.open_until is not None:
            return 1
        free = most if self.lane.concurrency is None else self.lane.concurrency - self.flying
        tokens = self._tokens()
        return min(most, free, most if tokens is None else tokens)

    def seconds_to_next(self) -> float:
        """Until the rate allows a call."""
        return 0.0 if self.lane.rate is None else max(0.0, self._ahead() - self._allowed_ahead())

    def _tokens(self) -> int | None:
        """What the rate allows at this moment; none: it is unlimited. (The generic cell rate algorithm: one moment says
        all, and nothing has to be refilled.)"""
        if self.lane.rate is None:
            return None
        return max(0, int((self._allowed_ahead() - self._ahead() + HAIR) // self.lane.rate.interval) + 1)

    def _ahead(self) -> float:
        """What is used up, in seconds. More than this rate can use up says nothing of it: the moment is of a slower rate
        that was configured before, or of a clock that was set back since."""
        if self.state.next_at is None or self.lane.rate is None:
            return 0.0
        ahead = (self.state.next_at - self.now).total_seconds()
        return ahead if 0.0 < ahead < (self.lane.rate.burst + 1) * self.lane.rate.interval else 0.0

    def _allowed_ahead(self) -> float:
        return (self.lane.rate.burst - 1) * self.lane.rate.interval if self.lane.rate else 0.0


class Admission:
    """The gates that one transaction may have to ask. A lane without one takes everything."""

    def __init__(self, gates: Mapping[str, Gate]) -> None:
        self._gates = gates
        self._found = {name: gate.state for name, gate in gates.items()}

    def refusal(self, lane: str) -> Refusal | None:
        gate = self._gates.get(lane)
        return gate.refusal() if gate else None

    def begin(self, lane: str, seconds: float) -> str | None:
        """A call begins. Returns what the claim notes: the lane, where it has a gate."""
        gate = self._gates.get(lane)
        if gate is None:
            return None
        gate.begin(seconds)
        return lane

    def end(self, lane: str) -> None:
        if gate := self._gates.get(lane):
            gate.end()

    def changed(self) -> list[LaneState]:
        return [gate.state for name, gate in self._gates.items() if gate.state != self._found[name]]


def failed(state: LaneState, breaker: Breaker, now: datetime, begun: datetime) -> LaneState:
    """After a call that began at `begun` had no answer that counts. What was under way when the breaker opened says
    nothing new, nor does what ends during the pause: it was begun by a process that did not know, and is no probe."""
    if state.opened_at is not None:
        is_probe = begun >= state.opened_at and (state.open_until is None or now >= state.open_until)
        return _opened(state, breaker, now) if is_probe else state
    state = replace(state, failures=state.failures + 1)
    return _opened(state, breaker, now) if state.failures >= breaker.failures else state


def _opened(state: LaneState, breaker: Breaker, now: datetime) -> LaneState:
    pause = breaker.pause * min(2**state.openings, LONGEST_PAUSE)
    return replace(
        state, openings=min(state.openings + 1, LONGEST_PAUSE), opened_at=now, open_until=later(now, pause),
        probe_until=None,
    )  # fmt: skip


def answered(state: LaneState, begun: datetime) -> LaneState:
    """After a call that the service has answered, if only to reject it."""
    if state.opened_at is not None and begun < state.opened_at:
        return state
    return replace(state, failures=0, openings=0, opened_at=None, open_until=None, probe_until=None)


def unsent(state: LaneState, begun: datetime) -> LaneState:
    """After a call that was admitted and then had nothing to send: it was no probe."""
    if state.opened_at is None or begun < state.opened_at:
        return state
    return replace(state, probe_until=None)
