"""What is killed, wiped or stopped is made good: within a lease and a sweep, or the grace of a lost message."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator import canvas
from orchestrator.dispatch import dispatch
from orchestrator.settings import Settings
from orchestrator.store import due
from orchestrator.system import System
from tests import flights, held_lane
from tests.clock import Clock

SERVICES = """
services:
  held: {transport: local, module: tests.held_lane, timeout: 60s}
"""
HELD = """
id: held
steps:
  - {id: before, service: held.pass_by}
  - {id: during, service: held.hold}
  - {id: after, service: held.pass_by}
"""


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    services = tmp_path / "services.yaml"
    services.write_text(SERVICES)
    return replace(settings, services_file=str(services), workflows_dir=str(tmp_path), lease=2.0)


@pytest.fixture
def environment() -> dict[str, Any]:
    return {"PYTHONPATH": f"{Path.cwd()}:{':'.join(sys.path)}"}


def test_a_worker_killed_in_the_middle_of_a_step_is_taken_over_by_another(
    system: System, environment: dict[str, Any]
) -> None:
    workflow = flights.define(system, HELD)
    with flights.worker_process(system, **environment) as first:
        instance = flights.start(system, workflow, {})
        flights.until(lambda: held_lane.calls("hold"), "the call in the middle")
        first.send_signal(signal.SIGKILL)
        first.wait()
    held_lane.let_go("hold")

    with flights.worker_process(system, **environment):
        shown = flights.ended(system, instance)

    assert shown["status"] == "COMPLETED"
    assert len(set(held_lane.calls("hold"))) == 1, "both attempts carry the same key"
    assert [one["attempt"] for one in shown["steps"]] == [1, 2, 1]
    assert [one["verb"] for one in shown["history"] if one["step"] == "during"] == [
        "ready",
        "claim",
        "lose",
        "claim",
        "succeed",
    ]


def test_what_a_wiped_broker_has_lost_is_sent_again(system: System) -> None:
    workflow = flights.define(system, HELD)
    held_lane.let_go("hold")
    instances = [flights.start(system, workflow, {}) for _ in range(3)]
    assert dispatch(system) == 3
    with system.app.connection_for_write() as connection, connection.channel() as channel:
        assert channel.queue_purge("legs") == 3

    with flights.worker(system):
        ended = [flights.ended(system, instance) for instance in instances]

    assert {shown["status"] for shown in ended} == {"COMPLETED"}
    assert len(held_lane.calls("hold")) == 3


def test_a_message_that_comes_twice_is_dropped_the_second_time(system: System) -> None:
    workflow = flights.define(system, HELD)
    held_lane.let_go("hold")
    instance = flights.start(system, workflow, {})
    for _ in range(3):
        assert dispatch(system) == 1
        with system.database.transaction() as connection:
            due.unpublish(connection, [(instance, "before", "do")])

    with flights.worker(system):
        shown = flights.ended(system, instance)

    assert shown["status"] == "COMPLETED"
    assert len(held_lane.calls("hold")) == 1
    assert len(held_lane.calls("pass_by")) == 2


def test_without_beat_a_worker_sweeps_by_itself(system: System, clock: Clock) -> None:
    workflow = flights.define(system, "id: late\nsteps: [{id: wait, pause: true, timeout: 48h, onTimeout: fail}]")
    with flights.worker(system):
        instance = flights.start(system, workflow, {})
        flights.reached(system, instance, "WAITING")
        clock.advance(49 * 3600)

        assert flights.ended(system, instance)["status"] == "FAILED"


def test_beats_message_sweeps_where_the_workers_own_timers_do_not(
    settings: Settings, system: System, clock: Clock
) -> None:
    workflow = flights.define(system, "id: late\nsteps: [{id: wait, pause: true, timeout: 48h, onTimeout: fail}]")
    slow = flights.compose(replace(settings, sweep_every=3600.0))
    try:
        with flights.worker(slow):
            instance = flights.start(system, workflow, {})
            flights.reached(system, instance, "WAITING")
            clock.advance(49 * 3600)
            slow.app.send_task(canvas.SWEEP)

            assert flights.ended(system, instance)["status"] == "FAILED"
    finally:
        slow.close()
