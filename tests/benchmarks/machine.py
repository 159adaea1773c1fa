"""The machine and the versions that the figures belong to."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import redis
from sqlalchemy import text

from tests.benchmarks.bench_servers import Arena

ROOT = Path(__file__).parents[2]
COMMITS = 200


def line(arena: Arena) -> str:
    parts = (
        f"{len(os.sched_getaffinity(0))} cores", f"{_memory():.0f} GB", f"{platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}", f"Postgres {_postgres(arena)}", _broker(arena),
        f"Celery {version('celery')}", f"commit {_commit()}", f"{datetime.now(UTC):%Y-%m-%d}",
    )  # fmt: skip
    return ", ".join(parts)


def commit_seconds(arena: Arena) -> float:
    """What one durable commit of one small row costs here: what every durable step pays at least."""
    engine = arena.system.database.engine
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE benchmark_commit (at timestamptz)"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        insert = text("INSERT INTO benchmark_commit VALUES (now())")
        took = [_timed(lambda: connection.execute(insert)) for _ in range(COMMITS)]
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE benchmark_commit"))
    return median(took)


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _postgres(arena: Arena) -> str:
    with arena.system.database.transaction() as connection:
        found: str = connection.execute(text("SELECT current_setting('server_version')")).scalar_one()
        fsync: str = connection.execute(text("SELECT current_setting('fsync')")).scalar_one()
    return f"{found.split(maxsplit=1)[0]} (fsync {fsync})"


def _broker(arena: Arena) -> str:
    client = redis.Redis.from_url(arena.system.settings.broker_url or "")
    try:
        found = client.info("server")
    finally:
        client.close()
    is_valkey = "valkey_version" in found
    return f"Valkey {found['valkey_version']}" if is_valkey else f"Redis {found['redis_version']}"


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed
