"""`orchestrator db restored` on a data directory of `orchestrator up`, whose Postgres nobody has started yet."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from orchestrator import cli, embedded
from orchestrator.commands import database
from orchestrator.errors import ServerError
from orchestrator.servers import embedded_postgres, running_stack
from orchestrator.servers.embedded_postgres import checked, run_as
from orchestrator.settings import Settings
from orchestrator.store.database import upgrade
from tests import flights, servers, services

pytestmark = pytest.mark.integration

FLIGHT = "id: flight\nsteps: [{id: hold, pause: true}]"
TO_THE_POINT = "restore_command = 'false'\nrecovery_target_name = 'here'\n"


@pytest.fixture
def data_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """With one instance that has not ended, and no server."""
    monkeypatch.delenv("ORCHESTRATOR_DATABASE_URL", raising=False)
    with servers.data_directory() as folder:
        try:
            server = embedded.postgres(folder, durable=False)
        except ServerError as error:
            servers.missing(str(error))
        with server:
            upgrade(server.url)
            settings = Settings(database_url=server.url, broker_url="memory://", auth="local")
            with services.composed(settings) as system:
                flights.start(system, flights.define(system, FLIGHT), {})
        yield folder


def recover(data_dir: Path, configuration: str) -> None:
    """It is going to recover up to a point when it is started: a copy that was made while it stood still, and the WAL of
    what came after."""
    cluster, copy, user = running_stack.cluster(data_dir), data_dir / "copy", embedded_postgres.service_user()
    checked(run_as(None, ("cp", "-a", cluster, copy)))
    with embedded.postgres(data_dir, durable=False) as server:
        administrator = server.url.replace("//orchestrator:", "//postgres:")
        with psycopg.connect(administrator, autocommit=True) as connection:
            connection.execute("SELECT pg_create_restore_point('here')")
            connection.execute("CREATE TABLE later ()")
    shutil.rmtree(copy / "pg_wal")
    (cluster / "pg_wal").rename(copy / "pg_wal")
    shutil.rmtree(cluster)
    copy.rename(cluster)
    checked(run_as(user, ("tee", "-a", cluster / "postgresql.auto.conf"), text=configuration))
    checked(run_as(user, ("touch", cluster / "recovery.signal")))


def marked(data_dir: Path) -> int:
    with embedded.postgres(data_dir, durable=False) as server, psycopg.connect(server.url) as connection:
        row = connection.execute("SELECT count(*) FROM instance WHERE doubted_since IS NOT NULL").fetchone()
    assert row is not None
    return int(row[0])


def test_it_starts_the_directorys_database_marks_what_is_open_and_stops_it_again(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert marked(data_dir) == 0
    assert cli.invoke(["db", "restored", "--data-dir", str(data_dir)]) == 0
    assert "1 instances had not ended" in capsys.readouterr().out
    assert marked(data_dir) == 1, "and nobody else has the directory any more"


def test_the_directory_may_be_named_by_its_setting(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATA_DIR", str(data_dir))
    assert cli.invoke(["db", "restored"]) == 0
    assert marked(data_dir) == 1


def test_it_waits_for_the_end_of_the_recovery(data_dir: Path) -> None:
    recover(data_dir, f"{TO_THE_POINT}recovery_target_action = 'promote'\n")
    assert cli.invoke(["db", "restored", "--data-dir", str(data_dir)]) == 0
    assert marked(data_dir) == 1


def test_a_recovery_that_pauses_at_its_target_is_told_and_nothing_is_marked(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recover(data_dir, TO_THE_POINT)
    assert cli.invoke(["db", "restored", "--data-dir", str(data_dir)]) == 1
    assert "recovery_target_action = 'promote'" in capsys.readouterr().err
    assert marked(data_dir) == 0


def test_while_a_stack_runs_there_it_is_refused(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with embedded.postgres(data_dir, durable=False):
        assert cli.invoke(["db", "restored", "--data-dir", str(data_dir)]) == 1
    assert "stop that one" in capsys.readouterr().err
    assert marked(data_dir) == 0


def test_it_is_refused_while_a_program_is_connected_and_done_once_that_has_gone(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", database_url)
    monkeypatch.setattr(database, "GONE_WITHIN", 0.0)
    with services.composed(settings) as system:
        flights.start(system, flights.define(system, FLIGHT), {})
        assert cli.invoke(["db", "restored"]) == 1
        assert "stop every worker, beat and web server first" in capsys.readouterr().err
        with system.database.transaction() as connection:
            assert connection.execute(text("SELECT count(doubted_since) FROM instance")).scalar_one() == 0
    monkeypatch.setattr(database, "GONE_WITHIN", 5.0)
    assert cli.invoke(["db", "restored"]) == 0
    assert "1 instances had not ended" in capsys.readouterr().out


def test_two_databases_that_are_both_named_are_refused(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/production")
    assert cli.invoke(["db", "restored", "--data-dir", str(data_dir)]) == 2
    assert "names one database and --data-dir another" in capsys.readouterr().err
    assert marked(data_dir) == 0


def test_where_there_is_no_database_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ORCHESTRATOR_DATABASE_URL", raising=False)
    assert cli.invoke(["db", "restored", "--data-dir", str(tmp_path)]) == 2
    assert "no database" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
