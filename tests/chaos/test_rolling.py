"""A rolling upgrade and the way back: workers and web servers of the previous commit beside ours, on one database and the
same queues, while the schema is expanded under them.

1. The old program alone, on its own schema; calls of its are in flight.
2. Our `db upgrade`, and after it an expansion that no program knows yet: a column more on every table.
3. Our workers join, and share the work. 4. The old ones leave. 5. The way back: old ones join, on the newer schema, and
ours leave. The old ones finish.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.settings import Settings
from orchestrator.store.database import plain_url
from tests import other_team, processes, servers
from tests.chaos import shapes_in_flight as shapes
from tests.chaos.fleets import Fleet, Program, fleet
from tests.chaos.previous import present, previous
from tests.chaos.shapes_in_flight import Town

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

EACH = int(os.environ.get("ORCHESTRATOR_ROLLING", "8"))  # instances of a shape in each of the four batches
WORKERS = 2  # of each program
WITHIN = 150.0  # seconds until all have ended, on a busy machine; nothing is timed by it
# It answers 500 to who asks for a status after a column was added, for it has prepared `SELECT *`; and a worker that is told to
# stop may end with 1, for Celery reads a set that its threads change.
UNTIL_MENDED = "0ee2d89"
TABLES = """
SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
"""
GAPS = """
SELECT i.id FROM instance i LEFT JOIN history h ON h.instance_id = i.id GROUP BY i.id, i.history_seq
HAVING count(*) <> i.history_seq OR max(h.seq) <> i.history_seq OR min(h.seq) <> 1
"""


@dataclass(kw_only=True)
class Sky:
    """Everything that flies, and what the database says of it."""

    url: str
    town: Town
    reports: Path  # where the other team notes its effects
    batches: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # name → instance and workflow

    def begin(self, batch: str, webs: Sequence[Fleet]) -> None:
        turns = cycle(webs)
        payload = {"items": list(range(shapes.ITEMS))}
        self.batches[batch] = [
            (next(turns).begin(workflow, payload), workflow) for _ in range(EACH) for workflow in shapes.STARTED
        ]

    def decide(self, *webs: Fleet) -> int:
        """All that has been asked for meanwhile."""
        paths = self.town.take_undecided()
        for web, path in zip(cycle(webs), paths, strict=False):
            web.decide(path)
        return len(paths)

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(plain_url(self.url), autocommit=True) as connection:
            return connection.execute(statement, values or None).fetchall()

    def workers_since(self, moment: Any) -> set[int]:
        rows = self.query("SELECT DISTINCT worker FROM history WHERE worker IS NOT NULL AND time > %s", moment)
        return {int(row[0].split(":")[1]) for row in rows}

    def now(self) -> Any:
        return self.query("SELECT clock_timestamp()")[0][0]

    def ended(self) -> int:
        return int(self.query("SELECT count(*) FROM instance WHERE ended_at IS NOT NULL AND parent_id IS NULL")[0][0])

    def flying(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT id, workflow_id, status, reason FROM instance WHERE ended_at IS NULL")

    def all_end(self, *webs: Fleet) -> None:
        def have_ended() -> bool:
            self.decide(*webs)
            return not self.flying()

        processes.wait_until(have_ended, within=WITHIN)


@pytest.fixture(scope="module")
def old() -> Iterator[Program]:
    with previous() as program:
        yield program


@pytest.fixture
def town() -> Iterator[Town]:
    town = Town()
    town.start()
    try:
        yield town
    finally:
        town.gate.set()
        town.stop()


@pytest.fixture
def settings(postgres_server: str, broker_url: str, town: Town, tmp_path: Path) -> Iterator[Settings]:
    """An empty database, without a table."""
    services = tmp_path / "services.yaml"
    services.write_text(shapes.LANES.format(url=town.url))
    (tmp_path / "workflows").mkdir()
    with servers.database(postgres_server) as url:
        yield Settings(
            database_url=url, broker_url=broker_url, auth="local", data_dir=str(tmp_path), services_file=str(services),
            workflows_dir=str(tmp_path / "workflows"), sweep_every=0.5, republish_after=2.0,
        )  # fmt: skip


@dataclass(kw_only=True)
class Rollout:
    """The old program's fleet and ours, and one scene after the other."""

    sky: Sky
    elders: Fleet
    ours: Fleet

    def the_old_one_flies_alone(self) -> None:
        self.elders.program.run(self.elders.settings, "db", "upgrade")
        self.elders.start(WORKERS)
        for workflow in shapes.WORKFLOWS:
            self.elders.put(workflow, shapes.text(workflow))
        self.sky.begin("on the old schema", [self.elders])
        processes.wait_until(lambda: self.sky.ended() > 0, within=WITHIN)

    def the_schema_is_expanded_while_calls_are_in_flight(self) -> None:
        self.sky.town.gate.clear()  # whoever calls now is in the midst of it until ours are there
        self.ours.program.run(self.ours.settings, "db", "upgrade")
        expand(self.sky)

    def ours_join(self) -> None:
        self.ours.start(WORKERS)
        self.sky.town.gate.set()
        joined = self.sky.now()
        self.sky.begin("side by side", [self.elders, self.ours])
        self.sky.decide(self.ours, self.elders)
        both_have_worked(self.sky, joined, self.elders, self.ours)

    def the_old_ones_leave(self) -> None:
        self.elders.leave()
        self.elders.left(codes=(0, 1) if old_is(UNTIL_MENDED) else (0,))
        self.sky.begin("on the new program alone", [self.ours])
        self.sky.decide(self.ours)

    def all_go_back(self) -> None:
        """Old ones join on the newer schema, and ours leave; the old ones finish."""
        self.elders.start(WORKERS)
        back = self.sky.now()
        self.sky.begin("on the way back", [self.elders])
        both_have_worked(self.sky, back, self.elders, self.ours)
        self.ours.leave()
        self.ours.left()
        self.sky.all_end(self.elders)

    def the_old_one_tells_how_all_ended(self) -> None:
        if not old_is(UNTIL_MENDED):
            told = {self.elders.status(instance)["status"] for instance, _ in of_all(self.sky)}
            assert told == {"COMPLETED", "COMPENSATED"}


