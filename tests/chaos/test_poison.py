"""Steps that end, hang or starve their worker: tried a bounded number of times and then quarantined, with the evidence; what
runs beside them goes on. Real worker processes, which are started again as the supervisor does it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator import hung
from orchestrator.servers.stack import environment
from orchestrator.settings import Settings
from orchestrator.system import System
from tests import flights, poison_lane
from tests.services import states_of, verbs

# A worker's start takes seconds, and half a minute on a machine that has much to do.
pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.timeout(600)]

LEASE = 2.0
LOSSES = 3
THREADS = 4
PATIENCE = 280.0
LANES = """
services:
  poison: {transport: local, module: tests.poison_lane, timeout: 1s}
  blind: {transport: local, module: tests.poison_lane, timeout: 1s, idempotency: none}
"""
POISON = """
id: poison
steps:
  - {id: before, service: poison.work}
  - {id: work, service: LANE.OPERATION, retry: {max: 1, backoff: 100ms}}
  - {id: after, service: poison.work}
"""
NEIGHBOUR = """
id: neighbour
steps: [{id: one, service: poison.work}, {id: two, service: poison.work}, {id: three, service: poison.work}]
"""


@dataclass(kw_only=True)
class Kept:
    """A worker process that is started again whenever it has ended."""

    system: System
    calls: Path
    codes: list[int] = field(default_factory=list)  # with which it has ended
    _stop: threading.Event = field(default_factory=threading.Event)
    _process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        argv = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-P", "threads", "-c", str(THREADS), "-l", "WARNING",
                "--without-gossip", "--without-mingle", "--without-heartbeat"]  # fmt: skip
        env = {**os.environ, "PYTHONWARNINGS": "ignore", **environment(self.system.settings),
               poison_lane.CALLS: str(self.calls)}  # fmt: skip
        while not self._stop.is_set():
            with self.calls.with_suffix(".log").open("ab") as log:
                self._process = subprocess.Popen(argv, env=env, stdout=log, stderr=log)
                code = self._process.wait()
            if not self._stop.is_set():
                self.codes.append(code)

    def stop(self) -> None:
        self._stop.set()
        if self._process is not None:
            self._process.kill()

    def called(self) -> Counter[tuple[str, str]]:
        """How often each instance has called each operation."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return Counter((line.split()[0], line.split()[1]) for line in lines)

    @property
    def log(self) -> str:
        return self.calls.with_suffix(".log").read_text(errors="replace")


@contextmanager
def kept(system: System, calls: Path) -> Iterator[Kept]:
    worker = Kept(system=system, calls=calls)
    thread = threading.Thread(target=worker.run, name="keeper", daemon=True)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(timeout=30)


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(flights, "PATIENCE", PATIENCE)
    lanes = tmp_path / "services.yaml"
    lanes.write_text(LANES)
    return Settings(
        database_url=database_url, broker_url=broker_url, auth="local", data_dir=str(tmp_path), lease=LEASE,
        sweep_every=0.2, republish_after=1.0, losses=LOSSES, services_file=str(lanes), workflows_dir=str(tmp_path),
    )  # fmt: skip


def poisoned(system: System, operation: str, lane: str = "poison") -> tuple[str, list[str]]:
    """One instance that is poison, and its neighbours: of the same definition, and of another."""
    text = POISON.replace("OPERATION", operation).replace("LANE", lane)
    same, other = flights.define(system, text), flights.define(system, NEIGHBOUR)
    poison = flights.start(system, same, {})
    harmless = [flights.start(system, same, {"harmless": True}) for _ in range(2)]
    return poison, [*harmless, *(flights.start(system, other, {}) for _ in range(3))]


def quarantined(system: System, instance: str) -> dict[str, Any]:
    shown = flights.reached(system, instance, "STUCK")
    assert (shown["reason"], states_of(shown)["work"]) == ("quarantined", "UNKNOWN")
    work = next(one for one in shown["steps"] if one["step"] == "work")
    assert f"it has lost {LOSSES} workers" in work["error"]
    return shown


