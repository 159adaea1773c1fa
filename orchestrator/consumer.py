"""The Celery consumer of a worker: what it does beyond Celery's own when a broker comes back, and when it is to stop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from celery.bootsteps import RUN
from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer

TRIES = 100  # to read what other threads change
SOONEST, LONGEST = 0.5, 2.0  # seconds between two tries to reach a broker that is away


class Deaf(ConnectionError):
    """The connection stands, and nothing comes by it."""


class Lost(ConnectionError):
    """The connection has ended, and nobody was told."""


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery ships no types
    """`when_stopping` is called once it has been told to stop, by a signal or otherwise."""

    when_stopping: Callable[[], None] = staticmethod(lambda: None)
    hearing: object | None = None  # another one for each connection by which messages come; none while it connects

    def on_ready(self) -> None:
        self.hearing = object()
        super().on_ready()

    def on_close(self) -> None:
        self.hearing = None
        for _ in range(TRIES):
            with suppress(RuntimeError):  # it reads sets of requests while the pool's threads take them off
                super().on_close()
                return
        super().on_close()

    def register_with_event_loop(self, hub: Any) -> None:
        super().register_with_event_loop(hub)
        hub.on_tick.add(self._notice)

    def _notice(self) -> None:
        """Each time before the event loop waits. Celery drains a new connection for a moment and swallows whatever that
        raises, its end included; a socket that was closed then has no event to tell of any more."""
        if self.blueprint.state == RUN and self.connection and not self.connection.connected:
            raise Lost(Lost.__doc__)

    def ensure_connected(self, conn: Any) -> Any:
        """Celery's own waits for longer with every try, up to half a minute: so long would a broker be back in vain."""
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=SOONEST, interval_step=SOONEST, interval_max=LONGEST
        )
        return super().ensure_connected(conn)

    def stop(self) -> None:
        """Give the broker back all that it has sent us, at once: what was not begun others may begin. Whoever gets what
        is under way here finds nothing to claim, so the calls need no connection to be recorded, and no acknowledgement.

        Celery's own keeps the connection until the last call has ended, and what was not begun with it.
        """
        self.when_stopping()
        for request in _under_way():
            request.acknowledged = True
        super().stop()
        self.shutdown()

    def wake(self) -> None:
        """Let the event loop look whether it should stop. A signal does not: it only interrupts the wait for the broker,
        which Python then takes up again, for up to ten seconds. To be called by another thread than the main one."""
        self.call_soon(_nothing)

    def begin_anew(self) -> None:
        """Close the connection, and consume by another. May be called by any thread; its own main loop does it, unless it
        has another by then."""
        self.call_soon(partial(self._end, self.hearing))

    def _end(self, hearing: object) -> None:
        if self.hearing is hearing:
            raise Deaf(Deaf.__doc__)

    @property
    def is_full(self) -> bool:
        """It has taken as many messages as it may: the others wait for room, and not because it is deaf."""
        limit = self.qos.value if self.qos else 0
        return bool(limit) and len(state.reserved_requests) >= limit


def _under_way() -> list[Any]:
    """All requests. The pool's threads take them off their sets meanwhile, and such a set cannot be read then."""
    while True:
        with suppress(RuntimeError):
            return [*state.reserved_requests, *state.active_requests]


def _nothing() -> None:
    pass
