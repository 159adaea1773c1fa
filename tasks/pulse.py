"""The task that a worker sends itself: Celery has to know its name, and nothing is done for it."""

from __future__ import annotations

from celery import Celery

from orchestrator.pulse import PULSE, Pulse


def register(app: Celery, pulse: Pulse) -> None:
    """Give the worker's app the task by which it hears its own pulse."""

    @app.task(name=PULSE, shared=False, Strategy=pulse.strategy)  # type: ignore[untyped-decorator]
    def nothing() -> None:
        """Heard in the event loop: no thread ever runs it."""
