"""Postgres keeps tenants apart, whatever a statement forgets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from orchestrator.store import tenancy
from orchestrator.store.database import Database, Unbound
from orchestrator.store.tenancy import Protection

pytestmark = pytest.mark.integration

A, B = "city-a", "city-b"
IDS = {A: UUID(int=0xA), B: UUID(int=0xB)}
TABLES = text("""
SELECT table_name FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
WHERE column_name = 'tenant' AND table_schema = current_schema() AND table_type = 'BASE TABLE' ORDER BY 1
""")
COLUMNS = text("""
SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = :table
  AND is_identity = 'NO' AND is_generated = 'NEVER' AND (is_nullable = 'NO' OR column_name = 'tenant')
""")
OWN = {"SELECT": "SELECT tenant FROM {}", "UPDATE": "UPDATE {} SET tenant = tenant", "DELETE": "DELETE FROM {}"}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url, pool_size=1)) as found:
        yield found


@pytest.fixture(params=[True, False], ids=["as the role", "by the name alone"])
def bound(request: pytest.FixtureRequest, database: Database) -> Database:
    """A database whose bound transactions act as the role, and one in which it could not be made."""
    with database.transaction() as connection:
        assert tenancy.may_act_as_role(connection), "the migration makes it, where the tests run"
        fill(connection)
    database._acts_as_role = request.param
    return database


def fill(connection: Connection) -> None:
    """One row a tenant in each table: whatever refers to a row refers to the one with the tenant's id."""
    left = set(tables(connection))
    for _ in range(len(left)):  # in which order, the foreign keys say
        for table in sorted(left):
            with suppress(IntegrityError), connection.begin_nested():
                for tenant in (A, B):
                    insert(connection, table, tenant)
                left.discard(table)
    assert not left, "rows of these could not be made"


def tables(connection: Connection) -> list[str]:
    found = list(connection.execute(TABLES).scalars())
    assert {"instance", "step", "history", "definition_version", "definition_refused", "outbox"} <= set(found)
    return found


def insert(connection: Connection, table: str, tenant: str) -> None:
    # Read by the owner before: a bound role sees columns of its own tables only.
    columns = {row[0]: row[1] for row in connection.execute(COLUMNS, {"table": table})}
    values = {name: sample(name, kind, tenant) for name, kind in columns.items()}
    names = ", ".join(f'"{name}"' for name in values)
    places = ", ".join(f"CAST(:v{n} AS {kind})" for n, kind in enumerate(columns.values()))
    statement = text(f"INSERT INTO {table} ({names}) VALUES ({places})")
    connection.execute(statement, {f"v{n}": value for n, value in enumerate(values.values())})


def sample(name: str, kind: str, tenant: str) -> Any:
    if name == "tenant" or kind == "text":
        return tenant
    return {"uuid": IDS[tenant], "jsonb": "{}", "boolean": False}.get(
        kind, "2026-01-01T00:00Z" if kind.startswith("time") else 1
    )


def owners(database: Database, table: str) -> list[str]:
    with database.across_tenants() as connection:
        return sorted(connection.execute(text(f"SELECT tenant FROM {table}")).scalars())


def each_table(database: Database) -> list[str]:
    with database.across_tenants() as connection:
        return tables(connection)


def attempt(database: Database, statement: str) -> Any:
    """What it answers for city-a, a list or a count of rows; or the name of the error that refuses it. Nothing is kept."""
    with database.transaction(A) as connection:
        try:
            done = connection.execute(text(statement))
            return list(done.scalars()) if done.returns_rows else done.rowcount
        except DBAPIError as error:
            return type(error.orig).__name__
        finally:
            connection.rollback()


@pytest.mark.parametrize("verb", OWN)
def test_a_statement_without_a_condition_meets_the_tenants_own_rows_only(bound: Database, verb: str) -> None:
    for table in each_table(bound):
        assert owners(bound, table) == [A, B]
        allowed: dict[str, tuple[Any, ...]] = {
            "SELECT": ([A],),
            "UPDATE": (1, "InsufficientPrivilege"),
            "DELETE": (1, "InsufficientPrivilege", "ForeignKeyViolation"),  # the last: its own, and referred to
        }
        assert attempt(bound, OWN[verb].format(table)) in allowed[verb], table


def test_asking_for_the_other_by_name_finds_nothing(bound: Database) -> None:
    for table in each_table(bound):
        with bound.transaction(A) as connection:
            asked = text(f"SELECT count(*) FROM {table} WHERE tenant = :other")
            assert connection.execute(asked, {"other": B}).scalar_one() == 0


def test_rows_cannot_be_written_into_another_tenant(bound: Database) -> None:
    for table in each_table(bound):
        with bound.across_tenants() as connection:
            columns = ", ".join(f'"{name}"' for name in connection.execute(COLUMNS, {"table": table}).scalars())
        others = columns.replace('"tenant"', f"'{B}'")
        assert attempt(bound, f"UPDATE {table} SET tenant = '{B}'") == "InsufficientPrivilege", table
        assert (
            attempt(bound, f"INSERT INTO {table} ({columns}) SELECT {others} FROM {table}") == "InsufficientPrivilege"
        ), table


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE instance DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenant_rows ON instance",
        "TRUNCATE history",
        "DELETE FROM history",
        "SELECT value FROM installation",
    ],
)
def test_the_role_has_no_rights_that_a_tenants_calls_do_not_need(database: Database, statement: str) -> None:
    assert attempt(database, statement) == "InsufficientPrivilege"


