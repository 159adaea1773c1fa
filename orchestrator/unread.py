"""Answers of a protocol that this program does not read. They hold what is known nowhere else, so they go round until a
program comes by that reads them: by a queue beside, from which every worker brings some back each second. No thread waits
with one in its hands, however many there are, and none comes round without a pause.
"""

from __future__ import annotations

from typing import Any

from kombu import Message, Producer

from orchestrator import protocol
from orchestrator.lanes.exchanges import LANDED_QUEUE, unread_queue
from orchestrator.system import System

PAUSE = 1.0  # seconds between two times that a worker brings some back
AT_ONCE = 20  # that it brings back
WAIT = 5.0  # seconds for the broker to take one


def lay_by(system: System, task: str, args: Any, kwargs: Any, number: Any) -> None:
    """A copy, confirmed before the message is acknowledged: brokers give up one that is returned too often."""
    with system.app.producer_pool.acquire(block=True, timeout=WAIT) as producer:
        system.app.send_task(
            task, args, kwargs, queue=unread_queue(system.settings.broker_url), serializer="json", ignore_result=True,
            retry=False, add_to_parent=False, headers={protocol.HEADER: number}, producer=producer,
        )  # fmt: skip


def bring_back(system: System) -> int:
    """Put some of them at the end of the queue of answers. Returns how many."""
    with (
        system.app.producer_pool.acquire(block=True, timeout=WAIT) as producer,
        producer.connection.channel() as channel,
    ):
        queue = unread_queue(system.settings.broker_url)(channel)
        queue.declare()
        for count in range(AT_ONCE):
            message = queue.get()
            if message is None:
                return count
            _send_on(producer, message)
            message.ack()
    return AT_ONCE


def _send_on(producer: Producer, message: Message) -> None:
    """Straight into the queue: a broker that was wiped may have forgotten what is bound to the exchange."""
    producer.publish(
        message.body, exchange="", routing_key=LANDED_QUEUE, headers=message.headers, retry=False,
        content_type=message.content_type, content_encoding=message.content_encoding,
        **{name: message.properties[name] for name in ("correlation_id", "reply_to") if name in message.properties},
    )  # fmt: skip
