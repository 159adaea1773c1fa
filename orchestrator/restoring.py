"""What an operator orders once after a restore to an earlier point, before any worker runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orchestrator import doubts
from orchestrator.instance import Instance
from orchestrator.store import restored, transitions
from orchestrator.system import System

BATCH = 100


@dataclass(frozen=True, kw_only=True)
class Doubted:
    since: datetime  # nothing is known of what came later
    instances: int  # that had not ended by then


def doubt_open_instances(system: System) -> Doubted:
    """Let no instance repeat what it may have done after the point to which the database was restored."""
    since = restored.known_until(system.database)
    marked = 0

    def verb(instance: Instance) -> bool:
        doubts.mark(instance, since)
        return instance.header.ended_at is None

    for ids in restored.open_instances(system.database, BATCH):
        marked += sum(transitions.transition(system.database, system.plans, ids, verb).values())
    return Doubted(since=since, instances=marked)
