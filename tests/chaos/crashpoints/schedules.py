"""What a schedule says, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tests.chaos.crashpoints.shapes import Shape

How = Literal["dies", "fails"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """At the `at`-th point of a process (from 1) it dies, or the call fails."""

    at: int
    how: How


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A process dies at most once: its faults go up to the first of `dies`, and the next begin the next process."""

    shape: str
    faults: tuple[Fault, ...] = ()
    returns: bool = True  # whether the broker gives back what the dead had not acknowledged

    def processes(self) -> list[tuple[Fault, ...]]:
        found: list[list[Fault]] = [[]]
        for fault in self.faults:
            found[-1].append(fault)
            if fault.how == "dies":
                found.append([])
        return [tuple(one) for one in found]

    def __str__(self) -> str:
        faults = " ".join(f"{one.how}@{one.at}" for one in self.faults) or "undisturbed"
        return f"{self.shape}: {faults}{'' if self.returns else ', broker forgets'}"


@dataclass(kw_only=True)
class Execution:
    """What one process said before it ended."""

    points: list[str] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)
    ended: str = "died"  # over, died, stalled, or what it was killed by


@dataclass(kw_only=True)
class Verdict:
    schedule: Schedule
    executions: list[Execution]
    hit: list[str]  # the points at which the faults struck
    violations: list[str]


@dataclass(frozen=True, kw_only=True)
class Flying:
    """What a process is to do."""

    shape: Shape
    name: str
    roots: list[str]
    faults: tuple[Fault, ...]
    returns: bool
    is_first: bool  # on this ground: the broker has no queues yet
    begins: bool  # a schedule
