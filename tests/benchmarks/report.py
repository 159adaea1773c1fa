"""`python -m tests.benchmarks.report [--quick]`, or `make bench`: measures, prints and writes docs/benchmarks.md.

`--quick` is for trying the program: few instances, one round, and nothing is written unless `--output` says where.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.benchmarks import machine, measures
from tests.benchmarks.bench_servers import THREADS, arena
from tests.benchmarks.measures import Latency, Rounds
from tests.benchmarks.resting_stack import Resting, rest

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
PAGES = "## Pages over a hundred thousand instances"  # the last section

TEXT = """\
# Benchmarks

Written by `make bench`; nothing here is typed by hand. No figure is a gate yet.

Machine: {machine}.{quick}

One durable commit of one small row takes {commit} here (median of {commits}). Everything runs on this machine at once:
Postgres, the broker, {processes} workers (one process each, {threads} threads) and the program that measures. Ratios
travel to other machines better than figures do.

## Workflows a second, under a backlog

Three no-op steps, {flood} instances a round, {rounds} of each in turns on the same servers; workers are started and
warmed up for each. *orchestrator*: every transition is durable in Postgres, and every instance was then checked to be
COMPLETED, with a history without a gap and each step done once. *bare chain*: a Celery `chain` of three no-op tasks on
the same broker, acknowledged late as ours, without a result backend; nothing is durable and nothing is recorded.
*whole*: from the first start to the last end. *steady*: between the ends of the first and the last tenth. Each cell:
median (lowest to highest).

| | orchestrator | bare chain | ratio in a round |
|---|---|---|---|
{whole}
{steady}

## Latency, one at a time

{singles} of each, the next started when the one before has ended. *orchestrator*: from the call of `start` until its
end is seen in Postgres. *start to first claim*: the part of it from the starting transaction to the first claim, that
is commit, notification, dispatcher and broker (ADR 0003). *bare chain*: from `apply_async` to the end of the third
task.

| | p50 | p95 |
|---|---|---|
{latencies}

## The stack of `orchestrator up`

Seconds from the command to its ready line: {fresh:.1f} with a fresh data directory, {again:.1f} with one that exists.

Memory at rest with {resting} workers, as proportional set size (what processes share is divided among them):

| process | number | memory |
|---|---|---|
{memory}
"""
WARNING = " **A quick run: too short for figures to lean on.**"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured."""

    rounds: int
    flood: int  # instances a round
    singles: int  # one at a time
    processes: int  # workers


FULL = Plan(rounds=4, flood=2000, singles=200, processes=2)
QUICK = Plan(rounds=1, flood=300, singles=30, processes=2)


@dataclass(frozen=True, kw_only=True)
class Found:
    plan: Plan
    machine: str
    commit: float  # seconds of one durable commit
    floods: Rounds
    ours: Latency
    bare: Latency
    first_claim: Latency
    resting: Resting


def measure(plan: Plan) -> Found:
    with arena() as found:
        described, commit = machine.line(found), machine.commit_seconds(found)
        floods = measures.floods(found, rounds=plan.rounds, count=plan.flood, processes=plan.processes)
        ours = measures.latency(found, found.orchestrated, plan.singles, plan.processes)
        bare = measures.latency(found, found.bare, plan.singles, plan.processes)
        first_claim = measures.summed(found.orchestrated.first_claims)
    return Found(plan=plan, machine=described, commit=commit, floods=floods, ours=ours, bare=bare,
                 first_claim=first_claim, resting=rest(plan.processes))  # fmt: skip


def text(found: Found) -> str:
    plan, resting = found.plan, found.resting
    return TEXT.format(
        machine=found.machine, quick=WARNING if plan == QUICK else "", commit=_milliseconds(found.commit),
        commits=machine.COMMITS, processes=plan.processes, threads=THREADS, flood=plan.flood,
        rounds="one round" if plan.rounds == 1 else f"{plan.rounds} rounds", singles=plan.singles,
        whole=_flood_row("whole", found.floods), steady=_flood_row("steady", found.floods), latencies=_latencies(found),
        fresh=resting.fresh, again=resting.again, resting=resting.workers, memory=_memory(resting),
    )  # fmt: skip


def _flood_row(measure: str, floods: Rounds) -> str:
    ours, bare = ([getattr(one, measure) for one in side] for side in (floods.ours, floods.bare))
    return f"| {measure} | {_spread(ours, '.0f')}/s | {_spread(bare, '.0f')}/s | {_spread(floods.ratios(measure), '.2f')} |"


def _spread(values: Sequence[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _latencies(found: Found) -> str:
    rows = (("orchestrator", found.ours), ("start to first claim", found.first_claim), ("bare chain", found.bare))
    return "\n".join(f"| {name} | {_milliseconds(one.p50)} | {_milliseconds(one.p95)} |" for name, one in rows)


def _memory(found: Resting) -> str:
    by_weight = sorted(found.bytes.items(), key=lambda item: -item[1])
    rows = [(name, found.processes[name], size) for name, size in by_weight]
    rows.append(("together", sum(found.processes.values()), sum(found.bytes.values())))
    return "\n".join(f"| {name} | {count} | {size / 2**20:.0f} MB |" for name, count, size in rows)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.report", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short run to try the program")
    parser.add_argument("--output", type=Path, help="where to write it; a full run writes docs/benchmarks.md")
    return parser.parse_args()


def _of_others(document: Path) -> str:
    """What `tests.benchmarks.boards` has written there: it is measured by itself."""
    _, heading, rest = (
        document.read_text(encoding="utf-8").partition(f"\n{PAGES}") if document.exists() else ("", "", "")
    )
    return heading + rest


def main() -> int:
    given = arguments()
    output = given.output.resolve() if given.output else None if given.quick else DOCUMENT
    os.chdir(DOCUMENT.parents[1])  # workers import `worker` and `tests` from here
    written = text(measure(QUICK if given.quick else FULL))
    sys.stdout.write(written)
    if output:
        output.write_text(written + _of_others(output), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
