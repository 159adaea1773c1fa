"""`python -m tests.chaos.run.entry worker`: the orchestrator's command line, in a process that was tampered with.

CHAOS_CLOCK: seconds by which this process' clock is off. CHAOS_COPIES=N: it sends every message one to N times, out of
order, and adds a line with its kind and name to CHAOS_COPIES_FILE for each time the broker took it. CHAOS_SEED seeds both.
"""

from __future__ import annotations

import datetime as datetime_module
import faulthandler
import heapq
import os
import random
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

HINTS = ("leg", "compensate", "sweep", "pulse")
LATE = 0.4  # seconds that a copy, or the only one, is held back at most
STRAIGHT = 0.6  # share of the hints whose first copy is sent at once, as it would be without us
OURS = "orchestrator."  # what the names of our tasks begin with, and of our exchanges


@dataclass(frozen=True, kw_only=True)
class Message:
    kind: str
    name: str
    connect: Callable[[], Any]
    publish: Callable[[Any], object]  # by a producer that is given


def shift_clock(seconds: float) -> None:
    """Before anything else is imported: `time.time` and what `datetime` says is now. Monotonic clocks are left alone."""
    real = time.time
    original: Any = datetime_module.datetime

    class Meta(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, original)

    class Shifted(original, metaclass=Meta):  # type: ignore[misc]
        @classmethod
        def now(cls, tz: datetime_module.tzinfo | None = None) -> Any:
            return original.now(tz) + datetime_module.timedelta(seconds=seconds)

        @classmethod
        def utcnow(cls) -> Any:
            return original.now(datetime_module.UTC).replace(tzinfo=None) + datetime_module.timedelta(seconds=seconds)

        @classmethod
        def today(cls) -> Any:
            return cls.now()

    time.time = lambda: real() + seconds
    datetime_module.datetime = Shifted  # type: ignore[misc]


class Copier:
    """Sends messages later, from a thread and over a connection of its own; what it holds is lost with the process."""

    def __init__(self, most: int, file: str, seed: str) -> None:
        self._most, self._random = most, random.Random(seed)
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._held: list[tuple[float, int, Message]] = []
        self._wake = threading.Condition()
        self._count = 0
        threading.Thread(target=self._run, daemon=True, name="copier").start()

    def hold(self, message: Message) -> bool:
        """Plan its copies. Returns whether the first of them is to be sent at once, by whoever asks: always where it is
        more than a hint, for who publishes an event believes that the broker has it."""
        copies = self._random.randint(1, self._most)
        is_straight = message.kind not in HINTS or self._random.random() < STRAIGHT
        with self._wake:
            for _ in range(copies - is_straight):
                self._count += 1
                heapq.heappush(self._held, (time.monotonic() + self._random.uniform(0, LATE), self._count, message))
            self._wake.notify()
        return is_straight

    def sent(self, message: Message) -> None:
        os.write(self._file, f"{message.kind} {message.name}\n".encode())

    def _run(self) -> None:
        while True:
            try:
                self._send_all()
            except Exception as error:  # noqa: BLE001  # the broker is away: the copy in hand is lost
                print(f"a copy was lost: {error}", file=sys.stderr)

    def _send_all(self) -> None:
        first = self._next()
        with first.connect() as connection:
            producer = connection.Producer()
            message = first
            while True:
                message.publish(producer)
                self.sent(message)
                message = self._next()

    def _next(self) -> Message:
        with self._wake:
            while not self._held or self._held[0][0] > time.monotonic():
                self._wake.wait(0.05)
            return heapq.heappop(self._held)[2]


def kind_of(options: Mapping[str, Any]) -> str | None:
    """By the task that a message names, or, for an event, the exchange; none: it is something of Celery's own."""
    task, exchange = (options.get("headers") or {}).get("task"), options.get("exchange")
    name = task or getattr(exchange, "name", exchange) or ""
    return name.removeprefix(OURS) if task or name.startswith(OURS) else None


def copy_messages(copier: Copier) -> None:
    """Between Celery and kombu: whoever publishes in this process, dispatcher, chain or chord, beat, pulse, publisher."""
    from kombu import Connection, Producer

    producer: Any = Producer
    publish: Any = producer.publish

    def tampered(self: Any, body: Any, *args: Any, **options: Any) -> Any:
        kind = kind_of(options)
        if kind is None:
            return publish(self, body, *args, **options)
        url, its_options = self.connection.as_uri(include_password=True), self.connection.transport_options
        message = Message(
            kind=kind,
            name=secrets.token_hex(8),
            connect=lambda: Connection(url, transport_options=its_options),
            publish=lambda own: publish(own, body, *args, **options),
        )
        if not copier.hold(message):
            return None
        answer = publish(self, body, *args, **options)
        copier.sent(message)
        return answer

    producer.publish = tampered


def tamper() -> None:
    """With this process, as its environment says."""
    faulthandler.register(signal.SIGUSR1)  # where every thread stands, for who wants to know why one stands still
    if shift := float(os.environ.get("CHAOS_CLOCK", "0")):
        shift_clock(shift)
    if (most := int(os.environ.get("CHAOS_COPIES", "1"))) > 1:
        copy_messages(Copier(most, os.environ["CHAOS_COPIES_FILE"], os.environ["CHAOS_SEED"]))


def main() -> None:
    tamper()

    from orchestrator.cli import main as orchestrator

    orchestrator()


if __name__ == "__main__":
    main()
