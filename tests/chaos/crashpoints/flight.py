"""One flight in one thread of one process: all that the processes of an installation do, one after the other.

The same functions that the worker's threads and its pool call are called in a fixed order, with the messages that were
really published, until nothing moves; then time is moved to the next moment at which something is due. Where nothing
ever is due and nobody acts, an instance is lost: Stalled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from celery.worker.request import Request
from kombu.message import Message
from sqlalchemy import text

from orchestrator import children, completions, engine, retention
from orchestrator.dispatch import Dispatcher
from orchestrator.landed_events import LandedEvents
from orchestrator.lanes.exchanges import LANDED_EVENTS_QUEUE
from orchestrator.publisher import Publisher
from orchestrator.sweep import extend_leases, sweep
from orchestrator.system import System
from tests.chaos.crashpoints.others import Others
from tests.chaos.crashpoints.shapes import Shape
from tests.chaos.crashpoints.still_clock import StillClock

TENANT = "local"
TURNS = 400  # of everybody; no schedule has come near it
LOOKS = 3  # in vain, a second apart, as a timer looks for what a failed call has left
log = logging.getLogger(__name__)

FAMILY = "id IN (SELECT id FROM instance WHERE id = ANY(CAST(:ids AS uuid[])) OR root_id = ANY(CAST(:ids AS uuid[])))"
OPEN = text(f"""
SELECT (SELECT count(*) FROM instance WHERE {FAMILY} AND (ended_at IS NULL OR (parent_id IS NOT NULL AND NOT parent_told)
    OR (completion_url IS NOT NULL AND completion_life < life)))
  + (SELECT count(*) FROM outbox WHERE sent_at IS NULL)
""")
# The next moment at which time alone makes something due. What this does not name, nothing would ever wake.
NEXT = text("""
SELECT extract(epoch FROM min(at) - clock_now()) FROM (
  SELECT lease_until AS at FROM step WHERE state = 'RUNNING' AND lease_until IS NOT NULL
  UNION ALL SELECT due_at FROM step WHERE state = 'WAITING'
  UNION ALL SELECT ready_at FROM step WHERE state IN ('READY', 'RETRYING') AND published_at IS NULL
  UNION ALL SELECT published_at + make_interval(secs => :grace) FROM step WHERE state IN ('READY', 'RETRYING')
  UNION ALL SELECT lost_until FROM step WHERE state = 'UNKNOWN'
  UNION ALL SELECT budget_until FROM step WHERE deferred IS NOT NULL
  UNION ALL SELECT deadline_at FROM instance WHERE ended_at IS NULL AND outcome IS NULL
  UNION ALL SELECT sweep_after FROM instance
  UNION ALL SELECT completion_due_at FROM instance WHERE completion_life < life
  UNION ALL SELECT due_at FROM outbox WHERE sent_at IS NULL
  UNION ALL SELECT unnest(ARRAY[open_until, probe_until, next_at]) FROM lane) moments
WHERE at > clock_now()
""")
RUNS_HERE = text("SELECT count(*) FROM step WHERE worker = :worker AND state = 'RUNNING' AND lease_until > clock_now()")


class Stalled(Exception):
    """Nothing moves, nothing is due and nobody acts, and yet not all has ended."""


class Inline:
    """What a thread pool does, in the thread that asks: the order of things is the same every time."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], *given: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*given))
        return future

    def map(self, function: Callable[..., Any], *given: Sequence[Any]) -> Iterator[Any]:
        return iter([function(*one) for one in zip(*given, strict=True)])


