"""A durable workflow orchestrator: Celery carries the messages, Postgres holds the truth.

`orchestrator.start` and `orchestrator.start_many` are the Python client (`orchestrator.client`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.client import start, start_many

__all__ = ["start", "start_many"]


def __getattr__(name: str) -> Any:
    """Loaded when first asked for: the command line and the pure core start without the client's imports."""
    if name in __all__:
        from orchestrator import client

        return getattr(client, name)
    raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
