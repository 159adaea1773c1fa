"""Postgres stopped at once and started again, or one of its processes killed; the broker wiped, killed, emptied."""

from __future__ import annotations

import os
import signal

from orchestrator.servers.descendants import descendants
from tests.chaos.run.fire import Fault, Fire

CHECKED_EVERY = 0.5  # seconds


def faults(broker: str) -> list[Fault]:
    slow = broker == "rabbitmq"  # a node needs seconds of both cores to start
    return [
        Fault(name="restart Postgres", counted="Postgres restarts", every=10.0, begin=_restart_postgres),
        Fault(name="kill a backend", counted="Postgres crashes", every=25.0, begin=_kill_backend),
        Fault(name="wipe the broker", counted="broker wiped", every=8.0, begin=_wipe),
        Fault(name="kill the broker", counted="broker restarts", every=40.0 if slow else 15.0, begin=_kill_broker),
    ]


def watch(fire: Fire) -> None:
    """Again and again: a restart may fail, and a Postgres whose recovery is killed gives up for good."""
    fire.arena.is_postgres_there()
    for member in fire.arena.ours:
        member.supervise()
    fire.later(CHECKED_EVERY, lambda: watch(fire), is_end=False)


def _restart_postgres(fire: Fire) -> str:
    fire.arena.restart_postgres()
    return "Postgres: immediate restart"


def _kill_backend(fire: Fire) -> str | None:
    """Postgres ends all others with it, for they share memory, and recovers by itself."""
    if not (backends := descendants(fire.arena.postgres.process.pid)):
        return None
    try:
        os.kill(fire.chance.choice(backends), signal.SIGKILL)
    except ProcessLookupError:
        return None
    return "Postgres: kill -9 of one of its processes"


def _wipe(fire: Fire) -> str | None:
    if not fire.arena.broker.wipe():
        return None
    what = "FLUSHALL" if fire.arena.broker.name == "valkey" else "every queue purged"
    return f"broker: {what}"


def _kill_broker(fire: Fire) -> str:
    """And let it come back empty, or, where it keeps anything, with what it has kept."""
    empty = fire.arena.broker.name == "valkey" or fire.chance.random() < 0.5
    fire.arena.broker.restart(empty=empty)
    return f"broker: kill -9, and back {'empty' if empty else 'with what it has kept'}"
