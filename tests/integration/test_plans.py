"""What sweep and dispatcher read for one batch does not grow with how much is due: of thousands they read the first."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest
from sqlalchemy import TextClause, text

from orchestrator.store import due
from orchestrator.store.database import plain_url
from tests.benchmarks import parked
from tests.services import Airport

pytestmark = pytest.mark.integration

MANY, LIMIT = 5000, 10
BUFFERS = 1000  # pages of 8 kB; to read all of them takes more than three each
WAITS = "id: waits\ndeadline: 1h\nsteps: [{id: hold, pause: true, timeout: 1h}]"
AS = {
    "LOST": "state = 'RUNNING', lease_until = clock_now() - interval '1 minute', worker = 'somebody'",
    "OVERDUE": "due_at = clock_now()",
    "DEADLINES": "due_at = NULL",
    "PUBLISH": "state = 'READY', ready_at = clock_now(), published_at = NULL",
}


@pytest.fixture
def crowd(tower: Airport) -> Airport:
    """So many wait, all alike."""
    for _ in range(2):
        tower.run(tower.fly(WAITS), "hold")
    with psycopg.connect(plain_url(tower.system.database.url)) as connection:
        connection.execute(parked.COPIES.format(count=MANY, originals=2).encode())
        for table, key in parked.TABLES.items():
            parked.copy(connection, table, key)
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE")
    tower.clock.advance(3601)
    return tower


@pytest.mark.parametrize("name", AS)
def test_a_batch_is_read_from_the_front_of_an_index_however_many_are_due(crowd: Airport, name: str) -> None:
    statement: TextClause = getattr(due, name)
    values: dict[str, Any] = {"limit": LIMIT} | ({"window": LIMIT} if name == "PUBLISH" else {})
    with psycopg.connect(plain_url(crowd.system.database.url), autocommit=True) as connection:
        connection.execute(f"UPDATE step SET {AS[name]}".encode())
        connection.execute("VACUUM ANALYZE step")
    with crowd.system.database.transaction() as connection:
        due.read_from_the_index(connection)
        plan = "\n".join(connection.execute(text(f"EXPLAIN (ANALYZE, BUFFERS) {statement.text}"), values).scalars())
    found = re.search(r"rows=(\d+)", plan[plan.index("actual time") :])
    assert found is not None
    assert int(found[1]) == LIMIT
    touched = re.search(r"Buffers: shared (.*)", plan)
    assert touched is not None
    assert sum(int(pages) for pages in re.findall(r"(?:hit|read)=(\d+)", touched[1])) < BUFFERS, plan
