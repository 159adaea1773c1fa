"""Where the flights take place: one Postgres, one broker, one service, and a process of its own for each execution.

The process that forks has composed everything and holds no connection but one of its own, so that each child begins at
once, and dies as a process dies: by SIGKILL, with no rollback, no `finally` and no `atexit`. The kernel closes its
sockets; the next one begins when Postgres has noticed.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from orchestrator.settings import Settings
from tests import flights
from tests.chaos.crashpoints import ledger, local_lane, outcome
from tests.chaos.crashpoints.child import Child
from tests.chaos.crashpoints.place import Place, install
from tests.chaos.crashpoints.schedules import Execution, Flying, Schedule, Verdict
from tests.chaos.crashpoints.shapes import LANES, SHAPES
from tests.chaos.crashpoints.spy import Point

LEASE = 5.0
GONE = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
CLEAR = "DELETE FROM instance; DELETE FROM outbox; DELETE FROM lane"


@dataclass(kw_only=True)
class Ground:
    place: Place
    ledger_path: Path
    connection: psycopg.Connection[Any]
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
        violations += outcome.judge(self.connection, self.place.clock.url, shape, roots, lines)
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
                Child(self.place, flying, writing).live()
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
            self.place.meet(Point(name=told["name"], kind=told["new"], functions=tuple(told["functions"])))
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
        place = install(settings, url)
        with psycopg.connect(place.clock.url, autocommit=True) as connection:
            yield Ground(place=place, ledger_path=ledger_path, connection=connection)
