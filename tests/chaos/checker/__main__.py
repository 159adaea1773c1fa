"""`python -m tests.chaos.checker --database URL --ledger FILE`: 0 nothing is violated, 1 something is, 2 wrong use."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

from tests.chaos.checker import STORM, Report, check


def main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    begun = time.monotonic()
    try:
        report = check(given.database, given.ledger, storm=given.storm)
    except (OSError, psycopg.Error) as error:
        print(f"checker: {error}", file=sys.stderr)
        return 2
    _tell(report, time.monotonic() - begun)
    if given.json is not None:
        _write(report, given.json)
    return 1 if report.violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.checker", description=__doc__)
    parser.add_argument("--database", required=True, metavar="URL", help="of the orchestrator's Postgres")
    parser.add_argument("--ledger", required=True, metavar="FILE", type=Path, help="that the services have kept")
    parser.add_argument("--json", metavar="OUT", type=Path, help="write the report there as well")
    parser.add_argument("--storm", default=STORM, type=int, help=f"calls for one key that are still sane ({STORM})")
    return parser


def _tell(report: Report, seconds: float) -> None:
    for name, value in report.figures.items():
        print(f"{name}: {json.dumps(value)}")
    print(f"checked in {seconds:.1f} s: {len(report.violations)} violations")
    for violation in report.violations:
        print(violation)


def _write(report: Report, path: Path) -> None:
    told = [{"kind": one.kind, "trace": one.trace, "text": one.text} for one in report.violations]
    path.write_text(json.dumps({"figures": report.figures, "violations": told}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
