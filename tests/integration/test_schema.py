"""The database is upgraded while others work on it, by several at once, and a program that does not fit it says so."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from orchestrator import boards, bootstrap, queries
from orchestrator.errors import SchemaError
from orchestrator.servers.stack import command
from orchestrator.settings import Settings
from orchestrator.store import programs, schema
from orchestrator.store.database import Database, plain_url, upgrade
from orchestrator.store.schema import Program, Schema
from tests import flights, processes, servers
from tests.services import Airport

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
REPLICAS = 4
WAITS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture
def empty(postgres_server: str) -> Iterator[str]:
    with servers.database(postgres_server) as url:
        yield url


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The migrations of a program that is yet to be written: ours, and what a test adds."""
    folder = tmp_path / "versions"
    folder.mkdir()
    for file in schema.VERSIONS.glob("[0-9]*.py"):
        (folder / file.name).write_text(file.read_text())
    return folder


def add(folder: Path, body: str, *, mark: str = "", imports: str = "from alembic import op") -> str:
    """One more migration; returns its revision."""
    newest = max(file.name[:4] for file in folder.glob("[0-9]*.py"))
    revision = f"{int(newest) + 1:04}"
    (folder / f"{revision}_later.py").write_text(
        f'"""Later."""\n{imports}\nrevision = "{revision}"\ndown_revision = "{newest}"\n{mark}\n'
        f"def upgrade():\n    {body}\n"
    )
    schema.program.cache_clear()
    return revision


def present(url: str) -> Schema:
    with closing(Database(url, pool_size=1)) as opened, opened.transaction() as connection:
        return schema.read(connection)


