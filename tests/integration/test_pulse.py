"""A worker that is connected and deaf notices, consumes anew, and ends when that does not help."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.pulse import DEAF, FORGOTTEN
from orchestrator.settings import Settings
from orchestrator.system import System
from tests import flights, held_lane

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

PATIENCE = 3.0  # seconds of silence
WITHIN = 3.0  # seconds for who is told to stop
SERVICES = """
services:
  deaf: {transport: local, module: tests.deaf_lane}
  held: {transport: local, module: tests.held_lane, timeout: 60s}
  once: {transport: local, module: tests.held_lane, timeout: 60s, idempotency: none}
"""
SHORT = "id: short\nsteps: [{id: only, service: deaf.pass_by}]"
ONCE = "id: once\nsteps: [{id: during, service: once.hold}]"
HELD = "id: held\nsteps: [{id: during, service: held.hold}]"


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    services = tmp_path / "services.yaml"
    services.write_text(SERVICES)
    return replace(settings, services_file=str(services), workflows_dir=str(tmp_path), deaf_after=PATIENCE,
                   republish_after=60.0, stop_within=WITHIN)  # fmt: skip


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes have to start: on a busy machine that takes its time."""
    monkeypatch.setattr(flights, "PATIENCE", 100.0)


@pytest.fixture
def said(tmp_path: Path) -> Path:
    return tmp_path / "worker.log"


@pytest.fixture
def worker_process(system: System, said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that consumes; what it says is in a file."""
    flights.define(system, SHORT)
    path = f"{Path.cwd()}:{':'.join(sys.path)}"
    with said.open("wb") as output, flights.worker_process(system, output=output, PYTHONPATH=path) as process:
        flights.ended(system, flights.start(system, "short", {}))
        yield process


def is_heard_again(system: System) -> bool:
    status: str = flights.ended(system, flights.start(system, "short", {}))["status"]
    return status == "COMPLETED"


@pytest.mark.parametrize("how", ["cancel", "forget"])
def test_a_deaf_worker_consumes_anew_within_seconds(
    system: System, worker_process: subprocess.Popen[bytes], said: Path, how: str
) -> None:
    flights.define(system, f"id: deafen\nsteps: [{{id: only, service: deaf.{how}}}]")
    flights.ended(system, flights.start(system, "deafen", {}))
    began = time.monotonic()
    flights.until(lambda: "consumes anew" in said.read_text(), "a new connection")

    assert is_heard_again(system)

    print(f"deaf by {how}: consuming again after {time.monotonic() - began:.1f} s")
    assert "hears nothing from it: it consumes anew" in said.read_text()
    assert worker_process.poll() is None


def test_a_worker_that_stays_deaf_ends_so_that_it_is_started_again(
    system: System, worker_process: subprocess.Popen[bytes], said: Path
) -> None:
    flights.define(system, "id: deafen\nsteps: [{id: only, service: deaf.stay}]")
    flights.ended(system, flights.start(system, "deafen", {}))

    assert worker_process.wait(timeout=60) == DEAF
    assert "still hears nothing from the broker" in said.read_text()


def test_a_worker_that_stays_deaf_lets_its_calls_end_for_they_need_no_broker(
    system: System, worker_process: subprocess.Popen[bytes], said: Path
) -> None:
    flights.define(system, ONCE)
    flights.define(system, "id: deafen\nsteps: [{id: only, service: deaf.stay}]")
    instance = flights.start(system, "once", {})
    flights.until(lambda: held_lane.calls("hold"), "the call")
    flights.ended(system, flights.start(system, "deafen", {}))
    flights.until(lambda: "still hears nothing" in said.read_text(), "its end to begin")
    over = time.monotonic() + WITHIN + 2.0
    flights.until(lambda: time.monotonic() > over, "the end of the time of who is told to stop")
    assert worker_process.poll() is None
    held_lane.let_go("hold")

    assert worker_process.wait(timeout=60) == DEAF
    assert flights.status(system, instance)["status"] == "COMPLETED"


def test_a_worker_that_is_slow_to_connect_anew_keeps_the_connection_that_it_gets(
    system: System, worker_process: subprocess.Popen[bytes], said: Path
) -> None:
    flights.define(system, "id: deafen\nsteps: [{id: only, service: deaf.linger}]")
    flights.ended(system, flights.start(system, "deafen", {}))
    flights.until(lambda: "still not connected" in said.read_text(), "more than its patience without a connection")
    held_lane.let_go("linger")

    assert is_heard_again(system)
    assert worker_process.poll() is None
    assert "Deaf" not in said.read_text()


def test_a_worker_that_never_connects_anew_ends_so_that_it_is_started_again(
    system: System, worker_process: subprocess.Popen[bytes]
) -> None:
    flights.define(system, "id: deafen\nsteps: [{id: only, service: deaf.linger}]")
    flights.ended(system, flights.start(system, "deafen", {}))

    assert worker_process.wait(timeout=60) == DEAF


def test_a_worker_whose_threads_are_all_busy_is_not_deaf(
    system: System, worker_process: subprocess.Popen[bytes], said: Path
) -> None:
    flights.define(system, HELD)
    instances = [flights.start(system, "held", {}) for _ in range(4)]  # as many as it has threads
    flights.until(lambda: len(held_lane.calls("hold")) == 4, "all threads busy")
    busy_until = time.monotonic() + 3 * PATIENCE
    flights.until(lambda: time.monotonic() > busy_until, "the end of more than its patience")
    held_lane.let_go("hold")

    assert {flights.ended(system, one)["status"] for one in instances} == {"COMPLETED"}
    assert is_heard_again(system)
    assert "hears nothing" not in said.read_text()


def test_a_worker_that_was_stopped_and_woken_is_not_deaf(
    system: System, worker_process: subprocess.Popen[bytes], said: Path
) -> None:
    worker_process.send_signal(signal.SIGSTOP)
    asleep_until = time.monotonic() + 2 * PATIENCE
    flights.until(lambda: time.monotonic() > asleep_until, "the end of more than its patience")
    worker_process.send_signal(signal.SIGCONT)

    assert is_heard_again(system)
    assert "hears nothing" not in said.read_text()


def test_what_a_worker_leaves_on_the_broker_is_forgotten(
    system: System, worker_process: subprocess.Popen[bytes]
) -> None:
    if not (system.settings.broker_url or "").startswith("redis"):
        pytest.skip("RabbitMQ deletes the queue of whoever is gone: x-expires")
    with system.app.connection_for_write() as connection:
        client = connection.default_channel.client
        worker_process.send_signal(signal.SIGSTOP)  # what it has sent itself by then may lie there
        for key in client.keys("pulse.*"):
            assert 0 < client.pttl(key) <= FORGOTTEN
