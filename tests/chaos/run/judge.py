"""Hands ledger and database to the independent checker, and keeps the tables for who has to find out why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg

from tests.chaos import checker

TABLES = ("instance", "step", "history", "outbox", "lane", "definition_version")


def violations(database_url: str, ledger: Path, say: Callable[[str], None]) -> list[str]:
    report = checker.check(database_url, ledger)
    say("checker: " + ", ".join(f"{name} {value}" for name, value in report.figures.items()))
    return [f"VIOLATION {one.kind} {one.trace}: {one.text}" for one in report.violations]


def dump(database_url: str, folder: Path) -> None:
    """Each table as CSV."""
    with psycopg.connect(database_url) as connection:
        for table in TABLES:
            copy = f"COPY {table} TO STDOUT WITH (FORMAT csv, HEADER)"
            with (folder / f"{table}.csv").open("wb") as file, connection.cursor().copy(copy.encode()) as rows:
                for part in rows:
                    file.write(part)
