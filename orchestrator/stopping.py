"""Being told to stop. A worker ends within `ORCHESTRATOR_STOP_WITHIN`, whatever its calls do, and loses nothing by it.

First it takes nothing on, and its calls may end and be recorded. When time is nearly up, what is still under way is
handed over: lost at once, without waiting for its lease. A second signal ends the process on the spot, as `kill -9` does.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

from orchestrator.sweep import hand_over
from orchestrator.system import System

CUT_OFF = 75  # the exit code when calls had to be cut off: EX_TEMPFAIL, others take them over
KEPT = 0.1  # of the time, to hand over what is under way
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

log = logging.getLogger(__name__)


class Deadline:
    """A thread that ends the process when its time is up. `end` leaves at once, with an exit code.

    `when_told` is called by it once it has been told to stop.
    """

    when_told: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, system: System, end: Callable[[int], object] = os._exit) -> None:
        self._system, self._end = system, end
        self._thread = threading.Thread(target=self._run, name="deadline", daemon=True)  # ends with the process

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        self._system.stopping.wait()
        with suppress(Exception):  # the time runs all the same
            self.when_told()
        within = self._system.settings.stop_within
        threading.Event().wait(within * (1 - KEPT))
        self._end_at(within * KEPT)
        with suppress(Exception):
            log.warning("time is up: %d calls were cut off, and are handed over", hand_over(self._system))
        self._end(CUT_OFF)

    def _end_at(self, seconds: float) -> None:
        """Also when the database hangs: then the leases run out by themselves."""
        last = threading.Timer(seconds, self._end, [CUT_OFF])
        last.daemon = True
        last.start()


def end_at_once_when_told_again() -> None:
    """To be called in the main thread."""
    for one in SIGNALS:
        signal.signal(one, _end_at_once)


def _end_at_once(number: int, _frame: object) -> None:
    os._exit(128 + number)  # as a shell tells of a process that a signal has ended
