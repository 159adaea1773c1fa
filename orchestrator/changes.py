"""Changes of instances as they happen, for those who wait: one listening connection a process, however many wait.

A transition notifies only while somebody has said that he listens (`watching`), for Postgres commits what notifies one
after another. Whoever waits is also woken when a change may have been missed: he looks again, and is none the worse.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from orchestrator.errors import Busy
from orchestrator.store.database import Database
from orchestrator.store.statements import CHANGED_CHANNEL

LIMIT = 40  # who may wait at once: each holds a thread of the web server
SHARE = 0.75  # of them, for one tenant: the rest is for the others
WATCHED = 60.0  # seconds for which transitions notify after they were asked to
RENEWED = 20.0  # seconds after which they are asked again
LINGER = 30.0  # seconds without anybody before the connection is given back
SETTLED = 1.0  # seconds by which a transition is over that began before it could know of us
PULSE = 1.0  # seconds between two looks at who is there; also how soon a broken connection is tried again

# Not `clock_now()`: this is about processes, and no business waits for it.
WATCH = """
INSERT INTO watching (process, until) VALUES (%s, clock_timestamp() + make_interval(secs => %s))
ON CONFLICT (process) DO UPDATE SET until = excluded.until
"""
LEAVE = "DELETE FROM watching WHERE process = %s OR until < clock_timestamp()"

Listening = psycopg.Connection[tuple[object, ...]]

log = logging.getLogger(__name__)


class Subscription:
    """What one of those who wait holds."""

    def __init__(self, tenant: str | None, instance_id: str | None) -> None:
        self.tenant, self._instance = tenant, instance_id
        self._changed = threading.Event()
        self.closed = False  # the process stops: nothing more will be told

    def wait(self, timeout: float) -> bool:
        """Until something may have changed since the last call, at most `timeout` seconds; whether it may have."""
        if self.closed:
            return False
        changed = self._changed.wait(timeout)
        self._changed.clear()
        return changed and not self.closed

    def wants(self, tenant: str, ids: list[str]) -> bool:
        return self.tenant in (None, tenant) and (self._instance is None or self._instance in ids)

    def tell(self) -> None:
        self._changed.set()

    def close(self) -> None:
        self.closed = True
        self._changed.set()


class Changes:
    """The changes of one database. Make it after a fork; its thread begins with the first who subscribes."""

    def __init__(self, database: Database, *, stopping: threading.Event | None = None, limit: int = LIMIT) -> None:
        self._database = database
        self._stopping = stopping or threading.Event()
        self._limit = limit
        self._lock = threading.Lock()
        self._subscribed: set[Subscription] = set()
        self._thread: threading.Thread | None = None
        self._alone_since = 0.0

    @contextmanager
    def subscribe(self, tenant: str | None, instance_id: str | None) -> Iterator[Subscription]:
        """None: of all tenants, of all instances. Subscribe, then look, then wait. Raises Busy when too many do."""
        one = Subscription(tenant, instance_id)
        self._add(one)
        try:
            yield one
        finally:
            with self._lock:
                self._subscribed.discard(one)
                self._alone_since = time.monotonic()

    def close(self) -> None:
        """Send everybody home."""
        self._stopping.set()
        with self._lock:
            thread = self._thread
        self._dismiss()
        if thread is not None:
            thread.join(timeout=2 * PULSE)

    def _add(self, one: Subscription) -> None:
        with self._lock:
            if not self._has_room(one.tenant):
                raise Busy("too many requests wait for changes already; ask again later, or without waiting")
            self._subscribed.add(one)
            if self._stopping.is_set():
                one.close()
            elif self._thread is None:
                self._thread = threading.Thread(target=self._run, name="changes", daemon=True)
                self._thread.start()

    def _has_room(self, tenant: str | None) -> bool:
        own = sum(other.tenant == tenant for other in self._subscribed)
        return len(self._subscribed) < self._limit and own < max(1, self._limit * SHARE)

    # -- the thread

    def _run(self) -> None:
        while self._is_wanted():
            try:
                self._listen()
            except psycopg.Error as error:
                log.warning("changes cannot be heard of and are listened for again: %s", error)
                self._stopping.wait(PULSE)
            except Exception:  # as what somebody else says on the channel: without the thread nobody is woken any more
                log.exception("changes cannot be heard of and are listened for again")
                self._stopping.wait(PULSE)
        self._dismiss()

    def _is_wanted(self) -> bool:
        """Whether to go on. Who subscribes after a no begins a new thread."""
        with self._lock:
            alone = not self._subscribed and time.monotonic() - self._alone_since > LINGER
            if (alone or self._stopping.is_set()) and self._thread is threading.current_thread():
                self._thread = None
            return self._thread is threading.current_thread()

    def _listen(self) -> None:
        """On one connection, for as long as it lasts."""
        name = secrets.token_hex(8)  # another thread may begin before this one has left
        with self._database.listen(CHANGED_CHANNEL) as connection:
            asked = self._ask(connection, name)
            settled = asked + SETTLED
            while self._is_wanted():
                for notified in connection.notifies(timeout=PULSE, stop_after=1):
                    self._tell(notified.payload)
                now = time.monotonic()
                if now > settled:
                    self._tell("")
                    settled = float("inf")
                if now - asked > RENEWED:
                    asked = self._ask(connection, name)
            connection.execute(LEAVE, [name])

    def _ask(self, connection: Listening, name: str) -> float:
        """Let transitions notify us. What happened before may not have been told."""
        connection.execute(WATCH, [name, WATCHED])
        self._tell("")
        return time.monotonic()

    def _tell(self, payload: str) -> None:
        """`payload`: {tenant: [instance id]}; nothing: anything may have changed."""
        changed: dict[str, list[str]] | None = json.loads(payload) if payload else None
        with self._lock:
            subscribed = list(self._subscribed)
        for one in subscribed:
            if changed is None or any(one.wants(tenant, ids) for tenant, ids in changed.items()):
                one.tell()

    def _dismiss(self) -> None:
        if self._stopping.is_set():
            with self._lock:
                for one in self._subscribed:
                    one.close()
