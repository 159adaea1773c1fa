"""Where the flights take place: one Postgres, one broker, one service, and a process of its own for each execution.

The process that forks has composed everything and holds no connection but one of its own, so that each child begins at
once, and dies as a process dies: by SIGKILL, with no rollback, no `finally` and no `atexit`. The kernel closes its
sockets; the next one begins when Postgres has noticed.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import psycopg
import redis.utils
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import Engine, create_engine
from urllib3.util.ssl_ import create_urllib3_context

from orchestrator import completions, dispatch, landed, lane_watch, legs, publisher
from orchestrator.bootstrap import compose
from orchestrator.lanes import connections
from orchestrator.settings import Settings
from orchestrator.store.database import plain_url, sqlalchemy_url
from orchestrator.system import System, process_name
from tasks import landed as landed_tasks
from tasks import legs as leg_tasks
from tests import flights
from tests.chaos.crashpoints import ledger, local_lane, outcome
from tests.chaos.crashpoints.flight import Flight, Inline
from tests.chaos.crashpoints.others import Others
from tests.chaos.crashpoints.planting import plant
from tests.chaos.crashpoints.shapes import LANES, SHAPES, Shape
from tests.chaos.crashpoints.spy import Point, Spy
from tests.chaos.crashpoints.still_clock import StillClock

LEASE = 5.0
log = logging.getLogger(__name__)
LONGEST = 60  # seconds of an execution, then it hangs
GONE = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
CLEAR = "DELETE FROM instance; DELETE FROM outbox; DELETE FROM lane"

How = Literal["dies", "fails"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """At the `at`-th point of a process (from 1) it dies, or the call fails."""

    at: int
    how: How


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A process dies at most once: its faults go up to the first of `dies`, and the next begin the next process."""

    shape: str
    faults: tuple[Fault, ...] = ()
    returns: bool = True  # whether the broker gives back what the dead had not acknowledged

    def processes(self) -> list[tuple[Fault, ...]]:
        found: list[list[Fault]] = [[]]
        for fault in self.faults:
            found[-1].append(fault)
            if fault.how == "dies":
                found.append([])
        return [tuple(one) for one in found]

    def __str__(self) -> str:
        faults = " ".join(f"{one.how}@{one.at}" for one in self.faults) or "undisturbed"
        return f"{self.shape}: {faults}{'' if self.returns else ', broker forgets'}"


@dataclass(kw_only=True)
class Execution:
    """What one process said before it ended."""

    points: list[str] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)
    ended: str = "died"  # over, died, stalled, or what it was killed by


@dataclass(kw_only=True)
class Verdict:
    schedule: Schedule
    executions: list[Execution]
    hit: list[str]  # the points at which the faults struck
    violations: list[str]


