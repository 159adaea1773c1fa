"""The thread that takes landed CloudEvents from the broker, in every worker process.

An event is acknowledged once it is settled or known to be of no use, so that none is lost with its process, and none
comes round for ever. It waits out a database that is away, and reconnects to a broker that was.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import suppress

from kombu import Connection, Consumer, Message

from orchestrator import dead_letters, landed
from orchestrator.lanes import body
from orchestrator.lanes.exchanges import LANDED_EVENTS_QUEUE, answers_queue, is_amqp, landed_events_queue
from orchestrator.system import System

PREFETCH = 10  # events that a process takes and has not settled yet
LOOK = 0.5  # seconds between two looks whether to stop
RETRY = 1.0  # seconds before a broker that is away is tried again
HEARTBEAT = 30  # seconds; RabbitMQ closes a connection that is silent for twice as long
BIND_EVERY = 10.0  # seconds between two bindings: a broker that was wiped has forgotten them and says nothing

# A consumer that dies leaves its events in a table that all of Redis' consumers share, and whichever comes by puts them
# back, by the bindings of an exchange that it may not know. So ours have a table of their own.
OWN_TABLE = {
    "unacked_key": "landed-unacked", "unacked_index_key": "landed-unacked-index",
    "unacked_mutex_key": "landed-unacked-mutex",
}  # fmt: skip

log = logging.getLogger(__name__)


def take(system: System, content: bytes) -> bool:
    """Settle what one landed event decides. Returns whether it stands; raises landed.Stopped."""
    try:
        answer = landed.read(content)
    except landed.Unfit as error:
        dead_letters.keep(system, "unfit_event", queue=LANDED_EVENTS_QUEUE, error=str(error), content=content)
        return False
    return landed.land(system, answer, queue=LANDED_EVENTS_QUEUE, content=content)


class LandedEvents:
    """Consumes the queue of landed events until it is told to stop."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._url = system.settings.broker_url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="landed-events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._is_stopping():
            try:
                self._consume()
            except landed.Stopped:
                return  # unacknowledged: the broker gives it to another process
            except Exception as error:  # noqa: BLE001  # whatever the broker's client raises
                log.warning("landed events wait for the broker: %s", body.described(error))
                self._stop.wait(RETRY)

    def _is_stopping(self) -> bool:
        return self._stop.is_set() or self._system.stopping.is_set()

    def _consume(self) -> None:
        self._bind()
        with self._connection() as connection:
            queue = landed_events_queue(self._url)
            with Consumer(connection, [queue], on_message=self._settle, prefetch_count=PREFETCH):
                bound = time.monotonic()
                while not self._is_stopping():
                    if time.monotonic() - bound > BIND_EVERY:
                        self._bind()
                        bound = time.monotonic()
                    _drain(connection)

    def _connection(self) -> Connection:
        app = self._system.app
        own = {"transport_options": {**app.conf.broker_transport_options, **OWN_TABLE}}
        connection: Connection = app.connection_for_read(**({"heartbeat": HEARTBEAT} if is_amqp(self._url) else own))
        return connection

    def _bind(self) -> None:
        """On a connection of its own, for a kept one believes that its bindings are there."""
        with self._system.app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=RETRY)
            for queue in (answers_queue(self._url), landed_events_queue(self._url)):
                queue(connection.default_channel).declare()

    def _settle(self, message: Message) -> None:
        """Whatever is wrong with one, it is done with: unacknowledged it would come again."""
        content = message.body
        take(self._system, content.encode("utf-8", "replace") if isinstance(content, str) else bytes(content))
        message.ack()


def _drain(connection: Connection) -> None:
    with suppress(socket.timeout):
        connection.drain_events(timeout=LOOK)
        return
    connection.heartbeat_check()
