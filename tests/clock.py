"""A database's clock that a test can move, so that no test waits for business time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg

# In the place of the migration's `SELECT clock_timestamp()`. Granted to all: it is also read by the roles that
# row-level security is for.
MOVABLE = """
CREATE TABLE test_clock (ahead interval NOT NULL);
INSERT INTO test_clock VALUES ('0');
GRANT SELECT ON test_clock TO PUBLIC;
CREATE OR REPLACE FUNCTION clock_now() RETURNS timestamptz LANGUAGE sql VOLATILE
AS 'SELECT clock_timestamp() + (SELECT ahead FROM test_clock)';
"""


@dataclass(frozen=True)
class Clock:
    """Moves what `clock_now()` answers in one database, for every process that is connected to it."""

    url: str

    def install(self) -> None:
        self._execute(MOVABLE)

    def advance(self, seconds: float) -> None:
        """Committed at once; a transaction that has read the clock before keeps what it read."""
        self._execute("UPDATE test_clock SET ahead = ahead + make_interval(secs => %s)", [seconds])

    def now(self) -> datetime:
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SELECT clock_now()").fetchone()
        assert row is not None
        answer: datetime = row[0]
        return answer

    def _execute(self, statement: str, values: list[float] | None = None) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statement.encode(), values)
