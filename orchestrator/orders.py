"""What a person orders about many instances at once: the verbs of `operators`, for all that a filter chooses.

Every instance is a transaction of its own, so that one that refuses holds up no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.exc import OperationalError

from orchestrator import engine, views
from orchestrator.errors import BadRequest, OrchestratorError
from orchestrator.store import filters
from orchestrator.store.filters import Filter
from orchestrator.system import System

MOST = 1000  # instances a call
NOT_HAD = "55P03"  # SQLSTATE lock_not_available

ORDERS: dict[str, Callable[..., str]] = {
    "retry": engine.retry, "cancel": engine.cancel, "suspend": engine.suspend, "resume": engine.resume,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of an order; of a dry run `items` alone, as they are now."""

    matched: int
    items: tuple[dict[str, Any], ...]  # `views.summary`, with the status afterwards
    refused: tuple[dict[str, str], ...]  # {instanceId, message}
    cursor: str | None  # more match: go on with it; none: these were all

    @property
    def done(self) -> int:
        return self.matched - len(self.refused)


def order(system: System, action: str, wanted: Filter, *, dry_run: bool = False) -> Outcome:
    """Order it about the newest `wanted.limit` that match. Raises BadRequest for a filter that chooses everything."""
    if wanted.is_empty:
        raise BadRequest("the filter is empty, which would mean every instance: name at least one condition")
    found, cursor = _chosen(system, wanted)
    refused: dict[str, str] = {}
    for one in [] if dry_run else found:
        try:
            one["status"] = ORDERS[action](system, tenant=wanted.tenant, instance_id=one["instanceId"])
        except (OrchestratorError, OperationalError) as error:
            refused[one["instanceId"]] = _why(error)
    return Outcome(
        matched=len(found), items=tuple(found), cursor=cursor,
        refused=tuple({"instanceId": trace, "message": message} for trace, message in refused.items()),
    )  # fmt: skip


def _chosen(system: System, wanted: Filter) -> tuple[list[dict[str, Any]], str | None]:
    """What matches, and from where to go on."""
    with system.database.transaction(wanted.tenant) as connection:
        rows = filters.listed(connection, replace(wanted, limit=wanted.limit + 1))
    found = [views.summary(row, []) for row in rows[: wanted.limit]]
    return found, found[-1]["instanceId"] if len(rows) > len(found) else None


def _why(error: Exception) -> str:
    """A database that is away ends the whole order; an instance that somebody holds for long does not."""
    if isinstance(error, OperationalError):
        if getattr(error.orig, "sqlstate", None) != NOT_HAD:
            raise error
        return "it is held by somebody else; order it again"
    return str(error)