@dataclass(kw_only=True)
class Ground:
    system: System
    url: str  # of the service
    ledger_path: Path
    clock: StillClock
    connection: psycopg.Connection[Any]
    eyes: Engine
    points: dict[str, Point] = field(default_factory=dict)  # by name, all that was ever seen
    functions: set[str] = field(default_factory=set)  # of ours that were under way at any point
    bug: Callable[[], None] | None = None  # planted in every process
    _count: int = 0

    def run(self, schedule: Schedule) -> Verdict:
        """Fly a schedule on a ground where nothing is left of the one before, and judge what it leaves."""
        self.connection.execute(CLEAR)
        self._count += 1
        name, offset = f"client-{self._count}", self.ledger_path.stat().st_size
        shape, roots = SHAPES[schedule.shape], list[str]()
        executions, hit, violations = list[Execution](), list[str](), list[str]()
        for at, faults in enumerate(schedule.processes()):
            flying = Flying(shape=shape, name=name, roots=roots, faults=faults, returns=schedule.returns,
                            is_first=self._count == 1 and not at, begins=not at)  # fmt: skip
            done = self._execute(flying)
            executions.append(done)
            roots = done.roots or roots
            hit += [done.points[one.at - 1] for one in faults if one.at <= len(done.points)]
            violations += [f"there was no point {one.at}" for one in faults if one.at > len(done.points)]
            if done.ended != "died":
                violations += [f"the flight {done.ended}"] if done.ended != "over" else []
                break
        lines = [json.loads(line) for line in self._ledger(offset)]
        violations += outcome.judge(self.connection, shape, roots, lines)
        return Verdict(schedule=schedule, executions=executions, hit=hit, violations=violations)

    def _ledger(self, offset: int) -> list[str]:
        with self.ledger_path.open() as file:
            file.seek(offset)
            return file.read().splitlines()

    def _execute(self, flying: Flying) -> Execution:
        assert threading.active_count() == 1, "a process with threads is not forked"
        reading, writing = os.pipe()
        gc.freeze()  # what there is is not looked at, and so not copied, in the child
        child = os.fork()
        if child == 0:
            gc.disable()
            try:
                os.close(reading)
                Child(self, flying, writing).live()
            finally:
                os._exit(1)  # whatever happens: a child goes back into no code of its parent
        os.close(writing)
        done = Execution(roots=list(flying.roots))
        with os.fdopen(reading) as said:
            for line in said:
                self._note(done, json.loads(line))
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
            done.ended = f"was ended by signal {os.WTERMSIG(status)}: it hangs, or worse"
        self._await_the_end()
        return done

    def _note(self, done: Execution, told: dict[str, Any]) -> None:
        if "new" in told:
            self.points.setdefault(
                told["name"], Point(name=told["name"], kind=told["new"], functions=tuple(told["functions"]))
            )
            self.functions.update(told["functions"])
        if "name" in told:
            done.points.append(told["name"])
        for module in told.get("modules", ()):  # what the first had to import, all others find imported
            importlib.import_module(module)
        done.roots = told.get("roots", done.roots)
        done.ended = told.get("ended", done.ended)

    def _await_the_end(self) -> None:
        """Of the sessions that the dead has left: they hold its locks until Postgres notices."""
        until = time.monotonic() + flights.PATIENCE
        while self.connection.execute(GONE).fetchone() != (0,):
            assert time.monotonic() < until, "a session outlives its process"
            time.sleep(0.001)


@dataclass(frozen=True, kw_only=True)
class Flying:
    """What a process is to do."""

    shape: Shape
    name: str
    roots: list[str]
    faults: tuple[Fault, ...]
    returns: bool
    is_first: bool  # on this ground: the broker has no queues yet
    begins: bool  # a schedule


class Child:
    """One process, from the fork to its end."""

    def __init__(self, ground: Ground, flying: Flying, pipe: int) -> None:
        self._ground, self._flying, self._pipe = ground, flying, pipe
        self._faults = {one.at: one.how for one in flying.faults}
        self._reached = 0
        self._flight: Flight | None = None
        self.spy = Spy(self._reach)

    def live(self) -> NoReturn:
        signal.alarm(LONGEST)
        known = set(sys.modules)
        logging.disable(logging.CRITICAL if "CRASHPOINTS_LOG" not in os.environ else logging.NOTSET)
        try:
            self._fly()
            ended = "over"
        except BaseException as error:  # whatever it is, the parent is told
            if "CRASHPOINTS_LOG" in os.environ:
                log.exception("flight")
            ended = f"stalled: {type(error).__name__}: {error}"
        modules = [name for name in sys.modules if name not in known and name != "__main__"]
        self._say({"ended": ended, "roots": self._flight.roots if self._flight else [], "modules": modules})
        os._exit(0)

    def _fly(self) -> None:
        flying, ground = self._flying, self._ground
        system = ground.system
        object.__setattr__(system, "worker", process_name())  # the tasks are registered for this very system
        if ground.bug is not None:
            ground.bug()
        if flying.shape.installed is not None:
            flying.shape.installed()
        self.spy.install(system)
        others = Others(
            eyes=ground.eyes,
            system=system,
            service=ground.url,
            returns=flying.returns,
            spy=self.spy,
            is_first=flying.is_first,
            begins=flying.begins,
        )
        self._flight = Flight(system=system, shape=flying.shape, name=flying.name, clock=ground.clock, others=others,
                              roots=list(flying.roots))  # fmt: skip
        self._flight.fly()

    def _reach(self, point: Point) -> None:
        self._reached += 1
        told: dict[str, Any] = {"name": point.name}
        if point.name not in self._ground.points or not self._ground.functions.issuperset(point.functions):
            self._ground.points[point.name] = point
            self._ground.functions.update(point.functions)
            told |= {"new": point.kind, "functions": point.functions}
        self._say(told)
        how = self._faults.get(self._reached)
        if how == "dies":
            self._say({"roots": self._flight.roots if self._flight else []})
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "fails":
            self._fail(point)

    def _say(self, told: dict[str, Any]) -> None:
        os.write(self._pipe, json.dumps(told).encode() + b"\n")

    def _fail(self, point: Point) -> None:
        """The call that is about to be made, or has been made, is heard of as lost."""
        if point.kind in ("commit", "read"):
            self._cut(self.spy.connection.dbapi_connection)
            raise psycopg.OperationalError("the connection is lost")
        if point.kind == "publish":
            raise BrokerError("the broker is lost")
        if point.kind == "send":
            raise ConnectionResetError("the connection is lost")
        raise ConnectionError("the acknowledgement is lost")

    def _cut(self, connection: psycopg.Connection[Any]) -> None:
        pid = connection.info.backend_pid
        connection.close()
        until = time.monotonic() + flights.PATIENCE
        with psycopg.connect(self._ground.clock.url, autocommit=True) as other:
            while other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone():
                assert time.monotonic() < until, "a session outlives its connection"


