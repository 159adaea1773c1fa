"""A worker that is told to stop: in time, with nothing lost, and others go on at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from orchestrator import attempts, births, hung
from orchestrator.settings import Settings
from orchestrator.stopping import CUT_OFF, Deadline
from orchestrator.sweep import hand_over
from orchestrator.system import System
from tests import flights, held_lane, poison_lane

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

WITHIN = 5.0  # seconds
BUSY = 2.0  # seconds that a busy machine may take to notice the end of a process
LEASE = 20.0  # so long that nothing here waits for it
SERVICES = """
services:
  held: {transport: local, module: tests.held_lane, timeout: 110s}
  once: {transport: local, module: tests.held_lane, timeout: 110s, idempotency: none}
  hung: {transport: local, module: tests.poison_lane, timeout: 100ms}
"""
HELD = """
id: held
steps:
  - {id: before, service: held.pass_by}
  - {id: during, service: held.hold}
  - {id: after, service: held.pass_by}
"""
ONCE = "id: once\nsteps: [{id: during, service: once.hold}]"
HUNG = "id: hung\nsteps: [{id: during, service: hung.hang}]"
SHORT = "id: short\nsteps: [{id: only, service: held.pass_by}]"


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    services = tmp_path / "services.yaml"
    services.write_text(SERVICES)
    return replace(settings, services_file=str(services), workflows_dir=str(tmp_path), lease=LEASE, stop_within=WITHIN)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes have to start: on a busy machine that takes its time."""
    monkeypatch.setattr(flights, "PATIENCE", 100.0)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, Any]:
    return {"PYTHONPATH": f"{Path.cwd()}:{':'.join(sys.path)}", poison_lane.CALLS: str(tmp_path / "poison")}


