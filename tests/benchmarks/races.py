"""`python -m tests.benchmarks.races [--races 10000] [--seed 1]`: how often who wins a wait, and whether ever two do.

Runs are kept in docs/reliability/races.txt (`--write`). Exit 1 where a race had no winner, or two, or where one side has
never won: then nothing was learned of what happens when it does.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests import flights, races, servers
from tests.benchmarks import machine
from tests.judging import WINNERS, Race, judge
from tests.racers import TIMEOUTS
from tests.races import Course

KEPT = machine.ROOT / "docs" / "reliability" / "races.txt"
ROUND = 60  # waits that race at once
AT_ONCE = 50  # identical approvals


@contextmanager
def course(seed: int) -> Iterator[Course]:
    with (
        servers.postgres() as postgres,
        servers.broker() as broker,
        servers.template(postgres) as template,
        tempfile.TemporaryDirectory() as folder,
        races.course(postgres, template, servers.BrokerPlaces(broker), Path(folder), seed=seed) as found,
    ):
        yield found


def run(course: Course, count: int) -> list[Race]:
    kinds, found = list(TIMEOUTS), list[Race]()
    while len(found) < count:
        found += course.round(kinds[len(found) // ROUND % len(kinds)], min(ROUND, count - len(found)))
        sys.stderr.write(f"\r{len(found)} of {count}")
    sys.stderr.write("\n")
    return found


def table(found: Sequence[Race]) -> Iterator[str]:
    won = Counter((race.kind, race.winner) for race in found)
    yield f"{'onTimeout':<10}" + "".join(f"{winner:>29}" for winner in WINNERS)
    for kind in TIMEOUTS:
        yield f"{kind:<10}" + "".join(f"{won[kind, winner]:>29}" for winner in WINNERS)
    sums = Counter(race.winner for race in found)
    yield f"{'together':<10}" + "".join(f"{sums[winner]:>29}" for winner in WINNERS)
    yield f"{'share':<10}" + "".join(f"{sums[winner] / len(found):>28.1%} " for winner in WINNERS)


def answers(found: Sequence[Race]) -> Iterator[str]:
    told = Counter((one.said, one.over, one.answer) for race in found for one in race.told)
    for (said, over, answer), count in sorted(told.items()):
        yield f"{said:<10} over {over:<9} {answer:<9} {count:>6}"


def report(course: Course, found: Sequence[Race], seed: int, seconds: float) -> tuple[str, bool]:
    wrong = [(race, problem) for race in found for problem in judge(race)]
    fifty, effects = course.approve_at_once(AT_ONCE)
    bodies = Counter(fifty)
    beaten = sorted(set(WINNERS) - course.winners())
    is_sound = not wrong and not beaten and sorted(bodies.values()) == [1, AT_ONCE - 1] and len(effects) == 2
    lines = [
        f"commit {machine._commit()}, seed {seed}, {len(found)} races in {seconds:.0f} s, {ROUND} at once",
        f"callbacks and cancels that were under way when the deadlines passed: {course.in_flight}",
        "", "who won", *table(found), "", "what the racers were told", *answers(found), "",
        f"violations: {len(wrong)}", *(f"  {race.instance} {race.kind}: {problem}" for race, problem in wrong[:50]),
        f"sides that have never won: {', '.join(beaten) or 'none'}", "",
        f"{AT_ONCE} identical approvals at once, over HTTP",
        *(f"{count:>4} times {status} {body}" for (status, body), count in bodies.most_common()),
        f"effects: {', '.join(effects)}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n", is_sound


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.races", description=__doc__)
    parser.add_argument("--races", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--write", action="store_true", help=f"add the output to {KEPT.relative_to(machine.ROOT)}")
    given = parser.parse_args()
    flights.PATIENCE = 120.0  # a busy machine takes long to start a worker
    with course(given.seed) as prepared:
        began = time.monotonic()
        found = run(prepared, given.races)
        said, is_sound = report(prepared, found, given.seed, time.monotonic() - began)
    sys.stdout.write(said)
    if given.write:
        with KEPT.open("a", encoding="utf-8") as kept:
            kept.write(f"$ python -m tests.benchmarks.races --races {given.races} --seed {given.seed}\n{said}\n")
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
