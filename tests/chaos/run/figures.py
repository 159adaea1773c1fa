"""What a run measured, read from the history and the services' ledger after it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.run.members import Life, Member

STATUSES = "SELECT status, coalesce(reason, ''), count(*) FROM instance GROUP BY 1, 2 ORDER BY 3 DESC"
BY_WORKER = """
SELECT instance_id, seq, verb, step, phase, worker, extract(epoch FROM time)::float FROM history
WHERE step IS NOT NULL ORDER BY instance_id, seq
"""
CLAIMS = ("claim", "look")


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Seconds from the kill of a worker until what it held was known to be lost, was in somebody's hands again, for which one
    has to live, or was parked for a person."""

    lost: tuple[float, ...]
    claimed: tuple[float, ...]
    parked: tuple[float, ...]
    settled: int  # by a callback, a deadline or a cancel, before anybody claimed it


@dataclass(frozen=True, kw_only=True)
class Calls:
    """Of the services' ledger."""

    effects: int
    asks: int
    per_key: Counter[int]  # how many keys were called so often
    doubled: tuple[str, ...]  # keys with more than one effect, whatever the lane

    @property
    def calls(self) -> int:
        return sum(times * keys for times, keys in self.per_key.items())

    @property
    def repeated(self) -> int:
        """Calls beyond the first of each key."""
        return self.calls - sum(self.per_key.values())


def statuses(database_url: str) -> list[tuple[str, str, int]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(STATUSES).fetchall()


def calls(ledger: Path) -> Calls:
    called: Counter[str] = Counter()
    effects: Counter[str] = Counter()
    asks = 0
    for line in _lines(ledger):
        if line["what"] == "call":
            called[line["key"]] += 1
        elif line["what"] == "effect":
            effects[line["key"]] += 1
        else:
            asks += 1
    doubled = tuple(f"{key} ({times} effects)" for key, times in effects.items() if times > 1)
    return Calls(effects=effects.total(), asks=asks, per_key=Counter(called.values()), doubled=doubled)


def repeated_since(ledger: Path, since: float) -> int:
    """Calls since then for keys that had been called before."""
    called, repeated = set[str](), 0
    for line in _lines(ledger):
        if line["what"] == "call":
            repeated += line["key"] in called and line["at"] >= since
            called.add(line["key"])
    return repeated


def _lines(ledger: Path) -> Iterator[dict[str, Any]]:
    with ledger.open() as file:
        for line in file:
            yield json.loads(line)


def copies(file: Path) -> dict[str, Counter[int]]:
    """By kind: how many messages were sent so many times."""
    found: dict[str, Counter[int]] = {}
    lines = Counter(file.read_text().splitlines()) if file.exists() else Counter[str]()
    for line, times in lines.items():
        found.setdefault(line.split()[0], Counter())[times] += 1
    return found


def ills(file: Path) -> Counter[str]:
    """Replies of each kind that were spoiled."""
    return Counter(file.read_text().splitlines()) if file.exists() else Counter()


def recovery(database_url: str, workers: Sequence[Member], *, since: float, until: float) -> Recovery:
    """From the history alone: claims by a process that was killed, whose step's next entry comes after the kill."""
    lives = [life for worker in workers for life in worker.deaths]
    deaths = {life.pid: life for life in lives if life.ended and since <= life.ended < until}
    lost, claimed, parked, settled = list[float](), list[float](), list[float](), 0
    with psycopg.connect(database_url) as connection, connection.cursor("history") as cursor:
        cursor.execute(BY_WORKER)
        for killed, entries in _held(cursor, deaths):
            if entries[0][0] == "lose":
                lost.append(entries[0][1] - killed)
            next_claim = next((at for verb, at in entries if verb in CLAIMS), None)
            doubted = next((at for verb, at in entries if verb == "doubt"), None)
            if entries[0][0] != "lose" and doubted is None:
                settled += 1
            elif next_claim is not None:
                claimed.append(next_claim - killed)
            elif doubted is not None:
                parked.append(doubted - killed)
            else:
                settled += 1
    return Recovery(
        lost=tuple(sorted(lost)), claimed=tuple(sorted(claimed)), parked=tuple(sorted(parked)), settled=settled
    )


def _held(rows: Iterable[tuple[Any, ...]], deaths: dict[int, Life]) -> Iterator[tuple[float, list[tuple[str, float]]]]:
    """(time of the kill, what became of the step afterwards), for each claim that a killed process held."""
    for steps in _by_step(rows):
        for index, (verb, worker, at) in enumerate(steps[:-1]):
            life = deaths.get(int(worker.split(":")[1])) if worker and verb in CLAIMS else None
            if life and life.ended and life.began <= at <= life.ended < steps[index + 1][2]:
                yield life.ended, [(verb, at) for verb, _, at in steps[index + 1 :]]


def _by_step(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[str, str | None, float]]]:
    """The entries of each step and phase of each instance, in their order."""
    current, steps = None, dict[tuple[str, str], list[tuple[str, str | None, float]]]()
    for instance, _, verb, step, phase, worker, at in rows:
        if instance != current:
            yield from steps.values()
            current, steps = instance, {}
        steps.setdefault((step, phase), []).append((verb, worker, at))
    yield from steps.values()


def percentile(sorted_values: Sequence[float], share: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def spread(sorted_values: Sequence[float]) -> str:
    """Of seconds."""
    if not sorted_values:
        return "none"
    p50, p99 = (percentile(sorted_values, share) for share in (0.5, 0.99))
    return f"p50 {p50:.1f} s, p99 {p99:.1f} s, max {sorted_values[-1]:.1f} s"