@dataclass(kw_only=True)
class Flight:
    """`name` is the client's: its idempotency keys begin with it, so that a start that is repeated is no second one."""

    system: System
    shape: Shape
    name: str
    clock: StillClock
    others: Others
    roots: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._looks = 0
        self._dispatcher, self._publisher = Dispatcher(self.system), Publisher(self.system)
        self._landed = LandedEvents(self.system)

    def fly(self) -> None:
        self.others.open()
        for _ in range(TURNS):
            if self._turn():
                self._looks = 0
                continue
            if self._is_over():
                self._last()
                return
            self._pass_time()
        raise Stalled(f"not over after {TURNS} turns")

    def surely(self, action: Callable[[], Any]) -> Any:
        """What fails is tried again in the next turn, as by a thread that complains and goes on."""
        try:
            return action()
        except Exception as error:  # whatever a broken call raises
            log.warning("%s", error, exc_info=True)
            return 1

    def _turn(self) -> bool:
        if len(self.roots) < self.shape.instances:
            return bool(self.surely(self._start))
        return self._all((self._dispatch, self._messages, self._people)) or self._all(
            (self._news, self._events, self._ends, self._sweep)
        )

    def _all(self, actions: Sequence[Callable[[], int]]) -> bool:
        """The second round of them, which go by a timer, only when the first is at rest: all else would look in vain."""
        moved = [self.surely(action) for action in actions]
        return any(moved)

    # -- who acts

    def _start(self) -> int:
        """The client starts each instance until it has been told that it is started."""
        url = self.others.completion_url if self.shape.is_told else None
        at = len(self.roots)
        started = engine.start(
            self.system, tenant=TENANT, workflow_id=self.shape.workflow, payload={**self.shape.payload, "agency": TENANT, "at": at},
            idempotency_key=f"{self.name}-{at}", completion_url=url,
        )  # fmt: skip
        self.roots.append(started.instance_id)
        return 1

    def _dispatch(self) -> int:
        self._dispatcher._rounds()
        return 0  # what it has published is taken from the broker

    def _messages(self) -> int:
        moved = 0
        for queue in self.others.our_queues:
            while (message := self.others.take(queue)) is not None:
                self._execute(self.system.app, message)
                moved += 1
        return moved + self.others.work()

    @staticmethod
    def _execute(app: Celery, message: Message) -> None:
        execute(app, message)

    def _news(self) -> int:
        return children.carry(self.system)

    def _events(self) -> int:
        self._publisher._rounds()
        moved = self.others.hear()
        while (message := self.others.take(LANDED_EVENTS_QUEUE)) is not None:
            self._landed._settle(message)
            moved += 1
        return moved

    def _people(self) -> int:
        return sum(person(self) for person in self.shape.people)

    def _ends(self) -> int:
        completions.deliver_all(self.system)
        return 0

    def _sweep(self) -> int:
        return sweep(self.system)

    def _last(self) -> None:
        if self.shape.keeps_for is not None:
            self.clock.advance(self.shape.keeps_for + 1)
            while self.surely(lambda: retention.keep(self.system)):
                pass

    # -- time

    def _is_over(self) -> bool:
        return self._scalar(OPEN, ids=self.roots) == 0 and len(self.roots) == self.shape.instances

    def _pass_time(self) -> None:
        """To the next moment; but while this process holds a lease, no further than to where it would extend it."""
        due = self._scalar(NEXT, grace=self.system.settings.republish_after)
        if due is None:
            self._looks += 1
            if self._looks > LOOKS:
                raise Stalled("nothing is due, and nobody acts")
            due = 1.0
        if self._scalar(RUNS_HERE, worker=self.system.worker):
            self.surely(lambda: extend_leases(self.system, self.system.database))
            due = min(float(due), self.system.settings.lease / 4)
        self.clock.advance(float(due) + 0.01)

    # -- looking, unseen by the spy

    def _scalar(self, statement: Any, **values: Any) -> Any:
        return self.others.look(statement, **values)


def execute(app: Celery, message: Message) -> None:
    """What a worker does with a message, acknowledgement included."""
    task = app.tasks[message.headers["task"]]
    request = Request(
        message, app=app, task=task, hostname="flight", on_ack=lambda *_: message.ack(),
        on_reject=lambda _log, _errors, requeue: message.requeue() if requeue else message.ack(),
    )  # fmt: skip
    request.execute()
