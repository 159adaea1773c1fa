"""The Python client: start an instance inside the caller's own transaction.

The instance, its first step and the notification are in that transaction: they come to be when it commits, together
with whatever else the caller did, or not at all. The dispatcher publishes after the commit, so the caller needs no
broker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from orchestrator import births, settings
from orchestrator.births import Started
from orchestrator.lanes import registry
from orchestrator.settings import Settings
from orchestrator.store.definitions import Plans


def start(workflow_id: str, payload: Mapping[str, Any], *, session: Session, tenant: str | None = None,
          idempotency_key: str | None = None) -> Started:  # fmt: skip
    """Start one instance. `session` is bound to the orchestrator's database; its transaction is not committed here.

    Raises what `engine.start` raises; nothing has been written then.
    """
    found, plans = _configured()
    return births.start_within(session.connection(), plans, found, tenant=tenant or found.tenant,
                               workflow_id=workflow_id, payload=_plain(payload), idempotency_key=idempotency_key)  # fmt: skip


def start_many(workflow_id: str, payloads: Sequence[Mapping[str, Any]], *, session: Session,
               tenant: str | None = None) -> list[str]:  # fmt: skip
    """Start an instance for each payload, set-wise. Returns their ids in the payloads' order; all or none."""
    found, plans = _configured()
    return births.start_many_within(session.connection(), plans, found, tenant=tenant or found.tenant,
                                    workflow_id=workflow_id, payloads=payloads)  # fmt: skip


def _plain(payload: Any) -> Any:
    """What JSON has no other way to write; what is no mapping stays as it is, to be refused: `dict([])` would be one."""
    return dict(payload) if isinstance(payload, Mapping) else payload


@lru_cache(maxsize=1)
def _configured() -> tuple[Settings, Plans]:
    """The services file tells which queue serves a lane; without one, all go to the default queue."""
    found = settings.load()
    lanes = registry.load(found.services_file) if Path(found.services_file).exists() else {}
    return found, Plans(None, lanes)
