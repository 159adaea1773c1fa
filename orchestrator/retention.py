"""Purging what has ended long ago, in small batches, each a transaction of its own."""

from __future__ import annotations

from orchestrator.store import retention
from orchestrator.store.retention import Old
from orchestrator.system import System

BATCH = 100  # roots a transaction
EVERY = 60.0  # seconds between two looks of a worker


def count(system: System, old: Old) -> int:
    """How many would go, without their children."""
    with system.database.transaction() as connection:
        return retention.count(connection, old)


def purge(system: System, old: Old) -> int:
    """Returns how many went, without their children."""
    gone = 0
    while not system.stopping.is_set():
        with system.database.transaction() as connection:
            batch = retention.purge(connection, old, BATCH)
        gone += batch
        if batch < BATCH:  # the rest is young, or somebody else has it
            break
    return gone


def keep(system: System) -> int:
    """What the retention that is set asks for, of all tenants; without one all is kept for ever."""
    if system.settings.retention is None:
        return 0
    return purge(system, Old(older_than=system.settings.retention))
