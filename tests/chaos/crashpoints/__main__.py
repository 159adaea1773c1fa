"""`python -m tests.chaos.crashpoints`: the campaign, on servers of its own or those that are named. Exit 1: violations."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.store.database import upgrade
from tests import servers
from tests.chaos.crashpoints.campaign import ALL, Campaign, Scope
from tests.chaos.crashpoints.ground import Ground, ground
from tests.chaos.crashpoints.place import Place
from tests.chaos.crashpoints.seeded import BUGS
from tests.chaos.crashpoints.shapes import SHAPES

COLUMNS = ("points", "names", "deaths", "failures", "beyond", "pairs", "executions", "violations")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.crashpoints", description=__doc__)
    parser.add_argument("--shape", action="append", choices=list(SHAPES), help="only this one; may be repeated")
    parser.add_argument(
        "--pairs", default="0", help="second deaths for a shape, evenly taken from all of them; or `all`"
    )
    parser.add_argument(
        "--depth",
        choices=["names", "shapes", "every"],
        default="shapes",
        help="strike once at each point by "
        "name; at the first of a name in each shape (the default); at every one that a shape passes",
    )
    parser.add_argument("--bug", choices=list(BUGS), help="plant this bug: the campaign has to report it")
    parser.add_argument("--first", action="store_true", help="stop at the first violation")
    parser.add_argument("--json", type=Path, help="write the report there, too")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    pairs = ALL if asked.pairs == "all" else int(asked.pairs)
    scope = Scope(depth=asked.depth, pairs=pairs, shapes=asked.shape or list(SHAPES), first=asked.first)
    began, used = time.monotonic(), os.times()
    with ExitStack() as stack:
        found = stack.enter_context(_own_ground(stack))
        found.place.bug = BUGS[asked.bug][0] if asked.bug else None
        print(f"commit {_commit()}, {len(scope.shapes)} shapes, pairs {asked.pairs}, depth {asked.depth}", flush=True)
        campaign = Campaign(ground=found, scope=scope, say=lambda text: print(text, flush=True))
        campaign.run()
        report = told(campaign, found.place)
    now = os.times()
    report["seconds"] = round(time.monotonic() - began)
    report["cpu"] = round(now.user + now.system + now.children_user + now.children_system - used.user - used.system)
    print(*table(report), sep="\n")
    if asked.json:
        asked.json.write_text(json.dumps(report))
    return 1 if report["violations"] or any(report["unstruck"].values()) else 0


def _own_ground(stack: ExitStack) -> AbstractContextManager[Ground]:
    postgres = stack.enter_context(servers.postgres())
    database = stack.enter_context(servers.database(postgres))
    broker = stack.enter_context(servers.broker())
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    upgrade(database)
    return ground(database, broker, folder)


def _commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def told(campaign: Campaign, place: Place) -> dict[str, Any]:
    return {
        "shapes": {name: asdict(tally) for name, tally in campaign.tallies.items()},
        "points": {name: {"kind": one.kind, "functions": one.functions} for name, one in place.points.items()},
        "functions": sorted(place.functions), "unstruck": campaign.unstruck(), "violations": campaign.violations,
    }  # fmt: skip


def table(report: dict[str, Any]) -> Iterator[str]:
    yield f"{'shape':<14}" + "".join(f"{name:>12}" for name in COLUMNS)
    for name, tally in report["shapes"].items():
        yield f"{name:<14}" + "".join(f"{tally[column]:>12}" for column in COLUMNS)
    yield f"{'total':<14}" + "".join(
        f"{sum(one[column] for one in report['shapes'].values()):>12}" for column in COLUMNS
    )
    yield f"{len(report['points'])} points by name; never died at: {len(report['unstruck']['dies'])}; never failed at: {len(report['unstruck']['fails'])}"
    yield from (f"  {how}: {name}" for how, names in report["unstruck"].items() for name in names)
    yield from (f"VIOLATION {one}" for one in report["violations"])
    yield f"{report['seconds']} s, of which {report['cpu']} s of processor time"


if __name__ == "__main__":
    sys.exit(main())
