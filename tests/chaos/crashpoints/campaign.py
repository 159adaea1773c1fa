"""The campaign: every point that was ever seen is one at which a process has died and a call has failed.

Each shape is flown undisturbed; then a process dies at each of its points, or the call there fails. What recovery
passes through are points, too: one that no process has died at yet is reached again by the same faults and struck
there, until no execution shows a new one. Pairs are two deaths, the second in the recovery from the first.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from tests.chaos.crashpoints.ground import Ground
from tests.chaos.crashpoints.schedules import Fault, How, Schedule, Verdict

ALL = -1
HOWS: tuple[How, ...] = ("dies", "fails")
TRIES = 10  # to reach a point again: which of several instances a batch has first is by their ids, and these are random


# Where a fault strikes: once at each point by name; at the first of a name in each shape; at each that a shape passes.
Depth = Literal["names", "shapes", "every"]


class Enough(Exception):
    """The first violation was asked for, and here it is."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """How far a campaign goes. The fixed point is always reached."""

    depth: Depth
    pairs: int  # second deaths for a shape, evenly taken from all; or ALL
    shapes: Sequence[str]
    first: bool = False  # stop at the first violation


@dataclass(kw_only=True)
class Tally:
    """Of one shape."""

    points: int = 0  # that its undisturbed flight passes
    names: int = 0
    deaths: int = 0  # schedules of one death
    failures: int = 0  # of one failed call
    beyond: int = 0  # at points that only recovery passes
    pairs: int = 0  # of two deaths
    executions: int = 0
    violations: int = 0
    seconds: float = 0.0


@dataclass(kw_only=True)
class Campaign:
    ground: Ground
    scope: Scope
    say: Callable[[str], None] = print
    tallies: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    violations: list[str] = field(default_factory=list)
    struck: dict[How, set[str]] = field(default_factory=lambda: {how: set() for how in HOWS})
    _open: dict[tuple[str, How], Schedule] = field(default_factory=dict)  # how a point that was not struck is reached
    _turn: int = 0

    def run(self) -> None:
        with suppress(Enough):
            self._run()

    def _run(self) -> None:
        for shape in self.scope.shapes:
            began = time.monotonic()
            self._sweep(shape)
            self.tallies[shape].seconds += time.monotonic() - began
            self.say(f"{shape}: {self.tallies[shape]}")
        while self._open:
            self._beyond()

    def unstruck(self) -> dict[How, list[str]]:
        """Points that were seen and never struck."""
        seen = set(self.ground.place.points)
        fails = {name for name, point in self.ground.place.points.items() if point.kind != "ack"}
        return {"dies": sorted(seen - self.struck["dies"]), "fails": sorted(fails - self.struck["fails"])}

    # -- one shape

    def _sweep(self, shape: str) -> None:
        tally = self.tallies[shape]
        undisturbed = self._fly(Schedule(shape=shape))
        if undisturbed.violations:
            return
        points = undisturbed.executions[0].points
        tally.points, tally.names = len(points), len(set(points))
        recoveries = []
        for at in list(self._chosen(points, "dies")) or [len(points) // 2]:  # none is left untouched
            tally.deaths += 1
            recoveries.append(self._fly(self._schedule(shape, Fault(at=at, how="dies"))))
        for at in self._chosen(points, "fails"):
            tally.failures += 1
            self._fly(self._schedule(shape, Fault(at=at, how="fails")))
        for schedule in self._pairs(recoveries):
            tally.pairs += 1
            self._fly(schedule)

    def _schedule(self, shape: str, *faults: Fault) -> Schedule:
        """By turns the broker gives back what the dead had taken, as RabbitMQ does, or does not, as a wiped one."""
        self._turn += 1
        return Schedule(shape=shape, faults=faults, returns=self._turn % 2 == 0)

    def _chosen(self, points: Sequence[str], how: How) -> Iterator[int]:
        """Ordinals from 1. Reads change nothing, so that a death at any of them is the same death: one of a name is
        enough, whatever the shape, unless every one is asked for."""
        seen: set[str] = set()
        for at, name in enumerate(points, 1):
            kind = self.ground.place.points[name].kind
            if how == "fails" and kind == "ack":
                continue  # the message comes back, as it does after a death
            is_enough = name in self.struck[how] and (self.scope.depth == "names" or kind == "read" or how == "fails")
            is_new = name not in seen and not is_enough
            seen.add(name)
            if self.scope.depth == "every" or is_new:
                yield at

    def _pairs(self, recoveries: Iterable[Verdict]) -> list[Schedule]:
        """A second death at each point of each recovery; of reads, which change nothing, none."""
        found = [
            replace(one.schedule, faults=(*one.schedule.faults, Fault(at=at, how="dies")))
            for one in recoveries if len(one.executions) > 1 and not one.violations
            for at, name in enumerate(one.executions[1].points, 1) if self.ground.place.points[name].kind != "read"
        ]  # fmt: skip
        if self.scope.pairs == ALL or len(found) <= self.scope.pairs:
            return found
        return [found[at * len(found) // self.scope.pairs] for at in range(self.scope.pairs)]

    # -- beyond

    def _beyond(self) -> None:
        """Strike, once, each point that was seen on the way and never struck."""
        waiting, self._open = self._open, {}
        for (name, how), schedule in waiting.items():
            if name in self.struck[how]:
                continue
            self.tallies[schedule.shape].beyond += 1
            hit: Sequence[str] = ()
            for _ in range(TRIES):
                hit = self._fly(schedule).hit
                if name in hit:
                    break
            else:
                self.violations.append(f"{schedule}: {name} was not reached again: {hit}")
                self.struck[how].add(name)  # told once

    def _fly(self, schedule: Schedule) -> Verdict:
        verdict = self.ground.run(schedule)
        tally = self.tallies[schedule.shape]
        tally.executions += len(verdict.executions)
        for fault, name in zip(schedule.faults, verdict.hit, strict=False):
            self.struck[fault.how].add(name)
        if verdict.violations:
            tally.violations += 1
            self._report(verdict)
            if self.scope.first:
                raise Enough
        self._remember(verdict)
        return verdict

    def _report(self, verdict: Verdict) -> None:
        at = "; ".join(verdict.hit) or "nothing"
        for what in verdict.violations:
            self.violations.append(f"{verdict.schedule} [{at}]: {what}")
            self.say(f"VIOLATION {self.violations[-1]}")

    def _remember(self, verdict: Verdict) -> None:
        """How each point that was not struck yet could be: by the faults that led there."""
        passed: list[Fault] = []
        processes = verdict.schedule.processes()
        for faults, execution in zip(processes, verdict.executions, strict=False):
            for at, name in enumerate(execution.points, 1):
                before = [one for one in faults if one.at < at]
                for how in HOWS:
                    if name not in self.struck[how] and (how == "dies" or self.ground.place.points[name].kind != "ack"):
                        schedule = replace(verdict.schedule, faults=(*passed, *before, Fault(at=at, how=how)))
                        self._open.setdefault((name, how), schedule)
            passed += faults
