"""The Python client: instances that come to be with the caller's own transaction, or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

import orchestrator
from orchestrator import client
from orchestrator.errors import BadRequest, Conflict, InvalidPayload, NotFound
from orchestrator.settings import Settings
from orchestrator.store.database import sqlalchemy_url
from orchestrator.system import System
from tests import flights

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

SERVICES = """
services:
  held: {transport: local, module: tests.held_lane, queue: held}
"""
VISIT = """
id: visit
input: {type: object, required: [number], properties: {number: {type: integer}}}
businessKey: payload.number
steps: [{id: only, service: held.pass_by}]
"""


@pytest.fixture
def settings(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The caller is a process of its own, configured by its environment; it is told of no broker."""
    services = tmp_path / "services.yaml"
    services.write_text(SERVICES)
    told = {"services_file": str(services), "workflows_dir": str(tmp_path)}
    monkeypatch.setenv("ORCHESTRATOR_SERVICES_FILE", str(services))
    for unset in ("DATABASE_URL", "BROKER_URL", "TENANT"):
        monkeypatch.delenv(f"ORCHESTRATOR_{unset}", raising=False)
    client._configured.cache_clear()
    yield Settings(**{**vars(settings), **told})
    client._configured.cache_clear()


@pytest.fixture
def session(system: System) -> Iterator[Session]:
    """The caller's own, with a table of the caller's own."""
    engine = create_engine(sqlalchemy_url(system.settings.database_url or ""))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE visitor (name text PRIMARY KEY)"))
    flights.define(system, VISIT)
    with Session(engine) as session:
        yield session
    engine.dispose()


def come(session: Session, name: str) -> None:
    session.execute(text("INSERT INTO visitor VALUES (:name)"), {"name": name})


def kept(system: System) -> tuple[int, int, int]:
    """Visitors, instances and steps that others see."""
    with system.database.transaction() as connection:
        found = connection.execute(
            text("SELECT (SELECT count(*) FROM visitor), (SELECT count(*) FROM instance), (SELECT count(*) FROM step)")
        ).one()
    return found[0], found[1], found[2]


def test_an_instance_comes_to_be_with_the_callers_own_row_and_not_before(system: System, session: Session) -> None:
    come(session, "ann")
    started = orchestrator.start("visit", {"number": 1}, session=session)
    assert started.created
    assert kept(system) == (0, 0, 0), "the caller has not committed yet"
    session.commit()
    assert kept(system) == (1, 1, 1)
    shown = flights.status(system, started.instance_id)
    assert (shown["status"], shown["businessKey"]) == ("RUNNING", "1")


def test_what_the_caller_rolls_back_was_never_started(system: System, session: Session) -> None:
    come(session, "ann")
    orchestrator.start("visit", {"number": 1}, session=session)
    orchestrator.start_many("visit", [{"number": 2}, {"number": 3}], session=session)
    session.rollback()
    assert kept(system) == (0, 0, 0)


def test_the_step_goes_to_the_queue_that_the_callers_services_file_names(system: System, session: Session) -> None:
    orchestrator.start("visit", {"number": 1}, session=session)
    session.commit()
    with system.database.transaction() as connection:
        assert connection.execute(text("SELECT queue FROM step")).scalars().all() == ["held"]


def test_many_are_started_in_the_order_of_their_payloads(system: System, session: Session) -> None:
    numbers = [*range(40, 0, -1)]
    started = orchestrator.start_many("visit", [{"number": number} for number in numbers], session=session)
    session.commit()
    assert [flights.status(system, one)["businessKey"] for one in started] == [str(number) for number in numbers]
    assert len(set(started)) == kept(system)[1] == len(numbers)


def test_one_bad_payload_among_many_starts_none(system: System, session: Session) -> None:
    come(session, "ann")
    with pytest.raises(InvalidPayload):
        orchestrator.start_many("visit", [{"number": 1}, {"number": "two"}], session=session)
    session.commit()
    assert kept(system) == (1, 0, 0), "the caller's transaction is still the caller's to commit"


def test_a_payload_that_is_no_object_starts_nothing(system: System, session: Session) -> None:
    with pytest.raises(BadRequest):
        orchestrator.start("visit", [("number", 1)], session=session)  # type: ignore[arg-type]  # `dict` would take it
    session.commit()
    assert kept(system) == (0, 0, 0)


def test_no_payloads_start_nothing(system: System, session: Session) -> None:
    assert orchestrator.start_many("visit", [], session=session) == []
    session.commit()
    assert kept(system) == (0, 0, 0)


def test_a_key_that_was_used_before_is_answered_with_its_instance(system: System, session: Session) -> None:
    first = orchestrator.start("visit", {"number": 1}, session=session, idempotency_key="k")
    again = orchestrator.start("visit", {"number": 1}, session=session, idempotency_key="k")
    session.commit()
    after = orchestrator.start("visit", {"number": 1}, session=session, idempotency_key="k")
    assert [one.instance_id for one in (again, after)] == [first.instance_id] * 2
    assert not again.created
    assert not after.created
    with pytest.raises(Conflict):
        orchestrator.start("visit", {"number": 2}, session=session, idempotency_key="k")
    session.commit()
    assert kept(system) == (0, 1, 1)


def test_another_tenants_workflow_is_not_there(session: Session) -> None:
    with pytest.raises(NotFound):
        orchestrator.start("visit", {"number": 1}, session=session, tenant="elsewhere")


def test_the_worker_runs_what_was_started_once_it_is_committed(worker: System, session: Session) -> None:
    one = orchestrator.start("visit", {"number": 1}, session=session).instance_id
    many = orchestrator.start_many("visit", [{"number": number} for number in range(2, 6)], session=session)
    session.commit()
    assert {flights.ended(worker, instance)["status"] for instance in (one, *many)} == {"COMPLETED"}


@pytest.fixture
def clerk(system: System, session: Session) -> Iterator[Session]:
    """A caller with a login of its own, which may act for tenants and owns nothing."""
    url = make_url(sqlalchemy_url(system.settings.database_url or ""))
    name = f"clerk_{secrets.token_hex(6)}"
    with system.database.transaction() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'"))
        connection.execute(text(f"GRANT orchestrator_tenant TO {name}"))
    engine = create_engine(url.set(username=name, password="secret"))
    with Session(engine) as own:
        yield own
    engine.dispose()
    with system.database.transaction() as connection:
        connection.execute(text(f"DROP ROLE {name}"))


def test_a_callers_own_role_starts_for_the_tenant_that_it_names_to_postgres(system: System, clerk: Session) -> None:
    clerk.execute(text("SELECT set_config('orchestrator.tenant', 'local', true)"))
    started = orchestrator.start("visit", {"number": 1}, session=clerk)
    clerk.commit()
    assert flights.status(system, started.instance_id)["status"] == "RUNNING"


@pytest.mark.parametrize("named", ["", "city-b"])
def test_a_callers_own_role_reaches_no_other_tenant(clerk: Session, named: str) -> None:
    clerk.execute(text("SELECT set_config('orchestrator.tenant', :named, true)"), {"named": named})
    with pytest.raises(NotFound):
        orchestrator.start("visit", {"number": 1}, session=clerk, tenant="local")
