"""Postgres stopped at once and started again, or one of its processes killed; the broker wiped, killed, emptied."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from orchestrator.servers.descendants import descendants
from tests.chaos.run.fire import Fault, Fire

CHECKED_EVERY = 0.5  # seconds


def faults(broker: str) -> list[Fault]:
    slow = broker == "rabbitmq"  # a node needs seconds of both cores to start
    return [
        Fault(name="restart Postgres", every=10.0, begin=_restart_postgres),
        Fault(name="kill a backend", every=25.0, begin=_kill_backend),
        Fault(name="wipe the broker", every=8.0, begin=_wipe),
        Fault(name="kill the broker", every=40.0 if slow else 15.0, begin=_kill_broker),
    ]


def watch(fire: Fire) -> None:
    """Again and again: a restart may fail, and a Postgres whose recovery is killed gives up for good."""
    fire.arena.is_postgres_there()
    for member in fire.arena.ours:
        member.supervise()
    fire.later(CHECKED_EVERY, lambda: watch(fire), is_end=False)


def _restart_postgres(fire: Fire) -> None:
    fire.arena.restart_postgres()
    fire.happened("Postgres restarts", "Postgres: immediate restart")


def _kill_backend(fire: Fire) -> None:
    """Postgres ends all others with it, for they share memory, and recovers by itself."""
    backends = descendants(fire.arena.postgres.process.pid)
    if backends:
        with suppress(ProcessLookupError):
            os.kill(fire.chance.choice(backends), signal.SIGKILL)
        fire.happened("Postgres crashes", "Postgres: kill -9 of one of its processes")


def _wipe(fire: Fire) -> None:
    fire.arena.broker.wipe()
    what = "FLUSHALL" if fire.arena.broker.name == "valkey" else "every queue purged"
    fire.happened("broker wiped", f"broker: {what}")


def _kill_broker(fire: Fire) -> None:
    """And let it come back empty, or, where it keeps anything, with what it has kept."""
    empty = fire.arena.broker.name == "valkey" or fire.chance.random() < 0.5
    fire.arena.broker.restart(empty=empty)
    fire.happened("broker restarts", f"broker: kill -9, and back {'empty' if empty else 'with what it has kept'}")
