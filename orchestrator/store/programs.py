"""Which programs are at work on a database: each of our connections says so in its `application_name`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

from sqlalchemy import Connection, text

from orchestrator import protocol
from orchestrator.store import schema

NAME = "orchestrator"  # all that programs said before they said more
TOLD = re.compile(rf"{NAME} (?P<version>\S+) schema (?P<schema>\d{{4}}) protocol (?P<protocol>\d+)")
# Whoever connects as another role is seen without a name, unless we may read all statistics.
CONNECTED = text("""
SELECT application_name, count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE :pattern
GROUP BY application_name ORDER BY application_name
""")


@dataclass(frozen=True, kw_only=True)
class Connected:
    """A program, and how many connections it has."""

    name: str
    connections: int

    @property
    def schema(self) -> str:
        """The newest migration that it knows; of one that does not say so: none."""
        found = TOLD.fullmatch(self.name)
        return found["schema"] if found else "0000"


@cache
def own_name() -> str:
    """At most 63 bytes: Postgres cuts off the rest."""
    return f"{NAME} {version('flight-orchestrator')[:20]} schema {schema.program().knows} protocol {protocol.WRITES}"


def connected(connection: Connection) -> list[Connected]:
    """All but the one that asks."""
    found = connection.execute(CONNECTED, {"pattern": f"{NAME}%"})
    return [Connected(name=row[0], connections=row[1]) for row in found]
