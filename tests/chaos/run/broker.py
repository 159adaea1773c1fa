"""The broker of a run: it can be wiped, purged, and killed and started again on the same port, with nothing in it."""

from __future__ import annotations

import shutil
import subprocess
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path

import amqp
import redis

from orchestrator import embedded
from orchestrator.servers.child import Child, end_group, spawn
from orchestrator.servers.ports import LOOPBACK, free_port
from tests import rabbitmq

PURGED = ("legs", "far", "sweep", "landed", "landed-events", "town", "reports")
SILENT = 10.0  # seconds that a node may say nothing to who purges


class Broker(ABC):
    name: str
    url: str

    @abstractmethod
    def wipe(self) -> bool:
        """Take all messages away; the server goes on. Returns whether it has: it may be away itself."""

    @abstractmethod
    def restart(self, *, empty: bool) -> None:
        """kill -9, and a start that is not waited for. `empty`: whatever was on its disk is gone; Valkey keeps nothing."""

    @abstractmethod
    def is_there(self) -> bool:
        """Whether it answers; started again where it does not even run."""

    @abstractmethod
    def stop(self) -> None:
        """At the end."""


class Valkey(Broker):
    name = "valkey"

    def __init__(self, folder: Path) -> None:
        self._server = embedded.broker(folder)
        self.url = self._server.url

    def wipe(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=5) as client:
                return bool(client.flushall())
        except redis.RedisError:
            return False

    def restart(self, *, empty: bool) -> None:  # noqa: ARG002  # it always is
        self._server.process.kill()
        self._server.process.wait()
        self._server.process = self._server._spawn()

    def is_there(self) -> bool:
        if self._server.process.poll() is not None:
            self._server.process = self._server._spawn()
        return embedded.answers(self.url)

    def stop(self) -> None:
        self._server.stop()


class RabbitMQ(Broker):
    name = "rabbitmq"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held = ExitStack()
        self._port, mapper_port = free_port(), free_port()
        (folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = {LOOPBACK}:{self._port}\n")
        (folder / "enabled_plugins").write_text("[].\n")
        env = rabbitmq.environment(folder, mapper_port)
        argv = (rabbitmq.program("epmd"), "-address", LOOPBACK, "-port", str(mapper_port))
        self._held.enter_context(rabbitmq.running(Child(name="epmd", argv=argv, env=env), folder))
        self._node = Child(name="rabbitmq", argv=(str(rabbitmq.SCRIPTS / "rabbitmq-server"),), env=env)
        self.url = f"amqp://guest:guest@{LOOPBACK}:{self._port}//"
        self._output = folder / "rabbitmq.out"
        self._process = self._spawn()
        rabbitmq.wait_for(self._port, self._process, self._output)

    def wipe(self) -> bool:
        try:
            with amqp.Connection(
                f"{LOOPBACK}:{self._port}", connect_timeout=5, read_timeout=SILENT, write_timeout=SILENT
            ) as found:
                purged = [_purge(found, queue) for queue in PURGED]
        except (OSError, amqp.AMQPError):
            return False
        return any(purged)

    def restart(self, *, empty: bool) -> None:
        self._kill()
        if empty:
            shutil.rmtree(self._folder / "mnesia", ignore_errors=True)
        self._process = self._spawn()

    def is_there(self) -> bool:
        if self._process.poll() is not None:
            self._process = self._spawn()
        return rabbitmq.answers(self._port)

    def stop(self) -> None:
        self._kill()
        self._held.close()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._output.open("ab") as log:
            return spawn(self._node, log)

    def _kill(self) -> None:
        end_group(self._process.pid)
        self._process.wait()


def _purge(connection: amqp.Connection, queue: str) -> bool:
    try:
        connection.channel().queue_purge(queue)
    except amqp.NotFound:  # its broker came back empty, and nobody has declared it yet
        return False
    return True


def start(name: str, folder: Path) -> Broker:
    folder.mkdir(mode=0o711, exist_ok=True)
    return Valkey(folder) if name == "valkey" else RabbitMQ(folder)
