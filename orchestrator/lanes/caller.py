"""The one place that calls service lanes, each over its transport."""

from __future__ import annotations

import os
from threading import Lock
from typing import assert_never

from celery import Celery

from orchestrator.errors import BadRequest, TooLarge
from orchestrator.lane import Call, Lane, Reply
from orchestrator.lanes import celery, event, http, local
from orchestrator.lanes.connections import Connections
from orchestrator.payloads import check_storable
from orchestrator.store.database import Database


class Caller:
    """Calls lanes, with one set of HTTP connections a process.

    `database` has the outbox of event lanes and `app` the broker of Celery lanes; `max_input` is in bytes.
    """

    def __init__(
        self, *, database: Database | None = None, app: Celery | None = None, max_input: int = 1_000_000
    ) -> None:
        self._database = database
        self._app = app
        self._max_input = max_input
        self._pid: int | None = None
        self._connections: Connections | None = None
        self._lock = Lock()

    def call(self, lane: Lane, call: Call) -> Reply:
        """One attempt. Never raises for what a lane does, nor for an input that cannot be sent."""
        try:
            self._check(call)
        except (BadRequest, TooLarge) as error:
            return Reply(outcome="rejected", error=str(error), is_ours=True)
        match lane.transport:
            case "local":
                return local.call(lane, call)
            case "http":
                return http.call(self._http(), lane, call)
            case "celery":
                assert self._app is not None, "composed with the Celery app"
                return celery.call(self._app, lane, call)
            case "event":
                assert self._database is not None, "composed with the database"
                return event.call(self._database, lane, call)
            case _:
                assert_never(lane.transport)

    def ask(self, lane: Lane, call: Call) -> Reply:
        """What became of the call's key; `not_sent` means that it never arrived."""
        if lane.transport == "http":
            return http.ask(self._http(), lane, call)
        return Reply(
            outcome="uncertain", may_retry=False, asked=True, error=f"lane `{lane.name}` cannot be asked for a key"
        )

    def close(self) -> None:
        """Close idle connections; the next call opens new ones."""
        if self._connections is not None and self._pid == os.getpid():
            self._connections.close()

    def _check(self, call: Call) -> None:
        """An input may have grown from small parts. The payload was checked when it came, and is the default input."""
        if call.input is not call.payload:
            check_storable(call.input, f"the input of {call.step}", self._max_input)

    def _http(self) -> Connections:
        """A forked child must not share its parent's sockets, so it begins with none.

        Made by one thread: each of several that begin at once would open connections that nobody closes.
        """
        with self._lock:
            if self._connections is None or self._pid != os.getpid():
                self._connections, self._pid = Connections(), os.getpid()
            return self._connections
