"""What `orchestrator doctor` asks the database. Reads only, and across tenants: it is the operator's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from orchestrator.rows import CANARY

# Not `clock_now()`: there may be no tables and functions of ours yet.
SERVER = text(
    "SELECT current_setting('server_version'), current_setting('transaction_read_only') = 'off', clock_timestamp()"
)
# What is held back on purpose (a suspended instance, a retry that is not due, a lane's turn) waits for no worker. (step_unpublished,
# step_published)
WAITING = text("""
SELECT s.queue, count(*), extract(epoch FROM (SELECT clock_now()) - min(s.ready_at))
FROM step s JOIN instance i ON i.id = s.instance_id AND i.suspended_at IS NULL
WHERE s.state IN ('READY', 'RETRYING') AND s.ready_at <= (SELECT clock_now()) AND s.deferred IS NULL AND s.tenant <> :canary
GROUP BY s.queue ORDER BY s.queue
""")
STUCK = text("SELECT count(*) FROM instance WHERE status = 'STUCK' AND tenant <> :canary")


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Steps on a queue that any worker might claim."""

    queue: str
    steps: int
    oldest: float  # seconds


def server(connection: Connection) -> tuple[str, bool, datetime]:
    """Postgres' version, whether it takes writes, and the time there."""
    version, takes_writes, now = connection.execute(SERVER).one()
    return version, takes_writes, now


def waiting(connection: Connection) -> Sequence[Waiting]:
    return [
        Waiting(queue=row[0], steps=row[1], oldest=float(row[2]))
        for row in connection.execute(WAITING, {"canary": CANARY})
    ]


def stuck(connection: Connection) -> int:
    """Instances that need a person."""
    return int(connection.execute(STUCK, {"canary": CANARY}).scalar_one())
