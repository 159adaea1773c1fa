"""Processes of two programs, old and new, on the same database and the same queues."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.servers.ports import free_port
from orchestrator.servers.stack import answers, environment
from orchestrator.settings import Settings
from tests import processes

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the environment names
READY_WITHIN, STOP_WITHIN = 90.0, 90.0  # seconds, on a busy machine; nothing is timed by them


@dataclass(frozen=True, kw_only=True)
class Program:
    """One version of ours, as it is installed."""

    name: str
    folder: Path
    command: tuple[str, ...]

    def spawn(self, settings: Settings, *arguments: str) -> subprocess.Popen[bytes]:
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        env = {**inherited, "PYTHONWARNINGS": "ignore", **environment(settings)}
        return subprocess.Popen([*self.command, *arguments], cwd=self.folder, env=env)

    def run(self, settings: Settings, *arguments: str) -> None:
        process = self.spawn(settings, *arguments)
        assert process.wait(STOP_WITHIN) == 0, f"{self.name}: {arguments}"


@dataclass(kw_only=True)
class Fleet:
    """The workers of a program, and one web server."""

    program: Program
    settings: Settings
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    web: subprocess.Popen[bytes] | None = None
    pids: set[int] = field(default_factory=set)  # of all workers that it has ever had

    def start(self, workers: int) -> None:
        """Returns once the web server answers; the workers may take a little longer."""
        started = [self.program.spawn(self.settings, "worker", "--concurrency", "4") for _ in range(workers)]
        self.workers += started
        self.pids |= {worker.pid for worker in started}
        self.settings = replace(self.settings, port=free_port())
        self.web = self.program.spawn(self.settings, "web")
        processes.wait_until(answers(f"{self.settings.base_url}/readyz"), within=READY_WITHIN)

    def leave(self) -> None:
        """All are told to stop; `left` waits for their ends."""
        for process in self._running():
            process.send_signal(signal.SIGTERM)

    def left(self, *, codes: Collection[int] = (0,)) -> None:
        for process in self._running():
            code = process.wait(STOP_WITHIN)
            assert code in codes, f"{self.program.name}: {process.args!r} ended with {code}"
        self.workers, self.web = [], None

    def kill(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        if self.web is not None:
            self.web.terminate()  # a killed one would leave a process of gunicorn's
            self.web.wait()

    def _running(self) -> list[subprocess.Popen[bytes]]:
        return [*self.workers, *([self.web] if self.web else [])]

    # -- over HTTP

    def put(self, workflow: str, text: str) -> None:
        self._ask("PUT", f"/api/definitions/{workflow}", text.encode(), "application/yaml")

    def begin(self, workflow: str, payload: Mapping[str, Any]) -> str:
        body = json.dumps({"workflowId": workflow, "payload": payload}).encode()
        started: str = self._ask("POST", "/api/workflows/start", body)["instanceId"]
        return started

    def decide(self, path: str) -> None:
        self._ask("POST", path, b'{"decision": "approved"}')

    def status(self, instance: str) -> dict[str, Any]:
        return self._ask("GET", f"/api/workflows/{instance}/status")

    def _ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> dict[str, Any]:
        request = urllib.request.Request(f"{self.settings.base_url}{path}", body, {"Content-Type": kind}, method=method)
        with DIRECT.open(request, timeout=60) as answer:
            told: dict[str, Any] = json.load(answer)
        return told


@contextmanager
def fleet(program: Program, settings: Settings) -> Iterator[Fleet]:
    """Nothing runs yet; at the end nothing does any more."""
    fleet = Fleet(program=program, settings=settings)
    try:
        yield fleet
    finally:
        fleet.kill()
