"""What a restored database knows: how far it goes, and which instances have not ended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import text

from orchestrator.store.database import Database

KNOWN = text("SELECT coalesce((SELECT max(time) FROM history), clock_now())")
OPEN = text("""
SELECT id FROM instance WHERE ended_at IS NULL AND id > CAST(:after AS uuid) ORDER BY id LIMIT :limit
""")
FIRST = "0" * 32


def known_until(database: Database) -> datetime:
    """The last moment that is in it: what came later is lost."""
    with database.transaction() as connection:
        found: datetime = connection.execute(KNOWN).scalar_one()
    return found


def open_instances(database: Database, batch: int) -> Iterator[list[str]]:
    """Their ids, in batches."""
    after = FIRST
    while True:
        with database.transaction() as connection:
            found = [one.hex for one in connection.execute(OPEN, {"after": after, "limit": batch}).scalars()]
        if not found:
            return
        yield found
        after = found[-1]
