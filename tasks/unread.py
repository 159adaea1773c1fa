"""What a task does with a message of a protocol that this program does not read: a newer program's, as a rule, while
old and new workers share the queues."""

from __future__ import annotations

import logging
from typing import Any

from celery import Task
from celery.exceptions import Reject

from orchestrator import canvas, dead_letters, protocol, unread
from orchestrator.dispatch import say_again
from orchestrator.system import System

log = logging.getLogger(__name__)


def hint(system: System) -> type[Task]:
    """For messages that only say where to look: what they are about is said again in this program's words."""

    class Hint(Task):  # type: ignore[misc]  # Celery ships no types
        abstract = True

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            if _is_worn_out(system, self.request):
                canvas.steer(self, ())
                return []
            number = protocol.of(self.request)
            if protocol.is_read(number):
                return self.run(*args, **kwargs)
            canvas.steer(self, ())
            steps = say_again(system, args[0] if args else None)
            log.warning("a message of protocol %.20r, which this program does not read: %d said again", number, steps)
            return []

    return Hint


def _is_worn_out(system: System, request: Any) -> bool:
    if not is_redelivered(request):
        return False
    queue = str((request.delivery_info or {}).get("routing_key") or "?")
    return dead_letters.is_worn_out(system, str(request.id), queue=queue)


def is_redelivered(request: Any) -> bool:
    """Brokers say it in two places."""
    return bool((request.delivery_info or {}).get("redelivered") or request.get("redelivered"))


def answer(system: System) -> type[Task]:
    """For messages that hold what is known nowhere else: they go round until somebody comes by who reads them."""

    class Answer(Task):  # type: ignore[misc]  # Celery ships no types
        abstract = True

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            number = protocol.of(self.request)
            if protocol.is_read(number):
                return self.run(*args, **kwargs)
            log.warning("an answer of protocol %.20r, which this program does not read, goes on", number)
            try:
                return unread.lay_by(system, self.name, args, kwargs, number)
            except Exception as error:
                raise Reject(requeue=True) from error

    return Answer
