"""Runs a command beside a RabbitMQ of its own: `python -m tests.rabbitmq pytest -m rabbitmq`.

The node has its own name, ports, folders and cookie, listens on loopback only (its port mapper too), and is gone
when the command has ended. The management plugin is there to make a vhost for each test.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import amqp

from orchestrator.servers.child import Child, end_group, spawn
from orchestrator.servers.ports import LOOPBACK, free_port
from tests import servers

SCRIPTS = Path("/usr/lib/rabbitmq/bin")  # Debian's wrappers in /usr/sbin would change the user and the folders
READY_WITHIN = 90.0  # seconds
STOP_WITHIN = 30.0


@dataclass(frozen=True, kw_only=True)
class Node:
    """A broker of its own in a folder: it may be started again there."""

    folder: Path
    mapper: Child
    child: Child
    port: int
    api: str

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}//"

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[bytes]]:
        """Running, and answering, until the end of the block."""
        with running(self.child, self.folder) as process:
            wait_for(self.port, process, self.folder / "rabbitmq.out")
            yield process


@contextmanager
def node() -> Iterator[Node]:
    """One that has not been started yet; its port mapper has."""
    with servers.data_directory() as folder:
        amqp_port, http_port, mapper_port = free_port(), free_port(), free_port()
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {LOOPBACK}:{amqp_port}\n"
            f"management.tcp.ip = {LOOPBACK}\n"
            f"management.tcp.port = {http_port}\n"
        )
        (folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        env = environment(folder, mapper_port)
        mapper = Child(name="epmd", argv=(program("epmd"), "-address", LOOPBACK, "-port", str(mapper_port)), env=env)
        child = Child(name="rabbitmq", argv=(str(SCRIPTS / "rabbitmq-server"),), env=env)
        with running(mapper, folder):
            yield Node(folder=folder, mapper=mapper, child=child, port=amqp_port, api=f"http://{LOOPBACK}:{http_port}")


@contextmanager
def rabbitmq() -> Iterator[Mapping[str, str]]:
    """The environment variables by which the fixtures find it."""
    with node() as found, found.up():
        yield {servers.BROKER: found.url, servers.RABBITMQ_API: found.api}


def environment(folder: Path, mapper_port: int) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": str(folder),  # of the Erlang cookie
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "ERL_EPMD_PORT": str(mapper_port),
        "RABBITMQ_NODENAME": f"tests{os.getpid()}@localhost",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
    }


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None or not SCRIPTS.is_dir():
        sys.exit("RabbitMQ is not here: apt-get install rabbitmq-server")
    return found


@contextmanager
def running(child: Child, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{child.name}.out").open("wb") as output:
        process = spawn(child, output)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            end_group(process.pid)
            process.wait()
        end_group(process.pid)


def wait_for(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    until = time.monotonic() + READY_WITHIN
    while not answers(port):
        if process.poll() is not None or time.monotonic() > until:
            sys.exit(f"RabbitMQ does not start:\n{output.read_text()[-3000:]}")
        time.sleep(0.2)


def answers(port: int) -> bool:
    try:
        with amqp.Connection(f"{LOOPBACK}:{port}", connect_timeout=2):
            return True
    except (OSError, amqp.AMQPError):
        return False


def main() -> int:
    with rabbitmq() as found:
        return subprocess.run(sys.argv[1:], env={**os.environ, **found}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
