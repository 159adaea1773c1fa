"""What tests ask about processes that are not their children."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

LOOK_EVERY = 0.02


def wait_until(holds: Callable[[], bool], *, within: float = 15.0) -> None:
    """Look until it holds: the end of a process that is not ours wakes nobody. Fails after `within` seconds."""
    until = time.monotonic() + within
    while not holds():
        assert time.monotonic() < until, f"still not so after {within} s"
        time.sleep(LOOK_EVERY)


def gone(process: int) -> bool:
    """Ended, even if nobody has collected it yet."""
    status = Path(f"/proc/{process}/stat")
    try:
        if Path("/proc/self").exists():
            return status.read_text().rsplit(")", 1)[1].split()[0] == "Z"
        os.kill(process, 0)
    except (FileNotFoundError, ProcessLookupError):
        return True
    return False
