"""A local lane whose operations end, hang or starve the worker that calls them. Each call leaves a line in a file first."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.lane import Call

CALLS = "ORCHESTRATOR_POISON_CALLS"  # names the file
LONG = 0.4  # seconds that a harmless call takes, so that it is in flight when its worker ends


def _note(call: Call) -> None:
    with Path(os.environ[CALLS]).open("a") as file:
        file.write(f"{call.trace} {call.operation}\n")


def _poisonous(act: Callable[[], Any]) -> Callable[[Call], Any]:
    def operation(call: Call) -> Any:
        _note(call)
        if call.payload.get("harmless"):
            time.sleep(LONG)  # it works; nothing is timed by it
            return {"result": "well"}
        return act()

    operation.__module__ = __name__
    return operation


def work(call: Call) -> Any:
    _note(call)
    time.sleep(LONG)
    return {"result": "well"}


def _spin() -> None:
    while True:
        pass


def _eat() -> Any:
    """All the memory that a process may have; another thread would be refused its own for as long."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 64_000_000, hard))
    try:
        return bytearray(2_000_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


segfault = _poisonous(lambda: ctypes.string_at(0))
leave = _poisonous(lambda: os._exit(3))
killed = _poisonous(lambda: os.kill(os.getpid(), signal.SIGKILL))  # as the kernel does when memory is short
spin = _poisonous(_spin)
hang = _poisonous(lambda: threading.Event().wait())
starve = _poisonous(lambda: ctypes.PyDLL(None).sleep(3600))  # it keeps the interpreter's lock
eat = _poisonous(_eat)
