"""The table `lane`: what is known of each by all processes. It is no tenant's.

Lock order: instances first, then lanes, in the order of their names; whoever has locked a lane waits for no step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.admission import LaneState
from orchestrator.store.statements import PATIENCE

COLUMNS = tuple(field.name for field in fields(LaneState))
LISTED = ", ".join(COLUMNS)

READ = text(f"SELECT {LISTED} FROM lane")
# Nobody waits for ever for a lane whose holder was stopped, as for an instance (statements.LOCK).
LOCK = text(
    f"SELECT {LISTED} FROM (SELECT set_config('lock_timeout', '{PATIENCE}', true),"
    f" set_config('idle_in_transaction_session_timeout', '{PATIENCE}', true)) bounded CROSS JOIN lane"
    " WHERE name = ANY(:names) ORDER BY name FOR NO KEY UPDATE OF lane"
)
MAKE = text(
    "INSERT INTO lane (name) SELECT name FROM unnest(CAST(:names AS text[])) AS name ORDER BY name ON CONFLICT DO NOTHING"
)
WRITE = text(
    f"UPDATE lane SET ({', '.join(COLUMNS[1:])}) = ROW({', '.join(f':{name}' for name in COLUMNS[1:])}) WHERE name = :name"
)
NOW = text("SELECT clock_now()")
# Read after the lanes are locked, by a statement of its own: its snapshot has all that earlier holders committed.
FLYING = text("""
SELECT gate, count(*) FROM step
WHERE gate = ANY(:names) AND state = 'RUNNING' AND lease_until > (SELECT clock_now()) GROUP BY gate
""")

IN_FLIGHT = text("""
SELECT split_part(service, '.', 1), count(*) FROM step
WHERE state = 'RUNNING' AND lease_until > (SELECT clock_now()) AND service IS NOT NULL GROUP BY 1
""")  # (step_leased)


def states(connection: Connection) -> tuple[dict[str, LaneState], datetime]:
    """By name, those of which something has been said; and the time."""
    found = {row["name"]: LaneState(**row) for row in connection.execute(READ).mappings()}
    return found, connection.execute(NOW).scalar_one()


def lock(connection: Connection, names: Iterable[str]) -> tuple[dict[str, LaneState], datetime]:
    """The same of these lanes, all of them, until the end of the transaction."""
    wanted = sorted(set(names))
    found = _locked(connection, wanted)
    if len(found) < len(wanted):
        connection.execute(MAKE, {"names": wanted})
        found = _locked(connection, wanted)
    return found, connection.execute(NOW).scalar_one()


def _locked(connection: Connection, names: list[str]) -> dict[str, LaneState]:
    return {row["name"]: LaneState(**row) for row in connection.execute(LOCK, {"names": names}).mappings()}


def write(connection: Connection, states: Iterable[LaneState]) -> None:
    for state in states:
        values: dict[str, Any] = asdict(state)
        connection.execute(WRITE, values)


def flying(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Calls in flight, of the lanes that have any: claimed, and the lease has not run out."""
    return {row[0]: row[1] for row in connection.execute(FLYING, {"names": sorted(set(names))})}


def in_flight(connection: Connection) -> dict[str, int]:
    """The same of every lane, whether it has a limit or not: to be shown."""
    return {row[0]: row[1] for row in connection.execute(IN_FLIGHT)}
