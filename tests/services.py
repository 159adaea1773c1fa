"""A service on loopback for HTTP lanes: it answers as a test tells it, and keeps a ledger of what it really did.

One server plays a lane of each idempotency kind; the lane is the first part of the path. Like a real one it honours
the kind that it was registered with: `keyed` does a key once and answers a repeat from the ledger; `asked` tells what it
has done, but does again what it is sent again, and so does `blind`.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, text

from orchestrator import attempts, bootstrap, callbacks, legs
from orchestrator.attempts import Attempt
from orchestrator.callbacks import Decided
from orchestrator.instance import Instance
from orchestrator.settings import Settings
from orchestrator.states import Phase
from orchestrator.store import transitions
from orchestrator.store.database import plain_url
from orchestrator.system import System
from tests import flights, servers
from tests.clock import Clock

T = TypeVar("T")
VERSION = text("SELECT version_id FROM instance WHERE id = CAST(:id AS uuid)")
HOLD = "SELECT 1 FROM instance WHERE id = CAST(:id AS uuid) FOR UPDATE"
WAITERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
CLEAR = text(
    "TRUNCATE definition_version, definition_refused, instance, lane CASCADE; UPDATE test_clock SET ahead = '0'"
)
HELD = 20.0  # seconds after which a held answer is given all the same; nothing is timed by it
LEASE = 5.0  # seconds

LANES = """
services:
  keyed: {{transport: http, url: "{url}/keyed", idempotency: key, backup: keyed.deputy, timeout: 30s, breaker: none}}
  brief: {{transport: http, url: "{url}/keyed", idempotency: key, keyTtl: 60s, timeout: 30s, breaker: none}}
  asked: {{transport: http, url: "{url}/asked", idempotency: query, timeout: 30s, breaker: none}}
  safe: {{transport: http, url: "{url}/safe", idempotency: safe, timeout: 30s, breaker: none}}
  blind: {{transport: http, url: "{url}/blind", idempotency: none, timeout: 30s, breaker: none}}
  far: {{transport: http, url: "{url}/keyed", idempotency: key, timeout: 30s, breaker: none, queue: far}}
