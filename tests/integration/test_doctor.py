"""`orchestrator doctor` on real servers, in this process."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from orchestrator import cli, protocol
from orchestrator.lane import DEFAULT_QUEUE
from orchestrator.store import programs, schema
from tests import servers
from tests.clock import Clock

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PERMIT = "samples/permit-renewal.json"
NOWHERE = "postgresql://nobody:x@127.0.0.1:1/none"


@dataclass(frozen=True, kw_only=True)
class Answer:
    code: int
    out: str


Ask = Callable[..., Answer]


@pytest.fixture
def ask(database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", database_url)
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", broker_url)

    def ask(*arguments: str) -> Answer:
        code = cli.invoke(list(arguments))
        return Answer(code=code, out=capsys.readouterr().out)

    return ask


def bad(answer: Answer) -> list[str]:
    return [line.removeprefix("bad      ") for line in answer.out.splitlines() if line.startswith("bad ")]


def of(answer: Answer, check: str) -> list[str]:
    return [line for line in answer.out.splitlines() if f" {check}: " in line]


def test_all_is_well_where_the_servers_are_there_and_nothing_waits(ask: Ask) -> None:
    answer = ask("doctor", "--servers")
    assert (answer.code, bad(answer)) == (0, [])
    assert [line.split()[1] for line in answer.out.splitlines()] == [
        "settings:", "database:", "clock:", "schema:", "broker:",
    ]  # fmt: skip


def test_a_queue_without_a_worker_is_told_where_the_broker_can(ask: Ask, broker_url: str) -> None:
    answer = ask("doctor")
    scheme = urlsplit(broker_url).scheme
    told = "bad      consumers: there is no queue" if scheme == "amqp" else "unknown  consumers: redis cannot tell"
    lines = of(answer, "consumers")
    assert len(lines) == 3  # the lanes' queue, the sweeps' and the answers'
    assert all(line.startswith(told) for line in lines)
    assert answer.code == (1 if scheme == "amqp" else 0)


def test_what_waits_is_stuck_or_was_refused_is_told_with_its_mend(
    ask: Ask, clock: Clock, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("db", "upgrade")
    stuck, foreign, _ = (ask("start", "permit-renewal", PERMIT).out.strip() for _ in range(3))
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE instance SET status = 'STUCK' WHERE id = %s::uuid", [stuck])
        connection.execute("UPDATE step SET state = 'UNKNOWN' WHERE instance_id = %s::uuid", [stuck])
        connection.execute("UPDATE step SET queue = 'forgotten' WHERE instance_id = %s::uuid", [foreign])
    (tmp_path / "broken.yaml").write_text("id: broken\nsteps: []\n")
    monkeypatch.setenv("ORCHESTRATOR_WORKFLOWS_DIR", str(tmp_path))
    ask("db", "upgrade")
    clock.advance(600)
    answer = ask("doctor")
    assert answer.code == 1
    found = "\n".join(bad(answer))
    assert re.search(r"queues: 1 due on queue forgotten, the oldest for 6\d\d s: no lane of the services file", found)
    assert re.search(rf"queues: 1 due on queue {DEFAULT_QUEUE}, the oldest for 6\d\d s: are workers running", found)
    assert "instances: 1 STUCK: they need a person: see `orchestrator list --stuck`" in found
    assert "definitions: broken was refused: broken.yaml:2:1:" in found


def test_a_step_that_has_just_become_ready_waits_for_nobody_yet(ask: Ask) -> None:
    ask("db", "upgrade")
    ask("start", "permit-renewal", PERMIT)
    assert [line for line in bad(ask("doctor")) if line.startswith("queues")] == []


def test_it_tells_whether_postgres_keeps_tenants_apart(ask: Ask, database_url: str) -> None:
    assert of(ask("doctor"), "tenants") == [
        "ok       tenants: row-level security keeps them apart; servers act as orchestrator_tenant"
    ]
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER TABLE step NO FORCE ROW LEVEL SECURITY")
    assert [line for line in bad(ask("doctor")) if line.startswith("tenants")] == [
        "tenants: Postgres does not keep them apart: step has no policy; run `orchestrator db upgrade`"
    ]


def test_tables_that_are_old_or_missing_are_told_once(
    ask: Ask, postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with servers.database(postgres_server) as empty:
        monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", empty)
        answer = ask("doctor")
    assert answer.code == 1
    (line,) = [line for line in bad(answer) if "consumers" not in line]
    assert re.fullmatch(r"schema: the database's schema is empty, and this program needs \d{4}: run .*", line)


def test_a_newer_programs_tables_are_well_where_they_serve_this_one_too(ask: Ask, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9998'")
    (line,) = of(ask("doctor"), "schema")
    assert line.startswith("ok       schema: revision 9998 is a newer program's, and fits this one")
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO installation VALUES ('oldest_program', '9998')")
    assert [line for line in bad(ask("doctor")) if line.startswith("schema")] == [(
        f"schema: the database's schema (9998) serves programs that know 9998 or newer, and this one knows {schema.program().knows}: "
        "use a newer program, or restore the backup"
    )]  # fmt: skip


def test_programs_at_work_are_told_and_one_that_is_too_old_for_the_schema_is_bad(ask: Ask, database_url: str) -> None:
    ours = programs.own_name()
    assert of(ask("doctor"), "programs") == ["ok       programs: none is connected but this one"]
    older = f"orchestrator 0.0.9 schema 0003 protocol {protocol.WRITES}"
    with psycopg.connect(database_url, application_name=ours), psycopg.connect(database_url, application_name=older):
        (line,) = of(ask("doctor"), "programs")
        assert line.startswith("ok       programs: an upgrade is under way, or was left unfinished")
        assert f"{older} (1 connections), {ours} (1 connections)" in line
        with psycopg.connect(database_url) as connection:
            connection.execute("INSERT INTO installation VALUES ('oldest_program', '0004')")
        assert f"programs: {older} is connected, and too old for the schema: stop it, or replace it" in bad(
            ask("doctor")
        )


def test_servers_that_do_not_answer_are_each_named_by_their_setting(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", NOWHERE)
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", "redis://127.0.0.1:1/0")
    answer = ask("doctor", "--servers")
    assert answer.code == 1
    database, broker = bad(answer)
    assert database.startswith("database: the database does not answer; see ORCHESTRATOR_DATABASE_URL")
    assert broker.startswith("broker: does not answer: ")
    assert broker.endswith("see ORCHESTRATOR_BROKER_URL")


def test_a_database_that_takes_no_writes_is_found(ask: Ask, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET default_transaction_read_only = on'.encode())
    (line,) = [one for one in bad(ask("doctor")) if one.startswith("database: ")]
    assert line.endswith("takes no writes: promote it, or use the one that does")


def test_wrong_settings_and_a_wrong_services_file_are_found(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "services.yaml").write_text("services:\n  fileSvc: {transport: pigeon}\n")
    monkeypatch.setenv("ORCHESTRATOR_SERVICES_FILE", str(tmp_path / "services.yaml"))
    assert f"services: {tmp_path}/services.yaml:2:" in "\n".join(bad(ask("doctor")))
    monkeypatch.setenv("ORCHESTRATOR_LEASE", "soon")
    answer = ask("doctor", "--json")
    assert answer.code == 1
    assert [(one["check"], one["state"]) for one in json.loads(answer.out)] == [("settings", "bad")]
