"""A program that belongs to this process: how it is started, known to be ready, stopped, and never left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from orchestrator.servers import leash

Ready = Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Child:
    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None  # the whole environment; none: ours
    user: str | None = None  # the account it runs as; none: ours
    ready: Ready | None = None  # asked again and again; none: ready as soon as it runs
    restart: bool = True  # false: it runs to its end, and what comes after it waits for that
    needed: bool = False  # by the others: told to stop only when all of them are gone
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL  # sent by the kernel when we are gone
    log: Path | None = None  # where its output goes; none: to the console, behind its name


def spawn(child: Child, output: int | IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start it in a session of its own, so that a terminal's Ctrl-C reaches us alone and its group can be ended.

    To be called from the main thread: the kernel takes the end of the thread that forked for the parent's.
    """
    tether = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), str(int(child.death_signal))]
    return subprocess.Popen(
        [*tether, child.user or "", *child.argv],
        env=child.env,
        cwd="/" if child.user else None,  # ours may be closed to another user
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        start_new_session=True,
    )


def send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def end_group(leader: int) -> None:
    """Kill what is left of a child's session, the child itself included."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
