"""What is told of the database's errors: enough to mend them, and nothing of what was asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from orchestrator.store.database import Database, is_away, told, was_cut

pytestmark = pytest.mark.integration


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    found = Database(database_url)
    yield found
    found.engine.dispose()


def test_an_error_names_no_value_of_its_statement_and_what_is_told_of_it_not_even_the_statement(
    database: Database,
) -> None:
    with pytest.raises(DBAPIError) as refused, database.transaction() as connection:
        connection.execute(text("SELECT :payload FROM nothing"), {"payload": "Maria Lopez"})

    assert "Maria Lopez" not in str(refused.value)
    assert told(refused.value).startswith('relation "nothing" does not exist')
    assert "payload" not in told(refused.value)


def test_what_is_told_of_a_refused_row_has_nothing_of_the_row(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("CREATE TABLE refused (payload text CHECK (payload = ''))"))
    with pytest.raises(DBAPIError) as refused, database.transaction() as connection:
        connection.execute(text("INSERT INTO refused VALUES (:payload)"), {"payload": "Maria Lopez"})

    assert "violates check constraint" in told(refused.value)
    assert "Maria Lopez" not in told(refused.value)


@pytest.mark.parametrize(("end", "was"), [("pg_cancel_backend", False), ("pg_terminate_backend", True)])
def test_a_connection_that_was_cut_is_told_from_a_statement_that_was_ended(
    database: Database, end: str, was: bool
) -> None:
    with pytest.raises(DBAPIError) as ended, database.transaction() as connection:
        connection.execute(text(f"SELECT {end}(pg_backend_pid())"))

    assert is_away(ended.value)
    assert was_cut(ended.value) is was
