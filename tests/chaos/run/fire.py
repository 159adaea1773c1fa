"""The safety phase: faults at random moments, each with its own end, all from the main thread and from one seed."""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.chaos.run.arena import Arena, seeded

Action = Callable[[], None]
FIRST = 0.8  # of a phase, in which each fault comes for the first time
BOOT = 8.0  # seconds that the processes take to start, all at once, on a machine that the faults' rates are made for


@dataclass(frozen=True, kw_only=True)
class Fault:
    name: str
    counted: str  # as what, among `counts`
    every: float  # seconds between two, on average
    begin: Callable[[Fire], str | None]  # what was done, to be told; none: nothing could be
    costs_start: bool = False  # of a process: rarer where that takes long, or none would ever be there


class Broken:
    """Which fault each thing is under that several may break: the end of an older one is not that of a newer one."""

    def __init__(self) -> None:
        self._latest: dict[str, int] = {}
        self._count = 0

    def begin(self, *things: str) -> int:
        self._count += 1
        self._latest |= dict.fromkeys(things, self._count)
        return self._count

    def end(self, number: int) -> list[str]:
        """What is whole again now that this fault has ended."""
        return [thing for thing, latest in self._latest.items() if latest == number]


@dataclass(kw_only=True)
class Fire:
    """What is planned; `counts` says what has happened."""

    arena: Arena
    chance: random.Random
    say: Callable[[str], None]
    counts: Counter[str] = field(default_factory=Counter)
    broken: Broken = field(default_factory=Broken)
    _planned: list[tuple[float, int, bool, Action]] = field(default_factory=list)
    _number: int = 0

    def later(self, seconds: float, action: Action, *, is_end: bool = True) -> None:
        """`is_end`: the end of a fault, which comes in any case, at the latest when the phase is over."""
        self._number += 1
        heapq.heappush(self._planned, (time.monotonic() + seconds, self._number, is_end, action))

    def burn(self, seconds: float, faults: Sequence[Fault]) -> None:
        for fault in faults:
            self._again(fault, within=FIRST * seconds)
        until = time.monotonic() + seconds
        while (at := min(until, self._planned[0][0] if self._planned else until)) < until:
            time.sleep(max(0.0, at - time.monotonic()))
            heapq.heappop(self._planned)[3]()
        time.sleep(max(0.0, until - time.monotonic()))

    def _again(self, fault: Fault, within: float | None = None) -> None:
        """`within`: the first of each comes in any case, however short the phase."""

        def begin() -> None:
            if told := fault.begin(self):
                self.counts[fault.counted] += 1
                self.say(told)
            self._again(fault)

        every = fault.every * (rarer(self.arena) if fault.costs_start else self.arena.options.calm)
        wait = self.chance.expovariate(1 / every)
        self.later(wait if within is None else min(wait, self.chance.uniform(0, within)), begin, is_end=False)

    def put_out(self) -> None:
        """End every fault that has begun."""
        planned, self._planned = self._planned, []
        for _, _, is_end, action in sorted(planned):
            if is_end:
                action()


def rarer(arena: Arena) -> float:
    """By this those faults come less often that cost a start."""
    return max(1.0, arena.booted_within / BOOT) * arena.options.calm


def fire(arena: Arena, say: Callable[[str], None]) -> Fire:
    return Fire(arena=arena, chance=seeded(arena.options, "faults"), say=say)
