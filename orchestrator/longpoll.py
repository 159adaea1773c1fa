"""Waiting for an instance to change: what `GET …/status?wait=` does before it answers."""

from __future__ import annotations

import time

from orchestrator.changes import Changes
from orchestrator.errors import NotFound
from orchestrator.queries import trace_of
from orchestrator.store import instances
from orchestrator.system import System

LONGEST = 60.0  # seconds


def await_change(system: System, changes: Changes, *, tenant: str, instance_id: str, seconds: float,
                 since: int | None = None) -> None:  # fmt: skip
    """Until its history goes beyond number `since`, or without one until its status is another; or it has ended, or the
    time is up. Raises NotFound, and Busy when too many wait.

    The database is asked again only when it says that something has changed.
    """
    trace = trace_of(instance_id)
    until = time.monotonic() + min(seconds, LONGEST)
    with changes.subscribe(tenant, trace) as subscription:
        first = now = _glance(system, tenant, trace)
        while not _is_news(first, now, since):
            left = until - time.monotonic()
            if left <= 0 or subscription.closed:
                return
            if subscription.wait(left):
                now = _glance(system, tenant, trace)


def _is_news(first: instances.Glance, now: instances.Glance, since: int | None) -> bool:
    if since is not None and now.seq > since:
        return True
    return now.has_ended or (since is None and (now.status, now.reason) != (first.status, first.reason))


def _glance(system: System, tenant: str, trace: str) -> instances.Glance:
    with system.database.transaction(tenant) as connection:
        found = instances.glance(connection, tenant, trace)
    if found is None:
        raise NotFound(f"there is no instance {trace!r}")
    return found
