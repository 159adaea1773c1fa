"""What a worker's consumer does with messages that no task can take. Celery's own logs them and forgets.

A bootstep, and no consumer of our own class: it hangs what is ours on whatever consumer the worker has.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from celery import Celery, bootsteps, signals
from kombu import Message
from kombu.exceptions import OperationalError
from kombu.log import get_logger

from orchestrator import dead_letters, message_form
from orchestrator.dead_letters import Reason
from orchestrator.errors import NotFound
from orchestrator.lanes import body
from orchestrator.store.database import is_away
from orchestrator.system import System

logger = get_logger(__name__)


def register(app: Celery, system: System) -> None:
    """Let the app's workers keep what they cannot use."""

    class Bury(bootsteps.Step):  # type: ignore[misc]  # Celery ships no types
        name = "bury"

        def __init__(self, consumer: Any, **_: Any) -> None:
            _attend(system, consumer)

    def raised(sender: Any, exception: BaseException, args: Any, kwargs: Any, **_: Any) -> None:
        error = sys.exc_info()[1] or exception  # what Celery tells of may be a stand-in that can be pickled
        if sender.app is app and not isinstance(error, sender.throws or ()) and not _is_outage(app, error):
            reason: Reason = "no_definition" if isinstance(error, NotFound) else "raised"
            told = json.dumps({"task": sender.name, "args": args, "kwargs": kwargs}, default=repr)
            dead_letters.keep(system, reason, queue=_queue(sender), error=body.described(error), content=told)

    app.steps["consumer"].add(Bury)
    signals.task_failure.connect(raised, weak=False)
    signals.task_internal_error.connect(raised, weak=False)  # where Celery itself stumbles over the message


def _is_outage(app: Celery, error: BaseException) -> bool:
    """Whether Postgres or the broker is to blame, and not the message: the sweep sends it again."""
    with app.connection_for_write() as broker:  # it does not connect: it only says what its errors are
        errors = (
            OperationalError,
            *broker.connection_errors,
            *broker.recoverable_connection_errors,
            *broker.channel_errors,
        )
    return is_away(error) or isinstance(error, errors)


def _fault(message: Message) -> str | None:
    """Of what names a task and can be read; all else Celery's own consumer gives up."""
    headers = message.headers
    if not isinstance(headers, dict) or "task" not in headers:
        return None
    if not isinstance(headers["task"], str):
        return "its header `task` is of another kind"
    try:
        payload = message.payload  # decoded once, and kept
    except Exception:  # noqa: BLE001  # told of by the consumer, with its reason
        return None
    return message_form.fault(headers, payload)


def _queue(task: Any) -> str:
    return str((task.request.delivery_info or {}).get("routing_key") or "?")


def _attend(system: System, consumer: Any) -> None:
    """Every way on which Celery gives a message up leads by us."""
    for name, reason in GIVEN_UP.items():
        setattr(consumer, name, _first_kept(system, consumer, reason, getattr(consumer, name)))
    create = consumer.create_task_handler

    def create_task_handler(*args: Any, **kwargs: Any) -> Callable[[Message], None]:
        return _guarded(system, consumer, create(*args, **kwargs))

    consumer.create_task_handler = create_task_handler


GIVEN_UP: dict[str, Reason] = {
    "on_decode_error": "undecodable",
    "on_unknown_message": "not_a_task",
    "on_unknown_task": "unknown_task",
    "on_invalid_task": "invalid",
}


def _first_kept(system: System, consumer: Any, reason: Reason, then: Callable[..., None]) -> Callable[..., None]:
    def give_up(*args: Any) -> None:
        message = next(one for one in args if isinstance(one, Message))
        error = next((one for one in args if isinstance(one, Exception)), None)
        dead_letters.bury(system, message, reason, body.described(error) if error else "it is no task's message")
        _surely_given_up(consumer, message, lambda: then(*args))

    return give_up


def _surely_given_up(consumer: Any, message: Message, then: Callable[[], None]) -> None:
    """What Celery tells of a message may itself stumble over it."""
    try:
        then()
    except tuple(consumer.connection_errors):
        raise
    except Exception as error:  # noqa: BLE001  # whatever is wrong with a message
        logger.warning("a message was not told of: %s", body.described(error))
        if not message.acknowledged:
            message.reject_log_error(logger, consumer.connection_errors)


def _guarded(system: System, consumer: Any, handle: Callable[[Message], None]) -> Callable[[Message], None]:
    """Celery handles some of what may be wrong with a message; the rest would end the worker, and come again."""
    connection_errors = tuple(consumer.connection_errors)

    def on_task_received(message: Message) -> None:
        try:
            if wrong := _fault(message):
                dead_letters.bury(system, message, "invalid", wrong)
                message.reject_log_error(logger, connection_errors)
            else:
                handle(message)
        except connection_errors:
            raise
        except Exception as error:  # noqa: BLE001  # whatever is wrong with a message
            dead_letters.bury(system, message, "undecodable", body.described(error))
            if not message.acknowledged:
                message.reject_log_error(logger, connection_errors)

    return on_task_received