@pytest.fixture
def rollout(old: Program, settings: Settings, town: Town, tmp_path: Path) -> Iterator[Rollout]:
    """Nothing runs yet but the other team's Celery app."""
    assert settings.database_url is not None
    assert settings.broker_url is not None
    with (
        fleet(old, settings) as elders,
        fleet(present(), settings) as ours,
        other_team.process(settings.broker_url, tmp_path),
    ):
        yield Rollout(sky=Sky(url=settings.database_url, town=town, reports=tmp_path), elders=elders, ours=ours)


def test_old_and_new_share_database_and_queues_and_nothing_is_lost_or_done_twice(rollout: Rollout) -> None:
    rollout.the_old_one_flies_alone()
    rollout.the_schema_is_expanded_while_calls_are_in_flight()
    rollout.ours_join()
    rollout.the_old_ones_leave()
    rollout.all_go_back()
    rollout.the_old_one_tells_how_all_ended()
    rollout.ours.start(0)
    everything_is_as_it_should_be(rollout.sky, rollout.ours)
    some_were_flown_by_both(rollout.sky, rollout.elders, rollout.ours)


def expand(sky: Sky) -> None:
    """What a migration of a program after ours may do, in a transaction each."""
    for (table,) in sky.query(TABLES):
        with psycopg.connect(plain_url(sky.url), autocommit=True) as connection:
            connection.execute("SET lock_timeout = '10s'")
            connection.execute(f"ALTER TABLE {table} ADD later text, ADD much_later int NOT NULL DEFAULT 0")
    newest = int(sky.query("SELECT version_num FROM alembic_version")[0][0])
    sky.query("UPDATE alembic_version SET version_num = %s RETURNING 1", f"{newest + 1:04}")


def old_is(commit: str) -> bool:
    from tests.chaos import previous as found

    return found.commit().startswith(commit)


def of_all(sky: Sky) -> list[tuple[str, str]]:
    return [one for batch in sky.batches.values() for one in batch]


def both_have_worked(sky: Sky, since: Any, *fleets: Fleet) -> None:
    """Each fleet has moved something since then. What it waits for comes in by itself: calls go on."""
    processes.wait_until(lambda: all(sky.workers_since(since) & fleet.pids for fleet in fleets), within=WITHIN)


def everything_is_as_it_should_be(sky: Sky, web: Fleet) -> None:
    flown = of_all(sky)
    assert len(flown) == 4 * EACH * len(shapes.STARTED)
    children = sky.query("SELECT id, workflow_id, status FROM instance WHERE parent_id IS NOT NULL")
    assert len(children) == 4 * EACH
    assert {row[2] for row in children} == {"COMPLETED"}
    ends = {row[0].hex: row[1] for row in sky.query("SELECT id, status FROM instance")}
    assert {trace: ends[trace] for trace, _ in flown} == {trace: shapes.ENDS[name] for trace, name in flown}
    for trace, name in flown[:: EACH + 1]:
        assert web.status(trace)["status"] == shapes.ENDS[name]
    effects_are_those_of_the_definitions(sky, [*flown, *((row[0].hex, row[1]) for row in children)])
    assert sky.query(GAPS) == [], "histories are numbered without a gap"
    assert sky.query("SELECT key FROM outbox WHERE sent_at IS NULL") == []


def effects_are_those_of_the_definitions(sky: Sky, flown: Sequence[tuple[str, str]]) -> None:
    """Each once, and in their order where there is one; by the ledgers of the services and of the other team."""
    assert sky.town.doubles() == {}
    for trace, name in flown:
        done, expected = sky.town.done(trace), list(shapes.EFFECTS[name])
        if name not in shapes.HAVE_ORDER:
            done, expected = sorted(done), sorted(expected)
        assert done == expected, name
    written = Counter(effect["call"]["key"] for effect in other_team.effects(sky.reports))
    assert written == {f"{trace}:write:g1:do": 1 for trace, name in flown if name == "reported"}


def some_were_flown_by_both(sky: Sky, *fleets: Fleet) -> None:
    pids: dict[str, set[int]] = {}
    for instance, worker in sky.query("SELECT DISTINCT instance_id, worker FROM history WHERE worker IS NOT NULL"):
        pids.setdefault(instance.hex, set()).add(int(worker.split(":")[1]))
    by_both = [trace for trace, workers in pids.items() if all(workers & fleet.pids for fleet in fleets)]
    print(f"{len(pids)} instances, {len(by_both)} of them by both programs; calls {sum(sky.town.asked.values())}, "
          f"effects {len(sky.town.effects)}")  # fmt: skip
    assert len(by_both) > EACH