@contextmanager
def another(system: System, environment: dict[str, Any], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One more worker that consumes."""
    log = folder / "another.log"
    with log.open("wb") as output, flights.worker_process(system, output=output, **environment) as process:
        flights.until(lambda: b"ready." in log.read_bytes(), "another worker")
        yield process


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """What the first worker has said."""
    return tmp_path / "first.log"


@pytest.fixture
def first(system: System, environment: dict[str, Any], said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that nothing but the test stops; it consumes."""
    flights.define(system, SHORT)
    with said.open("wb") as output, flights.worker_process(system, output=output, **environment) as process:
        flights.ended(system, flights.start(system, "short", {}))
        yield process


def start_many(system: System, count: int) -> list[str]:
    """So many short ones at once, which go in waves."""
    with system.database.transaction() as connection:
        return births.start_many_within(
            connection, system.plans, system.settings, tenant=flights.TENANT, workflow_id="short", payloads=[{}] * count
        )


def told_to_stop(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Its exit code, and how many seconds it took."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=WITHIN + 30)
    return code, time.monotonic() - began


def test_an_idle_worker_ends_at_once_and_well(first: subprocess.Popen[bytes]) -> None:
    code, took = told_to_stop(first)
    print(f"idle: {took:.2f} s")
    assert code == 0
    assert took < WITHIN + BUSY


def test_a_call_that_ends_in_time_is_recorded_and_the_next_step_is_anothers(
    system: System, first: subprocess.Popen[bytes], environment: dict[str, Any], tmp_path: Path
) -> None:
    flights.define(system, HELD)
    instance = flights.start(system, "held", {})
    flights.until(lambda: held_lane.calls("hold"), "the call in the middle")
    with another(system, environment, tmp_path):
        timer = threading.Timer(0.5, held_lane.let_go, ["hold"])
        timer.start()
        code, took = told_to_stop(first)
        print(f"drained: {took:.2f} s")
        assert code == 0
        shown = flights.ended(system, instance)

    assert shown["status"] == "COMPLETED"
    assert [one["attempt"] for one in shown["steps"]] == [1, 1, 1]
    workers = [one["worker"] for one in shown["history"] if one["verb"] == "claim"]
    assert len(set(workers[:2])) == 1
    assert workers[2] != workers[1]


def test_a_call_that_does_not_end_in_time_is_handed_over_without_waiting_for_its_lease(
    system: System, first: subprocess.Popen[bytes], environment: dict[str, Any], tmp_path: Path
) -> None:
    flights.define(system, HELD)
    instance = flights.start(system, "held", {})
    flights.until(lambda: held_lane.calls("hold"), "the call in the middle")
    with another(system, environment, tmp_path):
        code, took = told_to_stop(first)
        began = time.monotonic()
        flights.until(lambda: len(held_lane.calls("hold")) == 2, "the second call")
        print(f"busy: {took:.2f} s; taken over after {time.monotonic() - began:.2f} s")
        held_lane.let_go("hold")
        shown = flights.ended(system, instance)

    assert code == CUT_OFF
    assert took < WITHIN + BUSY
    assert time.monotonic() - began < LEASE / 2
    assert shown["status"] == "COMPLETED"
    assert len(set(held_lane.calls("hold"))) == 1, "both attempts carry the same key"
    assert [one["verb"] for one in shown["history"] if one["step"] == "during"] == [
        "ready", "claim", "lose", "claim", "succeed",
    ]  # fmt: skip


def test_an_effect_that_nobody_can_ask_about_is_unknown_at_once(system: System, first: subprocess.Popen[bytes]) -> None:
    flights.define(system, ONCE)
    instance = flights.start(system, "once", {})
    flights.until(lambda: held_lane.calls("hold"), "the call")
    code, _ = told_to_stop(first)

    assert code == CUT_OFF
    shown = flights.status(system, instance)
    assert (shown["status"], shown["reason"]) == ("STUCK", "uncertain")
    assert "was stopped in attempt 1" in shown["steps"][0]["error"]


def test_what_was_not_begun_others_begin_at_once(
    system: System, first: subprocess.Popen[bytes], environment: dict[str, Any], tmp_path: Path
) -> None:
    """Four threads hold calls; many more messages and a wave's rest wait. None waits for those calls, or for a lease."""
    flights.define(system, HELD)
    flights.define(system, SHORT)
    held = [flights.start(system, "held", {}) for _ in range(4)]
    flights.until(lambda: len(held_lane.calls("hold")) == 4, "all threads busy")
    waiting = start_many(system, 300)
    with another(system, environment, tmp_path):
        began = time.monotonic()
        first.send_signal(signal.SIGTERM)
        for one in waiting:
            flights.ended(system, one)
        print(f"what waited was done {time.monotonic() - began:.2f} s after the signal")
        assert first.wait(timeout=WITHIN + 30) == CUT_OFF
        held_lane.let_go("hold")
        for one in held:
            assert flights.ended(system, one)["status"] == "COMPLETED"

    keys = held_lane.calls("pass_by")
    assert len(keys) == len(set(keys)), "none was called twice but those that were cut off"
    again = held_lane.calls("hold")
    assert len(again) == 8
    assert len(set(again)) == 4


def test_a_second_signal_ends_it_at_once_and_the_lease_does_the_rest(
    system: System, first: subprocess.Popen[bytes], said: Path
) -> None:
    flights.define(system, HELD)
    instance = flights.start(system, "held", {})
    flights.until(lambda: held_lane.calls("hold"), "the call in the middle")
    first.send_signal(signal.SIGTERM)
    flights.until(lambda: b"Warm shutdown" in said.read_bytes(), "the first to be heeded")
    began = time.monotonic()
    flights.until(lambda: _told_again(first), "its end")  # it says so a moment before it has heeded the first

    assert first.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - began < WITHIN / 2
    assert flights.status(system, instance)["status"] == "RUNNING"


def _told_again(process: subprocess.Popen[bytes]) -> bool:
    process.send_signal(signal.SIGTERM)
    return process.poll() is not None


def test_time_runs_also_where_the_database_hangs(system: System) -> None:
    """A lock that somebody holds stands for it."""
    flights.define(system, HELD)
    instance = flights.start(system, "held", {})
    ended: list[int] = []
    waits = threading.Event()

    def end(code: int) -> None:
        ended.append(code)
        waits.set()

    with flights.worker(system):
        flights.until(lambda: held_lane.calls("hold"), "the call in the middle")
        deadline = Deadline(replace(system, settings=replace(system.settings, stop_within=1.0)), end)
        with psycopg.connect(system.database.url) as holder:
            holder.execute("LOCK TABLE step IN ACCESS EXCLUSIVE MODE")
            deadline.start()
            system.stopping.set()
            assert waits.wait(timeout=20)
            assert ended == [CUT_OFF], "by the last timer, for the lock is held still"
        held_lane.let_go("hold")
    assert flights.status(system, instance)["status"] != "STUCK"


def lost_two_of_four(system: System, said: Path) -> tuple[str, list[str]]:
    """An instance that is called on a lane that nobody can ask, and two by whose calls the worker has lost its threads."""
    flights.define(system, ONCE)
    flights.define(system, HUNG)
    good = flights.start(system, "once", {})
    flights.until(lambda: held_lane.calls("hold"), "the call that will end")
    poison = [flights.start(system, "hung", {}) for _ in range(2)]
    flights.until(lambda: b"2 of 4 threads are lost" in said.read_bytes(), "two threads to be lost")
    return good, poison


def has_counted(system: System, instance: str) -> bool:
    with system.database.transaction() as connection:
        found = connection.execute(
            text("SELECT losses FROM step WHERE instance_id = CAST(:id AS uuid)"), {"id": instance}
        )
        return bool(found.scalar_one() >= 1)


def test_a_worker_that_has_lost_half_of_its_threads_lets_its_other_calls_end_however_long_they_take(
    system: System, first: subprocess.Popen[bytes], said: Path
) -> None:
    good, poison = lost_two_of_four(system, said)
    over = time.monotonic() + WITHIN + BUSY
    flights.until(lambda: time.monotonic() > over, "the end of the time of who is told to stop")
    assert first.poll() is None
    held_lane.let_go("hold")

    assert first.wait(timeout=WITHIN + BUSY) == hung.LOST_HANDS
    assert flights.status(system, good)["status"] == "COMPLETED"
    assert [flights.status(system, one)["steps"][0]["status"] for one in poison] == ["RETRYING"] * 2
    assert all(has_counted(system, one) for one in poison), "it was not stopped that these were lost by"


def test_a_worker_that_ends_by_itself_and_is_told_to_stop_has_its_time(
    system: System, first: subprocess.Popen[bytes], said: Path
) -> None:
    good, _ = lost_two_of_four(system, said)
    timer = threading.Timer(0.5, held_lane.let_go, ["hold"])
    timer.start()
    code, took = told_to_stop(first)

    assert code == CUT_OFF, "the hung ones"
    assert took < WITHIN + BUSY
    assert flights.status(system, good)["status"] == "COMPLETED"


def test_a_result_that_is_being_recorded_is_under_way(system: System) -> None:
    flights.define(system, HELD)
    instance = flights.start(system, "held", {})
    with flights.worker(system), system.hands.at("hung", leg=-1, limit=-1.0):
        flights.until(lambda: held_lane.calls("hold"), "the call in the middle")
        with psycopg.connect(system.database.url) as holder:
            holder.execute("SELECT FROM instance WHERE id = %s FOR UPDATE", [instance])
            held_lane.let_go("hold")
            flights.until(lambda: len(system.hands.calls()) == 1, "the end of the call")
            assert not system.hands.are_lost()
        flights.ended(system, instance)
        flights.until(system.hands.are_lost, "the end of the leg")


def test_what_is_locked_is_handed_over_as_soon_as_it_is_free_and_what_fails_is_not_put_off(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    flights.define(system, HELD)
    instance, lose, tries = flights.start(system, "held", {}), attempts.lose, count()

    def fails_once(*given: Any, **more: Any) -> None:
        if next(tries) == 0:
            raise RuntimeError("not now")
        lose(*given, **more)

    with flights.worker(system):
        flights.until(lambda: held_lane.calls("hold"), "the call in the middle")
        monkeypatch.setattr(attempts, "lose", fails_once)
        with psycopg.connect(system.database.url) as holder, ThreadPoolExecutor(1) as pool:
            holder.execute("SELECT FROM instance WHERE id = %s FOR UPDATE", [instance])
            handed = pool.submit(hand_over, system, within=60.0)
            assert hand_over(system, within=0.0) == 0
            holder.rollback()
            assert handed.result(timeout=60) >= 1, "this worker is not really stopping: it may have claimed it anew"
        with system.database.transaction() as connection:
            assert (
                connection.execute(text("SELECT count(*) FROM instance WHERE sweep_after IS NOT NULL")).scalar_one()
                == 0
            )
        held_lane.let_go("hold")
        shown = flights.ended(system, instance)
    lost = [one for one in shown["history"] if one["verb"] == "lose"]
    assert lost
    assert all("was stopped" in one["error"] for one in lost)