"""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One request."""

    method: str
    lane: str
    operation: str
    key: str
    headers: Message
    content: bytes

    @property
    def attempt(self) -> int:
        return int(self.headers["X-Attempt"])

    @property
    def body(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.content)
        return told

    @property
    def step(self) -> str:
        return self.key.split(":")[1]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a request is answered with. `effect`: whether it is done; none: where the status says so."""

    status: int = 200
    reply: Any = field(default_factory=dict)
    content: bytes | None = None  # in the place of the reply, which is what a repeat is answered with
    headers: Mapping[str, str] = field(default_factory=dict)
    effect: bool | None = None
    lost: bool = False  # the connection ends without an answer
    reset: bool = False  # it is reset without an answer, as by a machine that has gone
    until: threading.Event | None = None  # it is given once this is set
    at_once: bool = False  # it is done before that, not after
    then: Callable[[Seen], None] | None = None  # done while the caller waits

    @property
    def is_done(self) -> bool:
        return self.status < 300 if self.effect is None else self.effect


DONE = Answer()
LATER = Answer(status=202)
REJECTED = Answer(status=422, reply={"detail": "not like this"})
REFUSED = Answer(status=503)
BROKEN = Answer(status=500, effect=False)
LOST_BEFORE = Answer(lost=True, effect=False)
LOST_AFTER = Answer(lost=True, effect=True)
RESET_BEFORE = Answer(reset=True, effect=False)
RESET_AFTER = Answer(reset=True, effect=True, reply={"result": 42})


class Service:
    """What a test tells and asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.reset()

    def reset(self) -> None:
        self.deaf = False  # to questions
        self.seen: list[Seen] = []
        self.effects: list[str] = []  # keys, in the order in which their effects happened; nothing removes doubles
        self._replies: dict[str, Any] = {}
        self._told: dict[str, deque[Answer]] = defaultdict(deque)
        self._always: dict[str, Answer] = {}
        self._held: list[threading.Event] = []

    def tell(self, operation: str, *answers: Answer) -> None:
        """The next calls of an operation are answered with these, in turn; further ones are done."""
        self._told[operation].extend(answers)

    def always(self, operation: str, answer: Answer) -> None:
        self._always[operation] = answer

    def hold(self, operation: str, answer: Answer = DONE) -> threading.Event:
        """The next call of an operation is answered when the event that this returns is set."""
        event = threading.Event()
        self._held.append(event)
        self.tell(operation, replace(answer, until=event))
        return event

    def calls(self, operation: str, trace: str | None = None) -> list[Seen]:
        """The POSTs of an operation."""
        return [one for one in list(self.seen) if one.method == "POST" and one.operation == operation
                and (trace is None or one.key.startswith(trace))]  # fmt: skip

    def came(self, operation: str, times: int = 1) -> list[Seen]:
        """Wait until an operation was called so often."""
        return flights.until(
            lambda: found if len(found := self.calls(operation)) >= times else None, f"{times} calls of {operation}"
        )

    def done(self, trace: str) -> list[str]:
        """`step:g1:do` of an instance's effects, in order."""
        return [key.removeprefix(f"{trace}:") for key in list(self.effects) if key.startswith(trace)]

    def doubles(self) -> dict[str, int]:
        return {key: count for key, count in Counter(self.effects).items() if count > 1}

    # -- serving

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        for event in self._held:
            event.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, seen: Seen) -> Answer:
        if seen.method == "GET":
            return self._asked(seen)
        with self._lock:
            self.seen.append(seen)
            told = self._told[seen.operation]
            answer = told.popleft() if told else self._always.get(seen.operation, DONE)
        if answer.then is not None:
            answer.then(seen)
        performed = self._perform(seen, answer) if answer.at_once else None
        if answer.until is not None:
            answer.until.wait(HELD)
        return performed or self._perform(seen, answer)

    def _asked(self, seen: Seen) -> Answer:
        with self._lock:
            self.seen.append(seen)
            if self.deaf:
                return Answer(lost=True)
            known = seen.key in self._replies
            return Answer(reply=self._replies[seen.key]) if known else Answer(status=404)

    def _perform(self, seen: Seen, answer: Answer) -> Answer:
        with self._lock:
            is_repeat = seen.lane == "keyed" and seen.key in self._replies
            if is_repeat and answer.status == 200:
                return replace(answer, reply=self._replies[seen.key], content=None)
            if answer.is_done and not is_repeat:
                self.effects.append(seen.key)
                self._replies[seen.key] = answer.reply
        return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, service: Service) -> None:
        self.service = service
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        _, lane, operation = self.path.split("/")
        self._give(self._seen(lane, operation, self.headers["Idempotency-Key"]))

    def do_GET(self) -> None:
        _, lane, operation, key = self.path.split("/")
        self._give(self._seen(lane, operation, key.replace("%3A", ":")))

    def _seen(self, lane: str, operation: str, key: str) -> Seen:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return Seen(method=self.command, lane=lane, operation=operation, key=key, headers=self.headers, content=content)

    def _give(self, seen: Seen) -> None:
        service: Service = self.server.service  # type: ignore[attr-defined]  # it is ours
        answer = service.answer(seen)
        if answer.lost:
            self.close_connection = True
            return
        if answer.reset:
            self._reset()
            return
        content = json.dumps(answer.reply).encode() if answer.content is None else answer.content
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(content)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _reset(self) -> None:
        """Closed without lingering, a socket sends RST; http.server would say FIN first, so it is not asked."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def serving() -> Iterator[Service]:
    service = Service()
    service.start()
    try:
        yield service
    finally:
        service.stop()


@dataclass(frozen=True, kw_only=True, repr=False)
class Airport:
    """A composed system, the service that its lanes lead to, and the clock of its database."""

    system: System
    service: Service
    clock: Clock

    def clear(self) -> None:
        """As it was when it was new. Not while a worker runs."""
        self.service.reset()
        with self.system.database.transaction() as connection:
            connection.execute(CLEAR)
        self.system.watch.forget()
        with self.system.app.connection_for_write() as connection, connection.channel() as channel:
            for queue in self.system.app.amqp.queues.values():
                bound = queue(channel)
                bound.declare()
                bound.purge()

    def define(self, text: str) -> str:
        return flights.define(self.system, text)

    def start(self, workflow_id: str, payload: Mapping[str, Any] | None = None, **more: Any) -> str:
        return flights.start(self.system, workflow_id, payload or {}, **more)

    def fly(self, text: str, payload: Mapping[str, Any] | None = None) -> str:
        """Define and start."""
        return self.start(self.define(text), payload)

    def status(self, instance: str) -> dict[str, Any]:
        return flights.status(self.system, instance)

    def ended(self, instance: str) -> dict[str, Any]:
        return flights.ended(self.system, instance)

    def reached(self, instance: str, wanted: str) -> dict[str, Any]:
        return flights.reached(self.system, instance, wanted)

    def step(self, instance: str, step: str) -> dict[str, Any] | None:
        return next((one for one in self.status(instance)["steps"] if one["step"] == step), None)

    def run(self, instance: str, step: str, phase: Phase = "do") -> None:
        """What a worker does with a message: the leg that starts at `step`, in this thread."""
        with self.system.database.transaction() as connection:
            found = connection.execute(VERSION, {"id": instance}).scalar_one()
        if phase == "undo":
            legs.undo(self.system, [instance], version=found.hex, step=step)
        else:
            legs.run(self.system, [instance], version=found.hex, start=step, covered=frozenset())

    def change(self, instance: str, verb: Callable[[Instance], T], **more: Any) -> T | None:
        """One transition; none where the instance was skipped."""
        return transitions.transition(self.system.database, self.system.plans, [instance], verb, **more).get(instance)

    def claim(self, instance: str, step: str, phase: Phase = "do", worker: str = "somebody") -> Attempt | None:
        return self.change(
            instance, lambda one: attempts.claim(one, step, phase, worker=worker, lease=LEASE, limit=60.0)
        )

    def query(self, statement: str, **values: Any) -> list[Any]:
        with self.system.database.transaction() as connection:
            return list(connection.execute(text(statement), values).all())

    def token(self, operation: str, times: int = 1) -> str:
        """The callback token that the latest call of an operation carried."""
        url: str = self.service.came(operation, times)[-1].body["callbackUrl"]
        return url.partition("token=")[2]

    def decide(self, instance: str, step: str, *, token: str | None = None, **answer: Any) -> Decided:
        tenant = flights.TENANT if token is None else None
        return callbacks.decide(self.system, trace=instance, step=step, token=token, tenant=tenant, **answer)

    def order(self, use_case: Callable[..., str], instance: str, **more: Any) -> str:
        return use_case(self.system, tenant=flights.TENANT, instance_id=instance, **more)

    def step_is(self, instance: str, step: str, *wanted: str) -> dict[str, Any]:
        """Wait until a step is in one of the states."""
        return flights.until(
            lambda: found if (found := self.step(instance, step)) and found["status"] in wanted else None,
            f"{step} of {instance} in {wanted}",
        )


@contextmanager
def composed(settings: Settings) -> Iterator[System]:
    system = bootstrap.compose(settings)
    try:
        yield system
    finally:
        system.close()


@contextmanager
def airport(postgres_server: str, template: str, places: servers.BrokerPlaces, folder: Path,
            registered: str = LANES, **changed: Any) -> Iterator[Airport]:  # fmt: skip
    """Without a worker. `registered`: the services file, where {url} is the service; `changed`: settings."""
    with (
        servers.database(postgres_server, template=template) as database_url,
        places.one() as broker_url,
        serving() as service,
    ):
        lanes = folder / "services.yaml"
        lanes.write_text(registered.format(url=service.url))
        clock = Clock(database_url)
        clock.install()
        given = {"auth": "local", "lease": LEASE, "sweep_every": 0.1, "republish_after": 1.0, "canary": 0.0, **changed}
        settings = Settings(database_url=database_url, broker_url=broker_url, services_file=str(lanes), **given)
        with composed(settings) as system:
            yield Airport(system=system, service=service, clock=clock)


def verbs(shown: Mapping[str, Any], step: str | None = None, phase: str = "do") -> list[str]:
    """The history of a step, or of the instance, as verbs."""
    return [one["verb"] for one in shown["history"] if one["step"] == step and (step is None or one["phase"] == phase)]


def order_of(shown: Mapping[str, Any], verb: str, phase: str = "do") -> list[str]:
    """The steps that a verb was done to, in order."""
    return [one["step"] for one in shown["history"] if one["verb"] == verb and one["phase"] == phase]


def states_of(shown: Mapping[str, Any]) -> dict[str, str]:
    return {one["step"]: one["status"] for one in shown["steps"]}


def is_gapless(shown: Mapping[str, Any]) -> bool:
    return [one["seq"] for one in shown["history"]] == list(range(1, len(shown["history"]) + 1))


def cut_off(system: System, connection: Connection) -> None:
    """What Postgres does with a transaction whose process was stopped in its midst."""
    pid = connection.execute(
        text("SELECT pg_backend_pid(), set_config('idle_in_transaction_session_timeout', '1', true)")
    )
    found = {"pid": pid.scalar_one()}
    with psycopg.connect(plain_url(system.database.url), autocommit=True) as other:
        gone = "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %(pid)s)"
        flights.until(lambda: other.execute(gone, found).fetchone(), "the end of the backend")


@contextmanager
def holding(airport: Airport, instance: str, statement: str = HOLD) -> Iterator[Callable[[int], None]]:
    """Hold an instance's lock until the end of the block; what is given waits until so many others wait for it, or for
    whoever waits for it. `statement` takes another lock."""
    with airport.system.database.transaction() as connection:
        connection.execute(text(statement), {"id": instance})

        def others(count: int) -> None:
            flights.until(lambda: airport.query(WAITERS)[0][0] >= count, f"{count} who wait for the lock")

        yield others
