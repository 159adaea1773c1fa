"""What a worker process does about calls that never end. Only its own end frees a thread, so it ends, and is started anew.

Two things are watched. A call that goes on beyond its limit has lost its step to others and keeps its thread: when half of the
threads are lost in that way, the process takes no more messages, lets the other calls end, and exits. And code that never
lets go of the interpreter's lock stops every thread, also those that keep leases: a timer outside of the interpreter then
prints where each thread is, and exits.
"""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
import traceback
from typing import Any

from celery import signals

from orchestrator.hands import Call
from orchestrator.stopping import resign
from orchestrator.system import System

LOST_HANDS = 70  # the exit code: EX_SOFTWARE
STARVED = 4.0  # leases without a turn of the watch …
LEAST = 15.0  # seconds, or more: a machine that has much to do is no reason
LOOK = 0.25  # of a lease, between two looks

log = logging.getLogger(__name__)


def attach(system: System) -> None:
    """Watch, as soon as the worker is ready."""

    def ready(sender: Any, **_: Any) -> None:
        Watch(system, hands=sender.pool.limit).start()

    signals.worker_ready.connect(ready, weak=False)


class Watch:
    """`hands`: the threads that call lanes."""

    def __init__(self, system: System, *, hands: int) -> None:
        self._system, self._hands = system, hands
        self._told: set[Call] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hung", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """A worker's own goes on until the process has ended: also what it does at its end can hang."""
        self._stopped.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def _run(self) -> None:
        lease = self._system.settings.lease
        while not self._stopped.is_set():
            faulthandler.dump_traceback_later(max(LEAST, STARVED * lease), exit=True)  # armed anew by each turn
            try:
                self.look()
            except Exception:  # without this thread the timer would end the process
                log.exception("the watch could not look, and will again")
            self._stopped.wait(lease * LOOK)

    def look(self) -> None:
        """One turn."""
        hung = self._system.hands.hung()
        for call in hung:
            if call not in self._told:
                self._told.add(call)
                log.error("%s has not ended by its limit and keeps its thread:\n%s", call.key, where(call.thread))
        self._told &= set(hung)
        lost = {call.leg for call in hung}
        if 2 * len(lost) >= self._hands and resign(self._system, LOST_HANDS):
            log.critical(
                "%d of %d threads are lost to calls that do not end: this process ends", len(lost), self._hands
            )


def where(thread: int) -> str:
    """Where a thread is now: the innermost lines."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001  # documented, and the only way
    return "".join(traceback.format_stack(frame)[-5:]) if frame else "(it has just ended)"
