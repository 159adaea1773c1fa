"""The broker of a run: it can be wiped, purged, and killed and started again on the same port, with nothing in it."""

from __future__ import annotations

import shutil
import subprocess
from abc import ABC, abstractmethod
from contextlib import ExitStack, suppress
from pathlib import Path

import amqp
import redis

from orchestrator import embedded
from orchestrator.servers.child import Child, end_group, spawn
from orchestrator.servers.ports import LOOPBACK, free_port
from tests import rabbitmq

PURGED = ("legs", "far", "sweep", "landed")


class Broker(ABC):
    name: str
    url: str

    @abstractmethod
    def wipe(self) -> None:
        """Take all messages away; the server goes on."""

    @abstractmethod
    def kill(self) -> None:
        """Take the server away."""

    @abstractmethod
    def revive(self, *, empty: bool) -> None:
        """Start it again. `empty`: whatever was on its disk is gone. Valkey has none, and is always empty."""

    @abstractmethod
    def stop(self) -> None:
        """At the end."""


class Valkey(Broker):
    name = "valkey"

    def __init__(self, folder: Path) -> None:
        self._server = embedded.broker(folder)
        self.url = self._server.url

    def wipe(self) -> None:
        with suppress(redis.RedisError), redis.Redis.from_url(self.url, socket_timeout=5) as client:
            client.flushall()

    def kill(self) -> None:
        self._server.process.kill()
        self._server.process.wait()

    def revive(self, *, empty: bool) -> None:  # noqa: ARG002  # it always is
        self._server.start()

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
        self._process: subprocess.Popen[bytes] | None = None
        self.revive(empty=True)

    def wipe(self) -> None:
        with suppress(OSError, amqp.AMQPError), amqp.Connection(f"{LOOPBACK}:{self._port}", connect_timeout=5) as found:
            for queue in PURGED:
                with suppress(amqp.NotFound):
                    found.channel().queue_purge(queue)

    def kill(self) -> None:
        assert self._process is not None
        end_group(self._process.pid)
        self._process.wait()

    def revive(self, *, empty: bool) -> None:
        if empty:
            shutil.rmtree(self._folder / "mnesia", ignore_errors=True)
        output = self._folder / "rabbitmq.out"
        with output.open("ab") as log:
            self._process = spawn(self._node, log)
        rabbitmq.wait_for(self._port, self._process, output)

    def stop(self) -> None:
        self.kill()
        self._held.close()


def start(name: str, folder: Path) -> Broker:
    folder.mkdir(mode=0o711, exist_ok=True)
    return Valkey(folder) if name == "valkey" else RabbitMQ(folder)
