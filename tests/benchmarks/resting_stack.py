"""The stack of `orchestrator up`: how long it takes to be ready, and what it weighs while it has nothing to do."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.servers.child import Child, end_group, spawn
from orchestrator.servers.descendants import descendants
from orchestrator.servers.ports import free_port
from orchestrator.servers.stack import command
from orchestrator.settings import PREFIX
from tests import servers

READY_WITHIN = 120.0  # seconds
STOP_WITHIN = 20.0
SETTLE = 5.0  # seconds at rest before it is weighed
NAMES = ("postgres", "valkey-server", "redis-server", "worker", "beat", "web", "up")  # the first that fits


@dataclass(frozen=True, kw_only=True)
class Resting:
    fresh: float  # seconds from the command to the ready line, with a data directory that does not exist
    again: float  # the same with one that does
    bytes: Mapping[str, int]  # proportional set size by the name of a process
    processes: Mapping[str, int]  # how many have that name
    workers: int


def rest(workers: int) -> Resting:
    with servers.data_directory() as folder:
        with up(folder / "data", workers) as (fresh, _):
            pass
        with up(folder / "data", workers) as (again, process):
            time.sleep(SETTLE)
            weights, counts = weigh(process)
    return Resting(fresh=fresh, again=again, bytes=weights, processes=counts, workers=workers)


@contextmanager
def up(data_dir: Path, workers: int) -> Iterator[tuple[float, int]]:
    """(seconds until it said that it is ready, its process id)"""
    argv = (*command(), "up", "--port", str(free_port()), "--data-dir", str(data_dir), "--workers", str(workers))
    env = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    began = time.perf_counter()
    process = spawn(Child(name="up", argv=argv, env=env, death_signal=signal.SIGTERM), subprocess.PIPE)
    try:
        _await_ready(process)
        yield time.perf_counter() - began, process.pid
    finally:
        _stop(process)


def _await_ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    watchdog = threading.Timer(READY_WITHIN, process.terminate)
    watchdog.start()
    said = []
    for line in process.stdout:
        said.append(line.decode(errors="replace"))
        if line.startswith(b"ready:"):
            break
    watchdog.cancel()
    assert "".join(said[-1:]).startswith("ready:"), f"the stack did not get ready: {''.join(said[-20:])}"
    threading.Thread(target=process.stdout.read, name="drain", daemon=True).start()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        end_group(process.pid)
        process.wait()


def weigh(root: int) -> tuple[Counter[str], Counter[str]]:
    """Bytes and number of the processes of a tree, by name. Memory that several share is divided among them."""
    weights: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for process in (root, *descendants(root)):
        with suppress(OSError):  # it ended while we looked
            name = name_of((Path("/proc") / str(process) / "cmdline").read_bytes())
            weights[name] += proportional(process)
            counts[name] += 1
    return weights, counts


def name_of(cmdline: bytes) -> str:
    words = cmdline.replace(b"\0", b" ").decode(errors="replace").split()
    programs = [Path(word.rstrip(":")).name for word in words]
    return next((name for name in NAMES if name in programs), programs[0] if programs else "?")


def proportional(process: int) -> int:
    for line in (Path("/proc") / str(process) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
