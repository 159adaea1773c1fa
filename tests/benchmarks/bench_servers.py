"""Servers and workers of the benchmark's own, in a temporary directory, on loopback, gone when it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from orchestrator import bootstrap, embedded
from orchestrator.servers.child import Child, end_group, spawn
from orchestrator.servers.stack import environment
from orchestrator.settings import Settings
from orchestrator.store.database import upgrade
from orchestrator.system import System
from tests import servers
from tests.benchmarks import bare
from tests.benchmarks.contenders import SERVICES, Bare, Contender, Orchestrated

READY_WITHIN = 60.0  # seconds
STOP_WITHIN = 20.0
THREADS = Settings().worker_concurrency  # of each worker process


@dataclass(frozen=True, kw_only=True)
class Arena:
    """Two servers, and those who compete on them."""

    system: System
    folder: Path
    pipe: Path
    orchestrated: Orchestrated
    bare: Bare


@contextmanager
def arena() -> Iterator[Arena]:
    """A durable Postgres (as `up` runs it) and a broker, with the schema in place."""
    with ExitStack() as running:
        folder = running.enter_context(servers.data_directory())
        postgres = running.enter_context(embedded.postgres(folder, durable=True))
        broker = running.enter_context(embedded.broker(folder))
        upgrade(postgres.url)
        (folder / "services.yaml").write_text(SERVICES)
        os.mkfifo(pipe := folder / "ends")
        system = bootstrap.compose(Settings(
            database_url=postgres.url, broker_url=broker.url, auth="local", data_dir=str(folder),
            services_file=str(folder / "services.yaml"),
        ))  # fmt: skip
        running.callback(system.close)
        yield Arena(
            system=system, folder=folder, pipe=pipe, orchestrated=Orchestrated(system), bare=Bare(system.settings, pipe)
        )


def variables(arena: Arena) -> dict[str, str]:
    return environment(arena.system.settings) | {bare.PIPE: str(arena.pipe)}


@contextmanager
def workers(arena: Arena, contender: Contender, count: int) -> Iterator[None]:
    """One-process workers with a pool of threads, ready to take messages."""
    with ExitStack() as running:
        processes = [running.enter_context(_worker(arena, contender, n)) for n in range(count)]
        _await_ready(arena, processes)
        yield


@contextmanager
def _worker(arena: Arena, contender: Contender, number: int) -> Iterator[subprocess.Popen[bytes]]:
    queues = ["-Q", contender.queues] if contender.queues else []
    argv = [sys.executable, "-m", "celery", "-A", contender.celery_app, "worker", "-P", "threads", "-c", str(THREADS),
            "-l", "WARNING", "-n", f"{number}@bench", "--without-gossip", "--without-mingle", "--without-heartbeat",
            *queues]  # fmt: skip
    env = {**os.environ, **variables(arena), "PYTHONWARNINGS": "ignore"}
    child = Child(name=f"worker-{number}", argv=argv, env=env)
    with (arena.folder / f"worker-{number}.log").open("ab") as log:
        process = spawn(child, log)
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        end_group(process.pid)
        process.wait()


def _await_ready(arena: Arena, processes: list[subprocess.Popen[bytes]]) -> None:
    """A worker that takes messages has a connection that blocks in the broker."""
    until = time.monotonic() + READY_WITHIN
    client = redis.Redis.from_url(arena.system.settings.broker_url or "")
    try:
        while int(client.info("clients")["blocked_clients"]) < len(processes):
            ended = [process for process in processes if process.poll() is not None]
            if ended or time.monotonic() > until:
                raise AssertionError(f"no worker: {_tails(arena.folder)}")
            time.sleep(0.05)
    finally:
        client.close()


def _tails(folder: Path) -> str:
    return "\n".join(log.read_text(errors="replace")[-2000:] for log in sorted(folder.glob("worker-*.log")))
