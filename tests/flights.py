"""Real workers for the tests: one in a thread of this process, or processes that may be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any, TypeVar

from celery.contrib.testing.worker import start_worker
from celery.worker import state

from orchestrator import bootstrap, engine, queries
from orchestrator.process import Threads
from orchestrator.servers.ports import free_port
from orchestrator.servers.stack import environment
from orchestrator.system import System
from tasks import dead_letters, landed, legs

T = TypeVar("T")
TENANT = "local"
SERVE = "from orchestrator.api.serve import run; from orchestrator.settings import load; run(load())"
WAKE = "tests.wake"  # a task that does nothing
PATIENCE = 45.0  # seconds before a condition counts as never met; nothing is timed by it


@contextmanager
def worker(system: System, *, threads: int = 4) -> Iterator[System]:
    """A Celery worker with its dispatcher, sweep and leases, in threads of this process."""
    legs.register(system.app, system)
    landed.register(system.app, system)
    dead_letters.register(system.app, system)
    system.app.task(name=WAKE, shared=False)(_nothing)
    own = Threads(system)
    own.start()
    try:
        with start_worker(system.app, pool="threads", concurrency=threads, perform_ping_check=False,
                          shutdown_timeout=30, loglevel="WARNING"):  # fmt: skip
            try:
                yield system
            finally:
                _wake_to_stop(system)
    finally:
        system.stopping.set()
        own.stop()


def _nothing() -> None:
    pass


def _wake_to_stop(system: System) -> None:
    """A worker in a thread gets no signal that would interrupt its wait for the broker, ten seconds on RabbitMQ."""
    state.should_terminate = 0
    system.app.send_task(WAKE)


@contextmanager
def worker_process(
    system: System, *, output: IO[bytes] | None = None, **changed: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that may be killed; `changed` adds to its environment, `output` takes what it says."""
    argv = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-P", "threads", "-c", "4", "-l", "WARNING",
            "--without-gossip", "--without-mingle", "--without-heartbeat"]  # fmt: skip
    env = {**os.environ, "PYTHONWARNINGS": "ignore", **environment(system.settings), **changed}
    process = subprocess.Popen(argv, env=env, stdout=output, stderr=output)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()


@contextmanager
def web_process(system: System, **changed: str) -> Iterator[str]:
    """The real web server, on a port of its own: its address."""
    port = free_port()
    settings = replace(system.settings, port=port)
    env = {**os.environ, **environment(settings), **changed}
    process = subprocess.Popen([sys.executable, "-c", SERVE], env=env, start_new_session=True)
    try:
        until(lambda: _is_served(port), "the web server")
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_served(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def start(system: System, workflow_id: str, payload: Mapping[str, Any], **more: Any) -> str:
    return engine.start(system, tenant=TENANT, workflow_id=workflow_id, payload=payload, **more).instance_id


def define(system: System, text: str) -> str:
    """Store a definition, and return its id."""
    from orchestrator import loader

    workflow_id = loader.load(text, lanes=system.lanes).id
    engine.put_definition(system, tenant=TENANT, workflow_id=workflow_id, text=text)
    return workflow_id


def status(system: System, instance_id: str) -> dict[str, Any]:
    return queries.status(system, tenant=TENANT, instance_id=instance_id)


def until(condition: Callable[[], T | None], what: str) -> T:
    """Wait for a condition; fails saying what never came."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.01)  # between two looks at a condition, never instead of one
    raise AssertionError(f"never came: {what}")


def ended(system: System, instance_id: str) -> dict[str, Any]:
    """The status of an instance that has ended."""
    return until(
        lambda: shown if (shown := status(system, instance_id))["ended"] else None, f"the end of {instance_id}"
    )


def reached(system: System, instance_id: str, wanted: str) -> dict[str, Any]:
    """The status of an instance once it is in the wanted state."""
    return until(
        lambda: shown if (shown := status(system, instance_id))["status"] == wanted else None,
        f"{wanted} of {instance_id}, which is {status(system, instance_id)['status']}",
    )


def compose(settings: Any) -> System:
    system = bootstrap.compose(settings)
    bootstrap.load_workflows(system)
    return system
