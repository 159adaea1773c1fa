"""`orchestrator up` and HTTP: flights complete whoever is killed, and nothing is left over."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.servers.descendants import descendants
from orchestrator.servers.ports import free_port
from tests import held_lane, servers
from tests.processes import gone, wait_until

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
COMMAND = str(Path(sys.executable).with_name("orchestrator"))
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
STOPS_WITHIN = 15.0  # seconds: the promise of `up`
READY_WITHIN = 60.0
DONE_WITHIN = 40.0

SERVICES = "services:\n  held: {transport: local, module: tests.held_lane}\n"
WORKFLOW = """\
id: held-flight
steps:
  - {id: before, service: held.pass_by}
  - {id: during, service: held.hold}
  - {id: after, service: held.pass_by}
"""


class Up:
    """`orchestrator up`, with what it prints."""

    def __init__(self, data_dir: Path, configuration: Path) -> None:
        self.port = free_port()
        command = [COMMAND, "up", "--port", str(self.port), "--data-dir", str(data_dir), "--workers", "2"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")} | {
            "ORCHESTRATOR_WORKFLOWS_DIR": str(configuration / "workflows"),
            "ORCHESTRATOR_SERVICES_FILE": str(configuration / "services.yaml"),
            "ORCHESTRATOR_LEASE": "2s",
            "ORCHESTRATOR_SWEEP_EVERY": "200ms",
        }
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip() for line in self.process.stdout)

    def says(self, pattern: str, *, within: float = READY_WITHIN) -> None:
        def said() -> bool:
            assert self.process.poll() is None, "\n".join(self.lines)
            return any(re.search(pattern, line) for line in list(self.lines))

        wait_until(said, within=within)

    def ask(self, path: str, body: Any = None) -> dict[str, Any]:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=data, headers={"Content-Type": "application/json"}
        )
        with OPENER.open(request, timeout=20) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def start(self) -> str:
        started = self.ask("/api/workflows/start", {"workflowId": "held-flight", "payload": {}})
        return str(started["instanceId"])

    def status(self, instance: str) -> dict[str, Any]:
        return self.ask(f"/api/workflows/{instance}/status")

    def completes(self, instance: str) -> None:
        wait_until(lambda: self.status(instance)["ended"] is not None, within=DONE_WITHIN)
        assert self.status(instance)["status"] == "COMPLETED"

    def worker_of(self, instance: str, step: str) -> int | None:
        """The process that runs a step: names of workers are host:process:random."""
        shown = next((one for one in self.status(instance)["steps"] if one["step"] == step), None)
        return int(shown["worker"].rsplit(":", 2)[1]) if shown and shown["worker"] else None

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(STOPS_WITHIN)
        finally:
            self._reader.join(1)

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.stop()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """One for all: making a cluster takes longest."""
    with servers.data_directory() as path:
        yield path


@pytest.fixture
def configuration(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCHESTRATOR_DATA_DIR", str(data_dir))  # where this process finds the held lane's files
    for file in held_lane.folder().iterdir():
        file.unlink()
    (tmp_path / "services.yaml").write_text(SERVICES)
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "held-flight.yaml").write_text(WORKFLOW)
    return tmp_path


@contextmanager
def up(data_dir: Path, configuration: Path) -> Iterator[Up]:
    running = Up(data_dir, configuration)
    try:
        running.says(rf"^ready: http://127\.0\.0\.1:{running.port}/ui$")
        yield running
    finally:
        running.clean_up()


def test_a_flight_started_over_http_completes_although_its_worker_is_killed(
    data_dir: Path, configuration: Path
) -> None:
    with up(data_dir, configuration) as stack:
        instance = stack.start()
        wait_until(lambda: len(held_lane.calls("hold")) == 1, within=DONE_WITHIN)
        killed = stack.worker_of(instance, "during")
        assert killed in descendants(stack.process.pid)
        os.kill(killed, signal.SIGKILL)
        stack.says(r"worker-\d was ended by SIGKILL; it is started again in")
        wait_until(lambda: len(held_lane.calls("hold")) == 2, within=DONE_WITHIN)
        assert stack.worker_of(instance, "during") != killed
        held_lane.let_go("hold")
        stack.completes(instance)
    first, again = held_lane.calls("hold")
    assert first == again, "whoever takes over calls with the same key"
    assert len(held_lane.calls("pass_by")) == 2, "what was done before and after is done once"


def test_a_stack_that_is_told_to_stop_leaves_nothing_but_its_data(data_dir: Path, configuration: Path) -> None:
    held_lane.let_go("hold")
    with up(data_dir, configuration) as stack:
        instance = stack.start()
        stack.completes(instance)
        started = descendants(stack.process.pid)
        assert len(started) >= 6  # Postgres, broker, two workers, beat, web
        assert stack.stop() == 0
        assert [one for one in started if not gone(one)] == []
    with up(data_dir, configuration) as stack:
        assert stack.status(instance)["status"] == "COMPLETED"
        stack.completes(stack.start())
