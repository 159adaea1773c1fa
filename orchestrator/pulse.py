"""A worker's pulse: it sends itself a message every few seconds, by the broker, and has to hear it.

Celery's consumer can be connected and deaf: after a broker came back, when its registration was lost, when its event
loop forgot a socket. Nothing says so; messages wait, and the worker is idle. Whoever does not hear its own pulse although
the broker took it consumes by a new connection; and ends, so that it is started again, when that does not help. Before it
does, its calls end: they need no broker. So does a consumer that never comes back although the broker takes messages; who
connects in time is given the time anew.

The pulse goes through the very consumer that takes the legs' messages, and is answered in its event loop: it needs none
of the threads, but room among the messages that the worker may hold. Without room nobody is deaf, and none is sent.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from kombu import Queue

from orchestrator.consumer import Consumer
from orchestrator.stopping import resign
from orchestrator.system import System

PULSE = "orchestrator.pulse"  # its name as a Celery task
DEAF = 69  # the exit code of who stays deaf: EX_UNAVAILABLE
BEATS = 5  # pulses that must have gone unheard, so that one that was wiped away proves nothing
LOOKS = 2  # between two of them
CHANGES = 6  # of the connection, its loss counted too, in which nothing was heard, until they are no excuse
CONFIRMED_WITHIN = 5.0  # seconds for the broker to take one
FORGOTTEN = 60_000  # milliseconds until the broker forgets the queue of a worker that has gone

Act: TypeAlias = Literal["wait", "say so", "begin anew", "give up"]

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Ear:
    """Decides what the silence means. Pure; `patience` is in seconds."""

    patience: float
    hearing: object | None = None  # what it listens by; none: it is not connected
    changes: int = 0  # of that, since something was heard
    silent: float = 0.0  # seconds in which something should have been heard
    renewed: int = 0  # times that a new connection was tried since something was heard

    def hear(self) -> None:
        self.silent, self.renewed, self.changes = 0.0, 0, 0

    def excuse(self) -> None:
        """The broker takes nothing, so nothing can come from it."""
        self.silent = 0.0

    def listen(self, seconds: float, *, by: object | None, is_full: bool) -> Act:
        """So much time has passed since the last look; never much more than a look's, or the process was stopped. It
        listens `by` a connection, and is given the time anew with each, unless they come and go and none is of use."""
        if by is not self.hearing:
            self.hearing, self.changes = by, self.changes + 1
            self.silent = 0.0 if self.changes <= CHANGES else self.silent
        self.silent += 0.0 if is_full else min(seconds, 2 * self.patience / (BEATS * LOOKS))
        if self.silent < self.patience:
            return "wait"
        self.silent, self.renewed = 0.0, self.renewed + 1
        if self.renewed > 1:
            return "give up"
        return "say so" if by is None else "begin anew"


class Pulse:
    """The thread that sends, and the strategy by which Celery's consumer hears."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._ear = Ear(patience=system.settings.deaf_after)
        self._heard = threading.Event()
        self._consumer: Consumer | None = None
        # Through the default exchange, as all our queues; forgotten by the broker when nobody uses it any more.
        arguments = {"x-expires": FORGOTTEN, "x-message-ttl": FORGOTTEN}
        name = f"pulse.{system.worker}"
        self._queue = Queue(name, routing_key=name, queue_arguments=arguments)
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    @property
    def is_on(self) -> bool:
        return self._system.settings.deaf_after > 0

    def prepare(self) -> None:
        """Before the worker connects: it will consume the pulse's queue as well."""
        if self.is_on:
            self._system.app.amqp.queues.select_add(self._queue)

    def start(self, consumer: Consumer) -> None:
        """Once the worker consumes."""
        self._consumer = consumer
        if self.is_on:
            self._thread.start()

    def strategy(self, _task: Any, _app: Any, consumer: Consumer, **_: Any) -> Callable[..., None]:
        """What Celery asks a task for: how its messages are received. Ours goes no further than the event loop."""

        def hear(_message: Any, _body: Any, acknowledge: Callable[..., None], *_: Any) -> None:
            self._heard.set()
            acknowledge(log, consumer.connection_errors)

        return hear

    def _run(self) -> None:
        pause = self._ear.patience / (BEATS * LOOKS)
        looked, looks = time.monotonic(), 0
        while not self._system.stopping.wait(pause):
            if looks % LOOKS == 0:
                self._send()
            looks += 1
            now = time.monotonic()
            self._look(now - looked)
            looked = now

    def _send(self) -> None:
        assert self._consumer is not None, "started with one"
        if self._consumer.is_full:
            return
        try:
            with self._system.app.producer_pool.acquire(block=True, timeout=CONFIRMED_WITHIN) as producer:
                producer.publish(
                    [[], {}, {}], exchange="", routing_key=self._queue.name, declare=[self._queue], delivery_mode=1, retry=False,
                    headers={"lang": "py", "task": PULSE, "id": str(uuid.uuid4())}, confirm_timeout=CONFIRMED_WITHIN,
                )  # fmt: skip
        except Exception as error:  # noqa: BLE001  # whatever the broker's client raises
            log.info("the broker takes no pulse: %s", error)
            self._ear.excuse()

    def _look(self, seconds: float) -> None:
        assert self._consumer is not None, "started with one"
        if self._heard.is_set():
            self._heard.clear()
            self._ear.hear()
            return
        match self._ear.listen(seconds, by=self._consumer.hearing, is_full=self._consumer.is_full):
            case "say so":
                log.warning("the broker takes messages, and this worker is still not connected to it")
            case "begin anew":
                log.warning("this worker is connected to the broker and hears nothing from it: it consumes anew")
                self._consumer.begin_anew()
            case "give up":
                log.error("this worker still hears nothing from the broker: it ends, to be started again")
                resign(self._system, DEAF)
            case "wait":
                pass