def prepare(system: System) -> None:
    """Once, before the forks. Nothing is timed by the wall clock, nothing is done in another thread, and what a worker registers is registered."""
    leg_tasks.register(system.app, system)
    landed_tasks.register(system.app, system)
    plant(legs, "ThreadPoolExecutor", Inline)
    plant(completions, "ThreadPoolExecutor", Inline)
    legs.DATABASE_AWAY = landed.DATABASE_AWAY = dispatch.IDLE = dispatch.TURNS = publisher.IDLE = 0.0
    lane_watch.EVERY = 1e9  # read once, and anew whenever something was said of a lane
    _ = system.app.backend  # looked for among all that is installed
    plant(redis.utils, "get_lib_version", lambda: "unknown")  # the same, for each connection to the broker
    context = create_urllib3_context()
    plant(context, "load_default_certs", lambda *_: None)  # plain HTTP only; they take their time
    plant(connections, "create_urllib3_context", lambda: context)
    plant(completions, "create_urllib3_context", lambda: context)


@contextmanager
def ground(database_url: str, broker_url: str, folder: Path) -> Iterator[Ground]:
    """On a migrated database and a broker of its own. To be entered before this process has threads."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger_path = folder / "ledger.jsonl"
    ledger_path.touch()
    with ledger.serving(ledger_path) as url:
        os.environ[local_lane.SERVICE] = url
        lanes = folder / "services.yaml"
        lanes.write_text(LANES.format(url=url))
        settings = Settings(
            database_url=database_url, broker_url=broker_url, services_file=str(lanes), auth="local", lease=LEASE,
            republish_after=1.0, secret="s" * 32, retention=86400.0, webhook_hosts=url.removeprefix("http://"),
        )  # fmt: skip
        clock = StillClock(plain_url(database_url))
        clock.install()
        system = replace(compose(settings), chance=lambda: 0.5)
        define(system, list(SHAPES.values()))
        prepare(system)
        with psycopg.connect(clock.url, autocommit=True) as connection:
            yield Ground(
                system=system, url=url, ledger_path=ledger_path, clock=clock, connection=connection, eyes=_eyes(clock)
            )


def _eyes(clock: StillClock) -> Engine:
    """It has met the database, and has no connection to it."""
    eyes = create_engine(sqlalchemy_url(clock.url), pool_size=1)
    eyes.connect().close()
    eyes.dispose()
    return eyes


def define(system: System, shapes: Sequence[Shape]) -> None:
    for shape in shapes:
        for plan in shape.plans:
            flights.define(system, plan)
    system.database.close()  # no connection outlives a fork
    system.database._is_closed.clear()