def upgrading(url: str) -> subprocess.Popen[str]:
    env = {**os.environ, "ORCHESTRATOR_DATABASE_URL": url, "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen([*command(), "db", "upgrade"], env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)  # fmt: skip


@pytest.mark.parametrize("since", [None, "0005"], ids=["an empty database", "an old one"])
def test_of_several_replicas_that_start_at_once_one_migrates_and_all_go_on(
    empty: str, since: str | None, tmp_path: Path
) -> None:
    if since:
        old = tmp_path / "old"
        old.mkdir()
        for file in schema.VERSIONS.glob("[0-9]*.py"):
            if file.name[:4] <= since:
                (old / file.name).write_text(file.read_text())
        upgrade(empty, versions=old)
        assert present(empty).revision == since
    replicas = [upgrading(empty) for _ in range(REPLICAS)]
    said = [replica.communicate(timeout=100)[0] for replica in replicas]
    assert [replica.returncode for replica in replicas] == [0] * REPLICAS, said
    assert present(empty).revision == schema.program().knows
    with psycopg.connect(empty) as connection:
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


def test_a_migration_that_finds_its_table_taken_steps_back_and_comes_again(
    database_url: str, later: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(schema, "LOCK_TIMEOUT", "100ms")
    revision = add(later, 'op.execute("ALTER TABLE step ADD colour text")')
    with psycopg.connect(plain_url(database_url)) as holder:
        holder.execute("SELECT count(*) FROM step")  # and does not end its transaction
        migrating = threading.Thread(target=upgrade, args=(database_url,), kwargs={"versions": later})
        migrating.start()
        flights.until(lambda: "waits for its turn" in caplog.text, "a migration that was refused the table")
        with psycopg.connect(plain_url(database_url)) as traffic:
            traffic.execute("SET statement_timeout = '5s'")
            traffic.execute("SELECT count(*) FROM step")
        assert present(database_url).revision != revision
    migrating.join(timeout=30)
    assert present(database_url).revision == revision


def test_a_migration_that_is_never_let_in_ends_with_what_postgres_says(
    database_url: str, later: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LOCK_TIMEOUT", "50ms")
    add(later, 'op.execute("ALTER TABLE step ADD colour text")')
    with psycopg.connect(plain_url(database_url)) as holder:
        holder.execute("SELECT count(*) FROM step")
        with pytest.raises(OperationalError, match="lock timeout"):
            upgrade(database_url, versions=later, patience=0.0)


def test_an_index_is_built_beside_the_traffic_and_beside_replicas_that_wait_for_it(
    database_url: str, later: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = add(
        later, 'online.index("step_colour", "step (tenant)")', imports="from orchestrator.store import online"
    )
    with psycopg.connect(plain_url(database_url)) as writer:
        writer.execute("LOCK TABLE step IN ROW EXCLUSIVE MODE")  # as who writes: an ordinary CREATE INDEX waits for him
        replicas = [
            threading.Thread(target=upgrade, args=(database_url,), kwargs={"versions": later}) for _ in range(3)
        ]
        for replica in replicas:
            replica.start()
        with psycopg.connect(plain_url(database_url), autocommit=True) as watcher:
            flights.until(lambda: watcher.execute(WAITS).fetchone() != (0,), "the build, waiting for the writer's end")
            watcher.execute("SET statement_timeout = '5s'")
            watcher.execute("UPDATE step SET reason = NULL")  # goes in between
    for replica in replicas:
        replica.join(timeout=60)
    assert present(database_url).revision == revision
    with psycopg.connect(plain_url(database_url)) as connection:
        valid = connection.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'step_colour'::regclass")
        assert valid.fetchone() == (True,)


def test_who_is_older_than_a_contraction_allows_is_refused_and_who_is_not_goes_on(
    database_url: str, later: Path
) -> None:
    ours = schema.program()
    add(later, 'op.execute("ALTER TABLE step ADD colour text")')
    upgrade(database_url, versions=later)
    with closing(Database(database_url, pool_size=1)) as opened, opened.transaction() as connection:
        schema.check(connection)  # a newer schema, and nothing was taken from it
    expanded = max(file.name[:4] for file in later.glob("[0-9]*.py"))
    revision = add(later, 'op.execute("ALTER TABLE step DROP gate")', mark=f'UNUSED_SINCE = "{expanded}"')
    upgrade(database_url, versions=later)
    assert present(database_url) == Schema(revision=revision, oldest_program=expanded)
    with (
        closing(Database(database_url, pool_size=1)) as opened,
        opened.transaction() as connection,
        pytest.raises(SchemaError, match=f"serves programs that know {expanded} or newer, and this one knows"),
    ):
        schema.check(connection)
    assert schema.misfit(present(database_url), Program(needs=expanded, knows=expanded, serves=None)) is None
    with pytest.raises(SchemaError):
        upgrade(database_url)
    assert schema.program() == ours


def test_nothing_is_taken_from_under_a_program_that_is_still_connected(database_url: str, later: Path) -> None:
    expanded = add(later, 'op.execute("ALTER TABLE step ADD colour text")')
    contracted = add(later, 'op.execute("ALTER TABLE step DROP gate")', mark=f'UNUSED_SINCE = "{expanded}"')
    with closing(Database(database_url, pool_size=1)) as older:
        with older.transaction() as connection:
            schema.read(connection)
        with pytest.raises(SchemaError, match=r"such are connected \(orchestrator .* schema \d{4} protocol 1\)"):
            upgrade(database_url, versions=later)
    flights.until(lambda: _others(database_url) == 0, "the end of the older program's connection")
    upgrade(database_url, versions=later)
    assert present(database_url).revision == contracted


def _others(url: str) -> int:
    with closing(Database(url, pool_size=1)) as opened, opened.transaction() as connection:
        return len(programs.connected(connection))


def test_the_upgrade_of_a_program_that_is_older_than_the_schema_changes_nothing(database_url: str, later: Path) -> None:
    revision = add(later, 'op.execute("ALTER TABLE step ADD colour text")')
    upgrade(database_url, versions=later)
    replica = upgrading(database_url)
    said, _ = replica.communicate(timeout=60)
    assert replica.returncode == 0, said
    assert present(database_url).revision == revision


def test_a_contraction_may_come_later_than_the_program_that_does_without(later: Path) -> None:
    expanded = schema.program(later).knows
    add(later, "pass", mark=f'UNUSED_SINCE = "{expanded}"')
    program = schema.program(later)
    assert (program.needs, program.serves) == (expanded, expanded)
    assert program.knows > expanded
    assert schema.misfit(Schema(revision=expanded), program) is None


def test_a_worker_that_comes_before_the_upgrade_waits_for_it_and_then_works(
    empty: str, broker_url: str, tmp_path: Path
) -> None:
    env = {**os.environ, "ORCHESTRATOR_DATABASE_URL": empty, "ORCHESTRATOR_BROKER_URL": broker_url,
           "ORCHESTRATOR_DATA_DIR": str(tmp_path), "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"}  # fmt: skip
    worker = subprocess.Popen([*command(), "worker"], env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE)
    try:
        assert worker.stdout is not None
        line = worker.stdout.readline()
        assert re.match(r"waiting for an upgrade: the database's schema is empty, and this program needs", line), line
        upgrade(empty)
        with psycopg.connect(plain_url(empty), autocommit=True) as connection:
            listens = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            )
            processes.wait_until(lambda: connection.execute(listens).fetchone() != (0,), within=60.0)
    finally:
        worker.terminate()
        worker.communicate(timeout=60)


def test_who_waits_in_vain_is_told_what_to_do(empty: str) -> None:
    said: list[str] = []
    with (
        closing(Database(empty, pool_size=1)) as opened,
        pytest.raises(SchemaError, match="run `orchestrator db upgrade` of this program"),
    ):
        schema.await_fit(opened.engine.connect, patience=0.0, say=said.append)
    with pytest.raises(SchemaError, match="is empty"):
        bootstrap.compose(Settings(database_url=empty, broker_url="memory://"))


def test_a_column_that_is_added_under_a_running_program_breaks_no_statement_that_it_has_prepared(
    airport: Airport,
) -> None:
    """Postgres refuses a prepared statement whose result has another shape by then: `cached plan must not change`."""
    system = airport.system
    workflow = airport.define(
        "id: shapes\nsteps:\n  - {id: one, service: keyed.one, compensate: keyed.unOne}\n"
        "  - {id: told, pause: true, timeout: 1h}\n"
    )

    def fly() -> None:
        instance = airport.start(workflow)
        airport.step_is(instance, "told", "WAITING")
        for _ in range(3):
            queries.status(system, tenant=flights.TENANT, instance_id=instance)
            queries.history(system, tenant=flights.TENANT, instance_id=instance)
            boards.overview(system, tenant=flights.TENANT)
            boards.lanes(system, tenant=flights.TENANT)
        airport.decide(instance, "told", decision="rejected")
        assert airport.ended(instance)["status"] == "COMPENSATED"

    for _ in range(8):  # psycopg prepares what a connection has run five times
        fly()
    with system.database.transaction() as connection:
        tables = connection.execute(text(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " AND relname <> 'alembic_version'"
        )).scalars().all()  # fmt: skip
        prepared = connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one()
        for table in tables:
            connection.execute(text(f"ALTER TABLE {table} ADD later text, ADD much_later int NOT NULL DEFAULT 0"))
    assert prepared > 0
    for _ in range(3):
        fly()
