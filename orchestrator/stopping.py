"""Being told to stop. A worker ends within `ORCHESTRATOR_STOP_WITHIN`, whatever its calls do, and loses nothing by it.

First it takes nothing on, and its calls may end and be recorded. When time is nearly up, what is still under way is
handed over: lost at once, without waiting for its lease. A second signal ends the process on the spot, as `kill -9` does.

A worker that resigns, since it hears nothing or has too few threads left, is in no hurry: whatever it calls may take until
its limit. Being told to stop meanwhile is the first signal, from which time runs.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from celery.worker import state

from orchestrator.sweep import hand_over
from orchestrator.system import System

CUT_OFF = 75  # the exit code when calls had to be cut off: EX_TEMPFAIL, others take them over
KEPT = 0.1  # of the time, to hand over what is under way
HANDING = 0.8  # of that; the rest is for the try that is under way
LOOK = 0.25  # seconds between two looks at whether only hung calls are left
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

log = logging.getLogger(__name__)


def resign(system: System, code: int) -> bool:
    """Stop of one's own accord, with an exit code; no signal is used up by it. False when it is stopping already."""
    if system.stopping.is_set():
        return False
    system.resigned.set()
    state.should_stop = code  # Celery's main loop looks at it; if that is stuck, there is the deadline
    system.stopping.set()
    return True


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
        within, code = self._system.settings.stop_within, CUT_OFF
        if self._lets_calls_end():
            code = state.should_stop
        else:
            threading.Event().wait(within * (1 - KEPT))
        self._end_at(within * KEPT, code)
        with suppress(Exception):
            handed = hand_over(self._system, within=within * KEPT * HANDING)
            log.warning("time is up: %d calls were cut off, and are handed over", handed)
        self._end(code)

    def _lets_calls_end(self) -> bool:
        """For who has resigned: waits until only hung calls are left. False as soon as somebody has told it to stop.

        What is between two calls, or Celery itself, is given as long as an effect is kept while the database is away.
        """
        system, since = self._system, time.monotonic()
        patience = max(system.settings.lease, system.settings.stop_within)
        while system.resigned.is_set() and not system.told.is_set():
            if system.hands.are_lost() or time.monotonic() - since > patience:
                return True
            if len(system.hands.hung()) < len(system.hands.calls()):
                since = time.monotonic()
            system.told.wait(LOOK)
        return False

    def _end_at(self, seconds: float, code: int) -> None:
        """Also when the database hangs: then the leases run out by themselves."""
        last = threading.Timer(seconds, self._end, [code])
        last.daemon = True
        last.start()


def end_at_once_when_told_again() -> None:
    """To be called in the main thread."""
    for one in SIGNALS:
        signal.signal(one, _end_at_once)


def _end_at_once(number: int, _frame: object) -> None:
    os._exit(128 + number)  # as a shell tells of a process that a signal has ended
