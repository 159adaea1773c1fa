"""What is measured of the two contenders, and how it is summed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from tests.benchmarks.bench_servers import Arena, workers
from tests.benchmarks.contenders import Contender

WARM_UP = 64  # before anything is measured: imports, prepared statements, plans


@dataclass(frozen=True, kw_only=True)
class Flood:
    """How fast a backlog was worked off, in workflows a second."""

    whole: float  # from the first start to the last end
    steady: float  # between the ends of the first and the last tenth


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """The same flood for both, in turns: `ours[n]` and `bare[n]` ran one after the other."""

    ours: Sequence[Flood]
    bare: Sequence[Flood]

    def ratios(self, measure: str) -> list[float]:
        return [
            getattr(one, measure) / getattr(other, measure) for one, other in zip(self.ours, self.bare, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds."""

    count: int
    p50: float
    p95: float


def floods(arena: Arena, *, rounds: int, count: int, processes: int) -> Rounds:
    ours, bare = [], []
    for _ in range(rounds):
        ours.append(flood(arena, arena.orchestrated, count, processes))
        bare.append(flood(arena, arena.bare, count, processes))
    return Rounds(ours=ours, bare=bare)


def flood(arena: Arena, contender: Contender, count: int, processes: int) -> Flood:
    with workers(arena, contender, processes):
        contender.flood(WARM_UP)
        ends = contender.flood(count)
    early, late = ends[len(ends) // 10], ends[len(ends) * 9 // 10]
    return Flood(whole=count / ends[-1], steady=0.8 * count / (late - early))


def latency(arena: Arena, contender: Contender, count: int, processes: int) -> Latency:
    with workers(arena, contender, processes):
        contender.flood(WARM_UP)
        return summed([contender.once() for _ in range(count)])


def summed(seconds: Sequence[float]) -> Latency:
    return Latency(count=len(seconds), p50=median(seconds), p95=quantiles(seconds, n=20)[-1])
