"""What is told of the database's errors: enough to mend them, and nothing of what was asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from orchestrator.store.database import Database, told

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
