"""A database's clock that stands still until it is moved, so that a slow machine changes nothing.

It ticks by a microsecond whenever it is read, for what is ordered by time has to keep its order; but not for who may only
read, as the checker.
"""

from __future__ import annotations

from tests.clock import Clock

STILL = """
CREATE SEQUENCE tick;
GRANT USAGE, SELECT ON SEQUENCE tick TO PUBLIC;
CREATE TABLE test_clock (ahead interval NOT NULL);
INSERT INTO test_clock VALUES ('0');
GRANT SELECT ON test_clock TO PUBLIC;
CREATE OR REPLACE FUNCTION clock_now() RETURNS timestamptz LANGUAGE sql VOLATILE
AS 'SELECT timestamptz ''2026-01-01'' + (SELECT ahead FROM test_clock) + interval ''1 microsecond'' *
  CASE WHEN current_setting(''transaction_read_only'')::boolean THEN (SELECT last_value FROM tick) ELSE nextval(''tick'') END';
"""


class StillClock(Clock):
    """`advance` as in tests.clock."""

    def install(self) -> None:
        self._execute(STILL)
