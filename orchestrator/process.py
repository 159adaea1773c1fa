"""The life of a worker process: its threads, and what happens when it is told to stop.

Threads of ours, beside Celery's: the dispatcher, the sweep's timer, the publisher of events, the one that takes landed
events, those that tell of ends, delete what is old and send the canary, and the one that extends this process's leases.
They start before the broker is reached, for they need it least when it is away.
"""

from __future__ import annotations

from typing import Any

from celery import signals

from orchestrator import canary, completions, dead_letters, logs, retention, unread
from orchestrator.consumer import Consumer
from orchestrator.dispatch import Dispatcher
from orchestrator.landed_events import LandedEvents
from orchestrator.publisher import Publisher
from orchestrator.pulse import Pulse
from orchestrator.stopping import Deadline, end_at_once_when_told_again
from orchestrator.store.database import Database
from orchestrator.sweep import Timer, extend_leases, sweep
from orchestrator.system import System

DEAD_LETTERS_EVERY = 1.0  # seconds until a dead letter is written down


class Threads:
    """What runs beside a worker's legs."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._dispatcher = Dispatcher(system)
        self._publisher, self._landed = Publisher(system), LandedEvents(system)
        self._sweeper = Timer("sweep", system.settings.sweep_every, lambda: sweep(system))
        self._completions = Timer("completions", system.settings.sweep_every, lambda: completions.deliver_all(system))
        self._retention = Timer("retention", retention.EVERY, lambda: retention.keep(system))
        self._letters = Timer("dead letters", DEAD_LETTERS_EVERY, lambda: dead_letters.flush(system), at_last=True)
        self._old_letters = Timer("old dead letters", retention.EVERY, lambda: dead_letters.tend(system))
        self._unread = Timer("unread answers", unread.PAUSE, lambda: unread.bring_back(system))
        self._own = Database(system.database.url, pool_size=1)  # leases are kept even when the legs use all others
        self._leases = Timer("leases", system.settings.lease / 4, lambda: extend_leases(system, self._own))
        self._canary = Timer("canary", canary.looks_every(system.settings.canary), lambda: canary.send(system))
        self._all = (self._leases, self._dispatcher, self._sweeper, self._publisher, self._landed, self._completions,
                     self._retention, self._letters, self._old_letters, self._unread, self._canary)  # fmt: skip

    def start(self) -> None:
        for thread in self._all:
            thread.start()

    def stop(self) -> None:
        """Called when the legs have ended, so that their leases were kept until then."""
        for thread in reversed(self._all):
            thread.stop()
        self._own.close()


def attach(system: System, pulse: Pulse | None = None) -> Threads:
    """Tie the threads to the worker's signals. `pulse`: of a worker that has its task."""
    threads, deadline = Threads(system), Deadline(system)

    def log(**_: Any) -> None:
        logs.configure(system.settings)

    def begin(**_: Any) -> None:
        if pulse is not None:
            pulse.prepare()
        threads.start()
        deadline.start()

    def ready(sender: Consumer, **_: Any) -> None:
        sender.when_stopping = stop  # not every way to stop sends `worker_shutting_down`: SIGHUP does not
        deadline.when_told = sender.wake
        if pulse is not None:
            pulse.start(sender)

    def stop() -> None:
        if not system.stopping.is_set():  # or a signal in the midst of it would wait for its lock for ever
            system.stopping.set()

    def heed(**_: Any) -> None:
        end_at_once_when_told_again()  # first: a second one that found an event half set would wait for it for ever
        system.told.set()
        system.stopping.set()  # sent from the signal's frame: nothing more may be done here

    def end(**_: Any) -> None:
        threads.stop()
        system.close()

    signals.setup_logging.connect(log, weak=False)  # Celery leaves logging alone when somebody answers this
    signals.worker_init.connect(begin, weak=False)
    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(heed, weak=False)
    signals.worker_shutdown.connect(end, weak=False)
    return threads