def state(connection: Connection) -> tuple[str, str]:
    asked = text("SELECT current_user = session_user, coalesce(current_setting('orchestrator.tenant', true), '')")
    same, tenant = connection.execute(asked).one()
    return ("login" if same else "role"), tenant


def test_a_connection_goes_back_to_the_pool_unbound(database: Database) -> None:
    with database.transaction(A) as connection:
        assert state(connection) == ("role", A)
    with database.across_tenants() as connection:  # the same connection: the pool has one
        assert state(connection) == ("login", "")
    assert attempt(database, "SELECT 1 / 0") == "DivisionByZero"
    with database.across_tenants() as connection:
        assert state(connection) == ("login", "")


def test_a_transaction_of_a_server_for_tenants_says_whom_it_is_for(database: Database) -> None:
    server = database.for_tenants()
    with pytest.raises(Unbound), server.transaction():
        pass
    with pytest.raises(ValueError, match="name"), server.transaction(""):
        pass
    with server.transaction(A) as connection:
        assert state(connection) == ("role", A)
    with database.transaction() as connection:  # the engine's own is as it was
        assert state(connection) == ("login", "")


def test_the_clock_and_notifications_work_for_a_tenant(database: Database) -> None:
    with closing(database.listen("orchestrator_ready")) as listener:
        with database.transaction(A) as connection:
            assert connection.execute(text("SELECT clock_now() - clock_timestamp()")).scalar_one() is not None
            connection.execute(text("SELECT pg_notify('orchestrator_ready', '')"))
        assert len(list(listener.notifies(timeout=5, stop_after=1))) == 1


def test_the_migrations_put_the_policies_in_force(database: Database) -> None:
    with database.across_tenants() as connection:
        found = tenancy.protection(connection)
    assert (found.unprotected, found.role, found.in_force) == ((), True, True)


def test_a_role_that_was_made_after_the_tables_is_not_acted_as(database: Database) -> None:
    with database.across_tenants() as connection:
        connection.execute(text(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {tenancy.ROLE}"))
        found = tenancy.protection(connection)
        assert (found.role, found.in_force) == (False, not found.sees_through)
    with database.transaction(A) as connection:
        assert state(connection) == ("login", A)
        assert connection.execute(text("SELECT count(*) FROM instance")).scalar_one() == 0


def test_a_table_that_nobody_protected_is_noticed(database: Database) -> None:
    with database.across_tenants() as connection:
        connection.execute(text("CREATE TABLE loose (tenant text NOT NULL)"))
        found = tenancy.protection(connection)
        assert (found.unprotected, found.in_force) == (("loose",), False)
        assert "loose has no policy" in found.mend
        connection.execute(text("SELECT protect_tenant_rows('loose', 'SELECT')"))
        assert tenancy.protection(connection).in_force


@pytest.mark.parametrize(
    ("role", "sees_through", "in_force"),
    [(True, True, True), (True, False, True), (False, False, True), (False, True, False)],
)
def test_a_superuser_is_bound_by_the_role_alone(role: bool, sees_through: bool, in_force: bool) -> None:
    found = Protection(role=role, sees_through=sees_through, unprotected=())
    assert found.in_force is in_force
    assert "CREATE ROLE orchestrator_tenant" in found.mend


STATEMENTS = (
    "SELECT id FROM instance WHERE tenant = 'city-a' ORDER BY id DESC LIMIT 10",
    f"SELECT id FROM instance WHERE tenant = 'city-a' AND id = '{IDS[A]}'",
    "SELECT id FROM instance WHERE tenant = 'city-a' AND idempotency_key = 'k'",
    f"SELECT step FROM step WHERE instance_id = ANY(CAST('{{{IDS[A]}}}' AS uuid[]))",
    "SELECT instance_id FROM step WHERE state = 'RUNNING' AND lease_until < (SELECT clock_now()) ORDER BY lease_until LIMIT 9",
    "SELECT instance_id FROM step WHERE state = 'WAITING' AND due_at <= (SELECT clock_now()) ORDER BY due_at LIMIT 9",
    "SELECT min(ready_at) FROM step WHERE state IN ('READY', 'RETRYING') AND published_at IS NULL AND deferred IS NULL AND ready_at > (SELECT clock_now())",
    """SELECT tenant, queue FROM step WHERE state IN ('READY', 'RETRYING') AND published_at IS NULL
    AND deferred IS NULL AND (tenant, queue) > ('a', 'b') ORDER BY tenant, queue LIMIT 1""",
)


def searched(connection: Connection, statement: str) -> list[str]:
    """By which indexes. (The row itself is looked at as well, for its tenant: no policy is answered by an index only.)"""
    connection.execute(
        text("SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)")
    )
    plan = "\n".join(connection.execute(text(f"EXPLAIN (COSTS OFF) {statement}")).scalars())
    assert "Index Cond" in plan or "ORDER BY" in statement, plan
    return re.findall(r" using (\w+) on", plan)


@pytest.mark.parametrize("tenant", [A, None], ids=["bound", "the engine's"])
@pytest.mark.parametrize("statement", STATEMENTS, ids=range(len(STATEMENTS)))
def test_policies_take_no_index_away(bound: Database, tenant: str | None, statement: str) -> None:
    with bound.across_tenants() as connection:
        connection.execute(text("ALTER TABLE instance NO FORCE ROW LEVEL SECURITY"))
        connection.execute(text("ALTER TABLE step NO FORCE ROW LEVEL SECURITY"))
        free = searched(connection, statement)
        connection.rollback()
    with bound.transaction(tenant) as connection:
        under = searched(connection, statement)
    assert free
    assert under == free
