"""The whole stack as a user has it: `orchestrator up` in a process, spoken to over HTTP and by the command line only.

Its database's clock can be moved, and what the sample lanes keep on disk can be read.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from orchestrator.servers import running_stack
from orchestrator.servers.ports import free_port
from tasks import ach_svc
from tasks.ledger import folder
from tests import flights, servers
from tests.clock import Clock
from tests.processes import wait_until

ROOT = Path(__file__).parents[1]
COMMAND = str(Path(sys.executable).with_name("orchestrator"))
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
READY_WITHIN = 60.0
DAY = 86_400.0  # seconds
BRISK = {"ORCHESTRATOR_SWEEP_EVERY": "200ms", "ORCHESTRATOR_LEASE": "2s"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    body: Any  # JSON, or the text where it is none
    headers: Mapping[str, str]


def call(url: str, body: Any = None, *, method: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """One HTTP request, whatever it is answered with. `body`: JSON, or a text as it is."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body is not None else None
    given = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data=data, method=method, headers=given)
    try:
        answer = OPENER.open(request, timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return Answer(status=answer.status, body=_read(answer.read()), headers=dict(answer.headers))


def _read(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode()


def environment(**more: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    return {**plain, **more}


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The installed command, as somebody types it in the repository's folder."""
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=ROOT,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


class Tower:
    """A running stack."""

    def __init__(self, data_dir: Path, process: subprocess.Popen[str], url: str) -> None:
        self.data_dir, self.process, self.url = data_dir, process, url
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._listen)
        self.reader.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip() for line in self.process.stdout)

    def says(self, pattern: str) -> None:
        def said() -> bool:
            assert self.process.poll() is None, "\n".join(self.lines)
            return any(re.search(pattern, line) for line in list(self.lines))

        wait_until(said, within=READY_WITHIN)

    # -- the interfaces

    def ask(self, path: str, body: Any = None, **more: Any) -> Answer:
        return call(path if path.startswith("http") else self.url + path, body, **more)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command about this stack, which it finds by its data directory."""
        return run(*arguments, "--data-dir", str(self.data_dir))

    def start(self, workflow: str, payload: Any, **more: Any) -> str:
        answer = self.ask("/api/workflows/start", {"workflowId": workflow, "payload": payload}, **more)
        assert answer.status == 201, answer
        return str(answer.body["instanceId"])

    def put(self, text: str) -> str:
        """Upload a definition; its id."""
        found = re.search(r"^id: (\S+)", text, re.MULTILINE)
        assert found is not None
        answer = self.ask(f"/api/definitions/{found[1]}", text, method="PUT")
        assert answer.status in (200, 201), answer
        return found[1]

    def status(self, instance: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(f"/api/workflows/{instance}/status").body
        return found

    def ended(self, instance: str) -> dict[str, Any]:
        return flights.until(
            lambda: shown if (shown := self.status(instance))["ended"] else None, f"the end of {instance}"
        )

    def step(self, instance: str, step: str) -> dict[str, Any] | None:
        return next((one for one in self.status(instance)["steps"] if one["step"] == step), None)

    def step_is(self, instance: str, step: str, wanted: str) -> dict[str, Any]:
        return flights.until(
            lambda: found if (found := self.step(instance, step)) and found["status"] == wanted else None,
            f"{step} of {instance} is {wanted}",
        )

    # -- its clock

    @cached_property
    def clock(self) -> Clock:
        stack = running_stack.find(self.data_dir)
        assert stack is not None
        assert stack.database_url is not None
        clock = Clock(stack.database_url)
        clock.install()
        return clock


@contextmanager
def tower(*, workers: int = 1, **env: str) -> Iterator[Tower]:
    """Starts in a few seconds; to be shared by a module's tests. `env`: settings."""
    with servers.data_directory() as data_dir, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORCHESTRATOR_DATA_DIR", str(data_dir))  # where the functions below look
        port = free_port()
        command = [COMMAND, "up", "--port", str(port), "--data-dir", str(data_dir), "--workers", str(workers)]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(**BRISK, **env), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        running = Tower(data_dir, process, f"http://127.0.0.1:{port}")
        try:
            running.says(rf"^ready: {re.escape(running.url)}/ui$")
            yield running
        finally:
            _stop(running)


def _stop(running: Tower) -> None:
    running.process.terminate()
    running.process.wait(30)
    running.reader.join(5)
    assert running.process.stdout is not None
    running.process.stdout.close()


# What the sample lanes keep on disk


def money(trace: str) -> list[tuple[str, int]]:
    """The charges and refunds of an instance, in order, in cents."""
    rows = ach_svc.LEDGER.rows("SELECT kind, cents FROM entries WHERE trace = ? ORDER BY id", trace)
    return [(row["kind"], row["cents"]) for row in rows]


def letters(trace: str, tenant: str = "local") -> list[str]:
    """What the applicant was written, in no order."""
    return [path.read_text(encoding="utf-8") for path in folder("letters", tenant).glob(f"{trace}-*.txt")]


def papers(trace: str, desk: str, tenant: str = "local") -> list[dict[str, Any]]:
    """What lies in somebody's inbox, in the order of the steps."""
    found = sorted(folder("inbox", tenant, desk).glob(f"{trace}*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]
