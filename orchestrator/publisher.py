"""The publisher: sends the events of the outbox, in every worker process.

A crash between the publish and its commit sends an event again, with the same id. The rows stay locked meanwhile, so
another process takes the next ones. The order is that of the outbox as a rule, and not promised.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import suppress

import psycopg
from kombu import Producer
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.lanes import body
from orchestrator.lanes.exchanges import CLOUD_EVENT, EVENTS
from orchestrator.store import outbox
from orchestrator.store.database import told
from orchestrator.store.outbox import Unsent
from orchestrator.system import System

BATCH = 100  # events a round
IDLE = 1.0  # seconds between two looks when nobody notifies; also how soon a broken connection is tried again
FORGET = 1000  # sent events that a look deletes at most
WAIT = 5.0  # seconds for a connection of the pool, and for the broker to confirm an event
ROUND = 20.0  # seconds after which a round takes up no other event: its transaction may not last as long as they do
NOTIFY = text("SELECT pg_notify(:channel, '')")

log = logging.getLogger(__name__)


def publish(system: System) -> int:
    """Publish one round of the outbox. Returns how many events; go round again while it is not zero.

    Raises what the broker's client raises once those before have been recorded; the refused event is put off.
    """
    with system.database.transaction() as connection:
        unsent = outbox.take(connection, BATCH)
        sent, error = _send_all(system, unsent) if unsent else (0, None)
        if sent:
            outbox.sent(connection, [one.key for one in unsent[:sent]])
        if error is not None:
            outbox.refused(connection, unsent[sent].key, body.described(error))
    if error is not None:
        raise error
    return sent


def _send_all(system: System, events: list[Unsent]) -> tuple[int, Exception | None]:
    """How many the broker has taken, and why not the next."""
    sent, until = 0, time.monotonic() + ROUND
    try:
        with system.app.producer_pool.acquire(block=True, timeout=WAIT) as producer:
            for event in events:
                _send(producer, event)
                sent += 1
                if time.monotonic() > until:
                    break
    except Exception as error:  # noqa: BLE001  # whatever the broker's client raises
        return sent, error
    return sent, None


def _send(producer: Producer, event: Unsent) -> None:
    """Confirmed where the broker can. An exchange that nobody listens to takes it, too: that is what one is."""
    content = json.dumps(event.event, ensure_ascii=False)
    producer.publish(
        content, exchange=EVENTS, routing_key=event.topic, declare=[EVENTS], content_type=CLOUD_EVENT,
        content_encoding="utf-8", delivery_mode=2, message_id=event.key, retry=False, confirm_timeout=WAIT,
    )  # fmt: skip


class Publisher:
    """A thread that waits for notifications, and for what will be due."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        with suppress(psycopg.Error, SQLAlchemyError), self._system.database.transaction() as connection:
            connection.execute(NOTIFY, {"channel": outbox.CHANNEL})  # wakes it; else it wakes by itself after IDLE
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except (psycopg.Error, SQLAlchemyError) as error:
                log.warning("the publisher has lost the database and tries again: %s", told(error))
                self._stop.wait(IDLE)

    def _listen(self) -> None:
        with self._system.database.listen(outbox.CHANNEL) as connection:
            while not self._stop.is_set():
                for _ in connection.notifies(timeout=self._rounds(), stop_after=1):
                    pass

    def _rounds(self) -> float:
        """Publish until there is nothing left; returns the seconds until something may be due."""
        try:
            while publish(self._system) and not self._stop.is_set():
                pass
        except (psycopg.Error, SQLAlchemyError):
            raise
        except Exception as error:  # noqa: BLE001  # whatever the broker's client raises: the event was put off
            log.warning("the broker did not take an event; trying again: %s", error)
        with self._system.database.transaction() as connection:
            outbox.forget(connection, FORGET)
            next_due = outbox.seconds_to_next(connection)
        return IDLE if next_due is None else max(0.05, min(IDLE, next_due))
