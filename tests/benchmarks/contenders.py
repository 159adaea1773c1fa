"""The two that are measured side by side: a three-step workflow of ours, and a bare Celery chain of three tasks.

Times are seconds of this machine's clock, which Postgres and every worker share.
"""

from __future__ import annotations

import threading
import time
import uuid
from pathlib import Path
from typing import Protocol, cast

from sqlalchemy import Connection, text

from orchestrator import births, engine
from orchestrator.settings import Settings
from orchestrator.system import System
from tests.benchmarks.bare import QUEUE, make, three

WORKFLOW = "three-no-ops"
DEFINITION = f"""
id: {WORKFLOW}
steps:
  - {{id: first, service: noop.work}}
  - {{id: second, service: noop.work}}
  - {{id: third, service: noop.work}}
"""
SERVICES = "services:\n  noop: {transport: local, module: tests.benchmarks.noop, idempotency: key}\n"
TENANT = "local"
CHUNK = 500  # instances a transaction
PATIENCE = 300.0  # seconds before a flood counts as stuck
LOOK_EVERY = 0.05  # seconds, while a flood runs
GLANCE_EVERY = 0.001  # seconds, while one is awaited: the resolution of a latency

ENDED = text("SELECT count(*) FROM instance WHERE id = ANY(CAST(:ids AS uuid[])) AND ended_at IS NOT NULL")
ENDS = text("SELECT extract(epoch FROM ended_at) FROM instance WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY ended_at")
# Everything that a durable run has to leave behind: ended well, a history without a gap, each step done once.
SOUND = text("""
SELECT count(*) FROM instance i WHERE i.id = ANY(CAST(:ids AS uuid[])) AND i.status = 'COMPLETED'
  AND (SELECT count(*) = i.history_seq AND min(seq) = 1 AND max(seq) = i.history_seq
         AND count(*) FILTER (WHERE verb = 'succeed') = 3
         AND count(DISTINCT step) FILTER (WHERE verb = 'succeed') = 3
       FROM history h WHERE h.instance_id = i.id)
""")
HAS_ENDED = text("SELECT 1 FROM instance WHERE id = CAST(:id AS uuid) AND ended_at IS NOT NULL")
FIRST_CLAIM = text("""
SELECT extract(epoch FROM min(time) FILTER (WHERE verb = 'claim') - min(time) FILTER (WHERE verb = 'start'))
FROM history WHERE instance_id = CAST(:id AS uuid)
""")


class Contender(Protocol):
    celery_app: str  # for `celery -A`
    queues: str | None  # for `-Q`; none: all that the app names

    def flood(self, count: int) -> list[float]:
        """Start `count`; when each ended, in seconds after the first start, sorted. Raises AssertionError."""
        ...

    def once(self) -> float:
        """Seconds from start to end of a single one."""
        ...


class Orchestrated:
    celery_app = "worker"
    queues: str | None = None

    def __init__(self, system: System) -> None:
        self._system = system
        self.first_claims: list[float] = []  # seconds from an instance's start to its first claim, of `once`
        engine.put_definition(system, tenant=TENANT, workflow_id=WORKFLOW, text=DEFINITION)

    def flood(self, count: int) -> list[float]:
        began, ids = time.time(), []
        for start in range(0, count, CHUNK):
            ids += self._start_many(min(CHUNK, count - start))
        self._await(ids)
        with self._system.database.transaction() as connection:
            self._check(connection, ids)
            return [float(end) - began for end in connection.execute(ENDS, {"ids": ids}).scalars()]

    def once(self) -> float:
        began = time.perf_counter()
        started = engine.start(self._system, tenant=TENANT, workflow_id=WORKFLOW, payload={"permitNo": "P-1"})
        values = {"id": started.instance_id}
        with self._system.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while connection.execute(HAS_ENDED, values).first() is None:
                _wait(began, f"the end of {started.instance_id}", GLANCE_EVERY)
            took = time.perf_counter() - began
            self._check(connection, [started.instance_id])
            self.first_claims.append(float(connection.execute(FIRST_CLAIM, values).scalar_one()))
        return took

    def _start_many(self, count: int) -> list[str]:
        with self._system.database.transaction() as connection:
            return births.start_many_within(
                connection, self._system.plans, self._system.settings, tenant=TENANT, workflow_id=WORKFLOW,
                payloads=[{"permitNo": f"P-{n}"} for n in range(count)],
            )  # fmt: skip

    def _await(self, ids: list[str]) -> None:
        began = time.perf_counter()
        while self._count(ids) < len(ids):
            _wait(began, f"the end of {len(ids)} instances", LOOK_EVERY)

    def _count(self, ids: list[str]) -> int:
        with self._system.database.transaction() as connection:
            return cast("int", connection.execute(ENDED, {"ids": ids}).scalar_one())

    @staticmethod
    def _check(connection: Connection, ids: list[str]) -> None:
        sound = connection.execute(SOUND, {"ids": ids}).scalar_one()
        assert sound == len(ids), f"{len(ids) - sound} of {len(ids)} instances are not COMPLETED with a whole history"


class Bare:
    celery_app = "tests.benchmarks.bare_worker"
    queues: str | None = QUEUE

    def __init__(self, settings: Settings, pipe: Path) -> None:
        """`pipe`: a named pipe that the last task of every chain writes to."""
        self._app = make(settings)
        self._ends: dict[str, float] = {}
        self._pipe = pipe
        threading.Thread(target=self._read, name="ends", daemon=True).start()

    def flood(self, count: int) -> list[float]:
        names = [uuid.uuid4().hex for _ in range(count)]
        began, began_waiting = time.time(), time.perf_counter()
        for name in names:
            three(self._app, name).apply_async()
        while len(self._ends) < count:
            _wait(began_waiting, f"the end of {count} chains", LOOK_EVERY)
        ends = sorted(self._ends.pop(name) - began for name in names)
        assert not self._ends, "a chain ended twice or was not ours"
        return ends

    def once(self) -> float:
        name, began = uuid.uuid4().hex, time.time()
        three(self._app, name).apply_async()
        while name not in self._ends:
            time.sleep(GLANCE_EVERY)
        return self._ends.pop(name) - began

    def _read(self) -> None:
        # Opened for writing too, so that it does not end when the workers of a round do.
        with self._pipe.open("r+b", buffering=0) as pipe:
            rest = b""
            while True:
                *lines, rest = (rest + pipe.read(65536)).split(b"\n")
                self._ends |= {name.decode(): float(end) for name, end in (line.split() for line in lines)}


def _wait(began: float, what: str, pause: float) -> None:
    assert time.perf_counter() - began < PATIENCE, f"never came: {what}"
    time.sleep(pause)
