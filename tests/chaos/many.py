"""How long the checker takes: `python -m tests.chaos.many --copies 350` flies one of each shape, copies all of it, and checks.

The servers are the tests' own. What is copied is really there, row for row and line for line: only its ids are others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import psycopg

from tests import flights, servers
from tests.chaos import checker, recorded, shapes

# The same id for the same original in the same copy, wherever it stands.
COPIED = "md5({0}::text || ':' || copy::text)::uuid"
TABLES = {"instance": ("id", "parent_id", "root_id"), "step": ("instance_id",), "history": ("instance_id",)}
COLUMNS = """
SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.many")
    parser.add_argument("--copies", type=int, default=350)
    copies: int = parser.parse_args(argv).copies
    with (
        tempfile.TemporaryDirectory() as folder,
        servers.postgres() as postgres,
        servers.broker() as broker,
        servers.database(postgres) as url,
    ):
        _fly(url, broker, Path(folder))
        _copy_rows(url, copies)
        return _check(url, _copy_lines(Path(folder), copies))


def _fly(url: str, broker: str, folder: Path) -> None:
    from orchestrator.store.database import upgrade

    upgrade(url)
    with recorded.airport(url, broker, folder) as airport, flights.worker(airport.system):
        shapes.fly_all(airport)


def _copy_rows(url: str, copies: int) -> None:
    with psycopg.connect(url) as connection:
        for table, ids in TABLES.items():
            columns = [row[0] for row in connection.execute(COLUMNS.encode(), [table])]
            names = ", ".join(f'"{name}"' for name in columns)
            values = ", ".join(COPIED.format(f't."{name}"') if name in ids else f't."{name}"' for name in columns)
            origin = f"(SELECT * FROM {table}) t, generate_series(1, {copies}) copy"
            connection.execute(f"INSERT INTO {table} ({names}) SELECT {values} FROM {origin}".encode())


def _copy_lines(folder: Path, copies: int) -> Path:
    lines = [json.loads(line) for line in (folder / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]
    target, number = folder / "copied.jsonl", 0
    with target.open("w", encoding="utf-8") as file:
        for copy in range(copies + 1):
            for line in lines:
                number += 1
                trace = _copied(line["trace"], copy) if copy else line["trace"]
                key = line["key"].replace(line["trace"], trace)
                file.write(json.dumps({**line, "n": number, "trace": trace, "key": key}) + "\n")
    return target


def _copied(trace: str, copy: int) -> str:
    """As COPIED does it."""
    told = f"{uuid.UUID(trace)}:{copy}"
    return hashlib.md5(told.encode(), usedforsecurity=False).hexdigest()


def _check(url: str, ledger: Path) -> int:
    begun, worked = time.monotonic(), time.process_time()
    report = checker.check(url, ledger)
    seconds, processor = time.monotonic() - begun, time.process_time() - worked
    figures = report.figures
    lines = figures["calls"] + figures["asks"] + figures["effects"]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{figures['instances']} instances, {figures['historyEntries']} entries, {lines} lines: {seconds:.1f} s ({processor:.1f} of the processor), "
          f"{memory:.0f} MB, {len(report.violations)} violations")  # fmt: skip
    for violation in report.violations[:20]:
        print(violation)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