def all_well(system: System, instances: list[str]) -> None:
    for one in instances:
        assert flights.ended(system, one)["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("operation", "code"), [("segfault", -signal.SIGSEGV), ("killed", -signal.SIGKILL), ("leave", 3)]
)
def test_what_ends_its_worker_is_quarantined_and_its_neighbours_go_on(
    system: System, tmp_path: Path, operation: str, code: int
) -> None:
    poison, neighbours = poisoned(system, operation)
    with kept(system, tmp_path / "calls") as worker:
        shown = quarantined(system, poison)
        all_well(system, neighbours)
        assert 1 <= worker.called()[poison, operation] <= LOSSES, (
            "a worker may end by itself before it calls, never more"
        )
        assert set(worker.codes) == {code}
        assert len(worker.codes) <= LOSSES
    lost = [one for one in shown["history"] if one["step"] == "work" and one["verb"] in ("lose", "doubt")]
    assert [one["attempt"] for one in lost] == [1, 2, 3]
    assert len({one["error"].split()[2] for one in lost}) == LOSSES, "each names the worker that was lost"


def test_on_a_lane_that_can_do_neither_it_is_called_once(system: System, tmp_path: Path) -> None:
    poison, neighbours = poisoned(system, "segfault", lane="blind")
    with kept(system, tmp_path / "calls") as worker:
        assert flights.reached(system, poison, "STUCK")["reason"] == "uncertain"
        ends = [flights.until(lambda one=one: _rested(system, one), f"the end of {one}") for one in neighbours]  # type: ignore[misc]
        assert worker.called()[poison, "segfault"] == 1
        assert worker.codes == [-signal.SIGSEGV]
    # Those of the same lane, which were in flight by its side, nobody may call again either; all others have ended.
    assert set(ends[2:]) == {"COMPLETED"}
    assert set(ends[:2]) <= {"COMPLETED", "STUCK"}


def _rested(system: System, instance: str) -> str | None:
    shown = flights.status(system, instance)["status"]
    return shown if shown in ("COMPLETED", "STUCK") else None


@pytest.mark.parametrize("operation", ["hang", "spin"])
def test_calls_that_never_end_are_quarantined_and_their_worker_ends_before_it_has_no_hand_left(
    system: System, tmp_path: Path, operation: str
) -> None:
    poison, neighbours = poisoned(system, operation)
    with kept(system, tmp_path / "calls") as worker:
        quarantined(system, poison)
        all_well(system, neighbours)
        assert worker.called()[poison, operation] <= LOSSES
        flights.until(lambda: hung.LOST_HANDS in worker.codes, "the end of a worker that has lost half of its hands")
        assert set(worker.codes) == {hung.LOST_HANDS}
        assert "has not ended by its limit and keeps its thread" in worker.log
        assert "poison_lane.py" in worker.log, "where it hangs"
        all_well(system, [flights.start(system, "neighbour", {})])


def test_code_that_never_lets_go_of_the_interpreter_ends_its_process_by_the_watch(
    system: System, tmp_path: Path
) -> None:
    poison, neighbours = poisoned(system, "starve")
    with kept(system, tmp_path / "calls") as worker:
        quarantined(system, poison)
        all_well(system, neighbours)
        assert worker.called()[poison, "starve"] <= LOSSES
        assert set(worker.codes) == {1}
        assert "Timeout (" in worker.log, "where each thread was"


def test_memory_that_is_refused_fails_the_step_and_the_worker_lives(system: System, tmp_path: Path) -> None:
    poison, neighbours = poisoned(system, "eat")
    with kept(system, tmp_path / "calls") as worker:
        shown = flights.ended(system, poison)
        assert (shown["status"], shown["reason"]) == ("FAILED", "uncertain")
        assert verbs(shown, "work") == ["ready", "claim", "retry", "claim", "fail"]
        all_well(system, neighbours)
        assert worker.codes == []
