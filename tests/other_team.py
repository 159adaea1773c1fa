"""Another team's Celery app: plain Celery, no result backend, nothing of ours. Run by `process`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from celery import Celery, Task

QUEUE = "reports"
FOLDER, FORWARD, SERIALIZER = "OTHER_TEAM_FOLDER", "OTHER_TEAM_FORWARDS", "OTHER_TEAM_SERIALIZER"
app = Celery("other_team", broker=os.environ.get("OTHER_TEAM_BROKER"), set_as_current=False)
app.conf.update(task_default_queue=QUEUE, broker_connection_retry_on_startup=True, worker_enable_remote_control=False,
                task_serializer=os.environ.get(SERIALIZER, "json"))  # fmt: skip


def note(entry: dict[str, Any]) -> None:
    with (Path(os.environ[FOLDER]) / "effects").open("a") as file:
        file.write(json.dumps(entry) + "\n")


@app.task(name="reports.write", bind=True)  # type: ignore[untyped-decorator]
def write(self: Task, **call: Any) -> dict[str, Any]:
    headers = {name: self.request.headers[name] for name in ("Idempotency-Key", "X-Attempt", "traceparent")}
    note({"task": "write", "id": self.request.id, "headers": headers, "call": call})
    return {"pages": 3, "on": datetime(2026, 1, 2, tzinfo=UTC)}


@app.task(name="reports.explode")  # type: ignore[untyped-decorator]
def explode(**call: Any) -> None:
    note({"task": "explode", "call": call})
    raise ValueError("no such month")


@app.task(name="reports.retract")  # type: ignore[untyped-decorator]
def retract(**call: Any) -> str:
    note({"task": "retract", "call": call})
    return "retracted"


@app.task(name="reports.shapeless")  # type: ignore[untyped-decorator]
def shapeless(**call: Any) -> object:
    note({"task": "shapeless", "call": call})
    return object()


@app.task(name="reports.large")  # type: ignore[untyped-decorator]
def large(**call: Any) -> str:
    note({"task": "large", "call": call})
    return "x" * 1_500_000


@app.task(name="reports.persevere", bind=True, max_retries=2)  # type: ignore[untyped-decorator]
def persevere(self: Task, **call: Any) -> str:
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return "at last"


@app.task(name="reports.die")  # type: ignore[untyped-decorator]
def die(**call: Any) -> None:
    """In a process of the prefork pool."""
    note({"task": "die", "call": call})
    os.kill(os.getpid(), signal.SIGKILL)


if os.environ.get(FORWARD):

    @app.task(name="orchestrator.failed")  # type: ignore[untyped-decorator]
    def failed(request: Any, error: BaseException, traceback: Any, **answer: str) -> None:
        """The errback that sends on what the error says; docs/reference/lane-contract.md has it."""
        told = {**answer, "error": f"{type(error).__name__}: {error}"}
        app.send_task("orchestrator.failed", kwargs=told, exchange="orchestrator.answers", routing_key="landed")


@contextmanager
def process(broker_url: str, folder: Path, pool: str = "threads", **changed: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of it, that may be killed."""
    argv = [sys.executable, "-m", "celery", "-A", "tests.other_team", "worker", "-P", pool, "-c", "2", "-l", "WARNING",
            "--without-gossip", "--without-mingle", "--without-heartbeat"]  # fmt: skip
    given = {"PYTHONWARNINGS": "ignore", "OTHER_TEAM_BROKER": broker_url, FOLDER: str(folder)}
    running = subprocess.Popen(argv, env={**os.environ, **given, **changed})
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGKILL)
        running.wait()


def effects(folder: Path) -> list[dict[str, Any]]:
    """What its tasks have noted, in order."""
    path = folder / "effects"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
