"""Celery lanes: a task of another app on the same broker, whose answer comes back to a task of ours.

Sent with `link` and `link_error`, and never waited for: once the broker has it, the step waits. The other app needs
neither a result backend nor anything of ours. What Celery 5.7 does with the answer of an app that does not know our
tasks was tried first (docs/explanation/celery.md): it sends them on, with the options that the signature carries, so
these name an exchange that it need not declare, and JSON whatever its own serializer is.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from celery import Celery
from celery.canvas import Signature
from kombu import Exchange, Producer, Queue
from kombu.exceptions import EncodeError

from orchestrator import protocol
from orchestrator.lane import Call, Lane, Reply
from orchestrator.lanes import body, wire
from orchestrator.lanes.exchanges import ANSWERS, FAILED, LANDED, LANDED_QUEUE

TASK_IDS = uuid.UUID("6f5c8a3e-6f0c-5d0e-9a53-8f2f1f0f7f0b")  # any constant: a namespace of ours
NO_ROUTE = 312  # AMQP's code for a message that no queue takes


def call(app: Celery, lane: Lane, call: Call) -> Reply:
    """One attempt. Never raises for what the broker does: until a connection stands nothing was sent."""
    with ExitStack() as stack:
        try:
            producer = stack.enter_context(_producer(app, lane, call.timeout))
            _connect(producer)
        except Exception as error:  # noqa: BLE001  # whatever the broker's client raises
            text = f"no connection to the broker: {body.described(error)}"
            return Reply(outcome="refused" if _is_refused(error) else "not_sent", error=text)
        return _send(app, producer, lane, call)


@contextmanager
def _producer(app: Celery, lane: Lane, timeout: float) -> Iterator[Producer]:
    """A kept connection may have died unseen; where the doubt would park the step, a new one is made."""
    if lane.idempotency == "none":
        with app.connection_for_write() as connection:
            yield app.amqp.Producer(connection, auto_declare=False)
    else:
        with app.producer_pool.acquire(block=True, timeout=timeout) as producer:
            yield producer


def _connect(producer: Producer) -> None:
    channel = producer.channel  # connects an AMQP connection
    if (client := getattr(channel, "client", None)) is not None:
        client.ping()  # Redis connects at its first command only


def _is_refused(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _send(app: Celery, producer: Producer, lane: Lane, call: Call) -> Reply:
    task_id = str(uuid.uuid5(TASK_IDS, call.key))
    # Where a decision is awaited, that the task has ended well says no more than that somebody was told.
    link = None if call.pause else _answer(app, LANDED, call)
    try:
        app.send_task(
            wire.named(lane.task, call.operation), kwargs=_arguments(call), task_id=task_id, producer=producer,
            headers=wire.headers(call), link=link, link_error=_answer(app, FAILED, call),
            queue=_queue(lane), declare=[], mandatory=True, serializer="json", retry=False, ignore_result=True,
            add_to_parent=False, confirm_timeout=call.timeout,
        )  # fmt: skip
    except EncodeError as error:
        text = f"the call cannot be written as JSON: {body.described(error)}"
        return Reply(outcome="rejected", error=text, is_ours=True)
    except Exception as error:  # noqa: BLE001  # whatever the broker's client raises: it may have taken the message
        return _not_taken(lane, error)
    return Reply(outcome="done", later=True, output={"taskId": task_id})


def _not_taken(lane: Lane, error: Exception) -> Reply:
    if getattr(error, "reply_code", None) == NO_ROUTE:
        text = f"the broker has no queue `{lane.task_queue}`: is the other app's worker configured, and was it ever started?"
        return Reply(outcome="not_sent", error=text)
    return Reply(outcome="uncertain", error=f"the broker may not have taken the task: {body.described(error)}")


def _queue(lane: Lane) -> Queue:
    """Straight into their queue by the broker's default exchange. It is theirs to declare, with arguments of theirs."""
    return Queue(lane.task_queue, Exchange(""), routing_key=lane.task_queue)


def _arguments(call: Call) -> dict[str, Any]:
    """A task's headers are hard to come by, so it gets the key as an argument too."""
    return {**wire.content(call), "key": call.key}


def _answer(app: Celery, task: str, call: Call) -> Signature:
    told = {"trace": call.trace, "step": call.step, "token": token_of(call.callback_url)}
    return app.signature(
        task, kwargs=told, exchange=ANSWERS.name, routing_key=LANDED_QUEUE, serializer="json", ignore_result=True,
        headers=protocol.headers(),
    )  # fmt: skip


def token_of(callback_url: str | None) -> str | None:
    """The callback token in a callback URL; none where there is none, or no URL."""
    try:
        return next(iter(parse_qs(urlsplit(callback_url or "").query).get("token", [])), None)
    except ValueError:
        return None
