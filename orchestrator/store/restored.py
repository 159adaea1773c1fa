"""What a restored database knows: how far it goes, and which instances have not ended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import text

from orchestrator.store.database import Database

KNOWN = text("SELECT coalesce((SELECT max(time) FROM history), clock_now())")
# Those that have not ended, and those that an operator may have ordered again since then: he may order that once more, and
# the generations would be the same. And their children that have ended: when a parent falls, what they did is undone, and
# that may have been done as well.
MAY_GO_ON = "({0}.ended_at IS NULL OR {0}.status IN ('FAILED', 'COMPENSATED'))"
OPEN = text(f"""
SELECT id FROM instance i WHERE id > CAST(:after AS uuid)
  AND ({MAY_GO_ON.format("i")} OR EXISTS (SELECT FROM instance r WHERE r.id = i.root_id AND {MAY_GO_ON.format("r")}))
ORDER BY id LIMIT :limit
""")
FIRST = "0" * 32
RECOVERY = text("SELECT CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() ELSE 'over' END")


def recovery(database: Database) -> str:
    """`over`; else it can only be read: `not paused`, `pause requested`, or `paused`, from which it goes on only when told to."""
    with database.transaction() as connection:
        state: str = connection.execute(RECOVERY).scalar_one()
    return state


def known_until(database: Database) -> datetime:
    """The last moment that is in it: what came later is lost."""
    with database.transaction() as connection:
        found: datetime = connection.execute(KNOWN).scalar_one()
    return found


def open_instances(database: Database, batch: int) -> Iterator[list[str]]:
    """The ids of those that go on or may be ordered to, and of their families, in batches."""
    after = FIRST
    while True:
        with database.transaction() as connection:
            found = [one.hex for one in connection.execute(OPEN, {"after": after, "limit": batch}).scalars()]
        if not found:
            return
        yield found
        after = found[-1]
