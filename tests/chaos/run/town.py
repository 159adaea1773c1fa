"""Whoever listens on the bus: hears the run's events, and answers those that ask by landed events, one to five times each.

The broker of a run keeps nothing, so that events and answers are lost as well: the workflow has a deadline for that.
"""

from __future__ import annotations

import heapq
import json
import os
import secrets
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from kombu import Connection, Consumer, Message, Queue

from orchestrator.lanes.exchanges import EVENTS, LANDED_EVENTS, arguments
from tests.chaos.run.arena import Arena, seeded
from tests.chaos.run.decider import REJECTED, SILENT

MOST = 5  # times that an answer is sent
SOON, LATE = 1.5, 4.5  # seconds within which it is sent as a rule; and once in a while: the workflow waits for 4
LOOK = 0.1
BIND_EVERY = 2.0  # seconds: a broker that was wiped has forgotten who listens, and says nothing
AGAIN = 0.5  # seconds before a broker that is away is tried again
SILENT_FOR = 5.0  # seconds that a broker may say nothing to who connects
ANSWER = "answer"  # its kind, among the messages that are counted


class Town:
    def __init__(self, arena: Arena) -> None:
        self.heard: Counter[str] = Counter()  # by the event's id
        self._url, self._chance = arena.settings.broker_url or "", seeded(arena.options, "town")
        self._file = os.open(arena.copies, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._planned: list[tuple[float, int, str, str]] = []
        self._queue = Queue("town", EVENTS, routing_key="chaos.#", queue_arguments=arguments(self._url))
        self.is_listening = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="town")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except Exception:  # noqa: BLE001  # whatever the broker's client raises: it is away
                self._stop.wait(AGAIN)

    def _listen(self) -> None:
        self._bind()
        bound = time.monotonic()
        with (
            Connection(
                self._url, connect_timeout=SILENT_FOR, transport_options={"socket_timeout": SILENT_FOR}
            ) as connection,
            Consumer(connection, [self._queue], on_message=self._hear, no_ack=True),
        ):
            self.is_listening = True
            while not self._stop.is_set():
                with suppress(socket.timeout):
                    connection.drain_events(timeout=LOOK)
                self._answer(connection)
                if time.monotonic() - bound > BIND_EVERY:
                    self._bind()
                    bound = time.monotonic()

    def _bind(self) -> None:
        """On a connection of its own: a kept one believes that it is bound."""
        with Connection(self._url, connect_timeout=SILENT_FOR) as connection:
            self._queue(connection.default_channel).declare()

    def _hear(self, message: Message) -> None:
        content = message.body
        event = json.loads(content if isinstance(content, str) else bytes(content))
        self.heard[event["id"]] += 1
        if self.heard[event["id"]] == 1 and "callbackUrl" in event["data"] and event["type"].endswith(".ask"):
            self._plan(event["data"])

    def _plan(self, asked: dict[str, Any]) -> None:
        chance = self._chance
        if chance.random() < SILENT:
            return
        name, content = secrets.token_hex(8), answer(asked, "rejected" if chance.random() < REJECTED else "approved")
        after = chance.choice([chance.uniform(0, SOON), chance.uniform(0, SOON), chance.uniform(SOON, LATE)])
        for _ in range(chance.randint(1, MOST)):
            at = time.monotonic() + after + chance.choice([0.0, chance.uniform(0, 0.5)])
            heapq.heappush(self._planned, (at, chance.getrandbits(64), name, content))

    def _answer(self, connection: Connection) -> None:
        """What is due. What the broker does not take is lost, as any of its messages may be."""
        while self._planned and self._planned[0][0] <= time.monotonic():
            _, _, name, content = heapq.heappop(self._planned)
            connection.Producer().publish(
                content, exchange=LANDED_EVENTS, declare=[LANDED_EVENTS], routing_key="chaos.answer", retry=False,
                content_type="application/cloudevents+json", content_encoding="utf-8",
            )  # fmt: skip
            os.write(self._file, f"{ANSWER} {name}\n".encode())


def answer(asked: dict[str, Any], decision: str) -> str:
    """As a CloudEvent."""
    data = {"trace": asked["trace"], "step": asked["step"], "callbackUrl": asked["callbackUrl"], "decision": decision}
    return json.dumps({
        "specversion": "1.0", "id": secrets.token_hex(8), "source": "/town", "type": "chaos.answer", "data": data,
    })  # fmt: skip
