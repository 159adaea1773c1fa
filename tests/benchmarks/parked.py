"""`python -m tests.benchmarks.parked [--instances 100000]`: so many instances wait, and then all come due at once.

Two hundred are started and parked by real workers; the others are copies of their rows, column by column, with ids of
their own. Half wait for a decision with a deadline, half for a moment; a step that does nothing follows. While they come
due, newcomers are started: one of the same tenant and one of another, again and again. `--plans` only fills the tables
and explains what sweep and dispatcher ask in five situations; that is for a million.
Runs are kept in docs/reliability/parked.txt (`--write`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

import psycopg
from sqlalchemy import Connection, TextClause, text

from orchestrator import bootstrap, embedded, engine
from orchestrator.settings import Settings
from orchestrator.store import completions, deferred, due, family, retention
from orchestrator.store.database import plain_url, upgrade
from orchestrator.sweep import sweep
from orchestrator.system import System
from tests import flights, servers
from tests.benchmarks import machine
from tests.benchmarks.resting_stack import proportional
from tests.clock import Clock

KEPT = machine.ROOT / "docs" / "reliability" / "parked.txt"
SERVICES = "services:\n  noop: {transport: local, module: tests.benchmarks.noop, idempotency: key}\n"
DEFINITIONS = {
    "asks": "id: asks\nsteps: [{id: approval, pause: true, timeout: 30d, onTimeout: skip}, {id: after, service: noop.work}]",
    "rests": "id: rests\nsteps: [{id: rest, wait: 30d}, {id: after, service: noop.work}]",
    "newcomer": "id: newcomer\nsteps: [{id: work, service: noop.work}]",
}
PARKED = ("asks", "rests")
MONTH = 30 * 86_400.0  # seconds
ORIGINALS = 100  # of each, parked by workers
OTHER = "other"  # a tenant that has nothing parked
WORKERS = 2  # processes
LOOK_EVERY = 3.0  # seconds

COPIES = """
CREATE TEMPORARY TABLE copies AS
SELECT o.id AS original, (lpad(to_hex((extract(epoch FROM clock_now()) * 1000)::bigint + n / 1000), 12, '0') || '7'
  || lpad(to_hex(n % 4096), 3, '0') || '8' || substr(md5(n::text), 1, 15))::uuid AS id
FROM generate_series(1, {count}) n
JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS number FROM instance) o ON o.number = n % {originals};
CREATE INDEX ON copies (original);
ANALYZE copies;
"""
COLUMNS = """
SELECT string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position) FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = '{table}' AND column_name <> '{key}' AND is_generated = 'NEVER'
"""
TABLES = {"instance": "id", "step": "instance_id", "history": "instance_id"}

WAITING = text("SELECT count(*) FROM step WHERE state = 'WAITING'")
OPEN = text("SELECT count(*) FROM instance WHERE ended_at IS NULL AND workflow_id = ANY(ARRAY['asks', 'rests'])")
LAGS = """
SELECT extract(epoch FROM h.time - %(moved)s) FROM history h
WHERE h.verb IN ('skip', 'elapse') AND h.time >= %(moved)s
"""
ENDS = """
SELECT extract(epoch FROM ended_at - %(moved)s) FROM instance
WHERE ended_at >= %(moved)s AND workflow_id = ANY(ARRAY['asks', 'rests'])
"""
TOOK = text("SELECT extract(epoch FROM ended_at - started_at) FROM instance WHERE id = CAST(:id AS uuid)")
SOUND = """
SELECT count(*) FROM instance i WHERE i.workflow_id = ANY(ARRAY['asks', 'rests']) AND i.status = 'COMPLETED'
  AND (SELECT count(*) = i.history_seq AND max(seq) = i.history_seq AND count(*) FILTER (WHERE verb = 'succeed') = 1
       FROM history h WHERE h.instance_id = i.id)
"""

# What sweep and dispatcher ask, with the values that they are asked with.
STATEMENTS: dict[str, tuple[TextClause, dict[str, Any]]] = {
    "sweep: lost leases": (due.LOST, {"limit": 100}),
    "sweep: waits that are due": (due.OVERDUE, {"limit": 100}),
    "sweep: deadlines of instances": (due.DEADLINES, {"limit": 100}),
    "sweep: queues with unclaimed messages": (due.FLYING_QUEUES, {"grace": 10.0}),
    "sweep: republish": (due.REPUBLISH, {"queue": "legs", "grace": 10.0, "empty": False, "limit": 1000}),
    "sweep: children that have ended": (family.UNTOLD, {"limit": 100}),
    "sweep: children to cancel": (family.ABANDONED, {"limit": 100}),
    "dispatcher: publish": (due.PUBLISH, {"window": 1000, "limit": 500}),
    "dispatcher: when it has to look again": (due.NEXT_DUE, {}),
    "dispatcher: lanes that are waited for": (deferred.GATES, {}),
    "leases: extend": (due.EXTEND, {"worker": "nobody", "lease": 30.0}),
    "completions: ends to be told": (completions.TAKE, {"limit": 20, "lease": 30.0}),
    "retention: purge": (
        retention.PURGE,
        {"older_than": 86_400.0, "tenant": None, "workflow_id": None, "statuses": None, "limit": 100},
    ),
}
UNFENCED = ("sweep: children that have ended", "sweep: children to cancel")
FENCED = {name for name in STATEMENTS if name.startswith("sweep:") or name == "dispatcher: publish"} - {*UNFENCED}


@dataclass(frozen=True, kw_only=True)
class Field:
    system: System
    clock: Clock

    def count(self, statement: TextClause) -> int:
        with self.system.database.transaction() as connection:
            return int(connection.execute(statement).scalar_one())


@contextmanager
def field() -> Iterator[Field]:
    """A durable Postgres, as `up` runs it, and a broker; no worker yet."""
    with ExitStack() as running:
        folder = running.enter_context(servers.data_directory())
        postgres = running.enter_context(embedded.postgres(folder, durable=True))
        broker = running.enter_context(embedded.broker(folder))
        upgrade(postgres.url)
        clock = Clock(postgres.url)
        clock.install()
        (folder / "services.yaml").write_text(SERVICES)
        system = bootstrap.compose(Settings(
            database_url=postgres.url, broker_url=broker.url, auth="local", data_dir=str(folder),
            services_file=str(folder / "services.yaml"),
        ))  # fmt: skip
        running.callback(system.close)
        for name, definition in DEFINITIONS.items():
            for tenant in (flights.TENANT, OTHER):
                engine.put_definition(system, tenant=tenant, workflow_id=name, text=definition)
        yield Field(system=system, clock=clock)


@contextmanager
def workers(system: System) -> Iterator[list[subprocess.Popen[bytes]]]:
    with ExitStack() as running:
        yield [running.enter_context(flights.worker_process(system)) for _ in range(WORKERS)]


def park(found: Field, count: int, *, with_history: bool) -> float:
    """Returns the seconds that the copying took."""
    with workers(found.system):
        for workflow in PARKED:
            for _ in range(ORIGINALS):
                flights.start(found.system, workflow, {})
        flights.until(lambda: found.count(WAITING) == len(PARKED) * ORIGINALS, "all originals wait")
    began = time.monotonic()
    originals = len(PARKED) * ORIGINALS
    with psycopg.connect(plain_url(found.system.settings.database_url or "")) as connection:
        connection.execute(COPIES.format(count=count - originals, originals=originals).encode())
        for table, key in TABLES.items():
            if with_history or table != "history":
                copy(connection, table, key)
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE")
    return time.monotonic() - began


def copy(connection: psycopg.Connection[Any], table: str, key: str) -> None:
    row = connection.execute(COLUMNS.format(table=table, key=key).encode()).fetchone()
    assert row is not None
    (columns,) = row
    connection.execute(
        f"INSERT INTO {table} ({key}, {columns}) SELECT c.id, {columns} FROM copies c JOIN"
        f" (SELECT {key} AS of, {columns} FROM {table}) t ON t.of = c.original".encode()
    )


# -- all at once


@dataclass(kw_only=True)
class Newcomer:
    tenant: str
    instance: str
    at: float  # seconds after the others came due
    took: float | None = None


def come_due(found: Field, count: int, within: float) -> Iterator[str]:
    with workers(found.system) as processes:
        flights.until(lambda: len(_connected(found)) >= WORKERS * 3, "the workers are connected")
        for _ in range(2):  # what starts with them is over
            assert sweep(found.system) == 0
        yield f"sweep with nothing due: {_timed(lambda: sweep(found.system)) * 1000:.0f} ms"
        yield f"memory of a worker, all parked: {_weights(processes)}"
        found.clock.advance(MONTH + 60)
        moved, began = found.clock.now(), time.monotonic()
        newcomers, peaks = list[Newcomer](), list[int]()
        while still := found.count(OPEN):
            at, waiting = time.monotonic() - began, found.count(WAITING)
            if at > within:
                yield f"stopped after {at:.0f} s: {count - waiting} of {count} deadlines had been performed"
                break
            newcomers += [_newcomer(found, tenant, at) for tenant in (flights.TENANT, OTHER)]
            peaks.append(max(proportional(one.pid) for one in processes))
            sys.stderr.write(f"\r{at:.0f} s: {waiting} wait, {still} open   ")
            time.sleep(max(0.0, LOOK_EVERY - (time.monotonic() - began - at)))
        whole = time.monotonic() - began
        sys.stderr.write("\n")
        for one in newcomers:
            one.took = _took(found, one)
        yield f"memory of the largest worker at its peak, meanwhile: {max(peaks) / 2**20:.0f} MB"
        yield f"after {whole:.0f} s {count - still} of {count} have ended: {(count - still) / whole:.0f} a second"
    with psycopg.connect(plain_url(found.system.settings.database_url or "")) as connection:
        for name, statement in (("from due to performed", LAGS), ("from due to the end of the instance", ENDS)):
            yield f"{name}: {_spread([float(row[0]) for row in connection.execute(statement.encode(), {'moved': moved})])}"
        row = connection.execute(SOUND.encode()).fetchone()
        assert row is not None
        yield f"completed, each step done once, history without a gap: {row[0]} of {count - still}"
    for tenant, whose in ((flights.TENANT, "of the same tenant"), (OTHER, "of another tenant")):
        took = [one.took for one in newcomers if one.tenant == tenant]
        ended = [seconds for seconds in took if seconds is not None]
        yield f"newcomers {whose}, from start to end: {_spread(ended)}; {len(took) - len(ended)} have not ended yet"


def _connected(found: Field) -> list[Any]:
    with found.system.database.transaction() as connection:
        return list(connection.execute(text("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")))


def _newcomer(found: Field, tenant: str, at: float) -> Newcomer:
    started = engine.start(found.system, tenant=tenant, workflow_id="newcomer", payload={})
    return Newcomer(tenant=tenant, instance=started.instance_id, at=at)


def _took(found: Field, one: Newcomer) -> float | None:
    with found.system.database.transaction() as connection:
        took = connection.execute(TOOK, {"id": one.instance}).scalar_one()
    return None if took is None else float(took)


def _timed(action: Any) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _weights(processes: Sequence[subprocess.Popen[bytes]]) -> str:
    return ", ".join(f"{proportional(one.pid) / 2**20:.0f} MB" for one in processes)


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values}"
    cuts = quantiles(values, n=100, method="inclusive")
    return f"p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s, max {max(values):.2f} s ({len(values)})"


# -- plans


def plans(found: Field, *, in_full: bool) -> Iterator[str]:
    """What each statement takes in each of five situations."""
    yield from _explained(found, "parked, nothing due", in_full=in_full)
    found.clock.advance(MONTH + 60)
    yield from _explained(found, "all due", in_full=in_full)
    _become(found, "state = 'READY', ready_at = clock_now(), due_at = NULL, published_at = NULL")
    yield from _explained(found, "all READY, none published", in_full=in_full)
    _become(found, "state = 'RETRYING', ready_at = clock_now() + interval '1 hour'")
    yield from _explained(found, "all RETRYING in an hour", in_full=in_full)
    _become(found, "state = 'RUNNING', lease_until = clock_now() - interval '1 minute', worker = 'somebody'")
    yield from _explained(found, "all RUNNING, leases lost", in_full=in_full)


def _become(found: Field, columns: str) -> None:
    """All steps that have not ended; then what autovacuum does."""
    with found.system.database.transaction() as connection:
        connection.execute(text(f"UPDATE step SET {columns} WHERE state IN ('WAITING', 'READY', 'RETRYING')"))
    with psycopg.connect(plain_url(found.system.settings.database_url or ""), autocommit=True) as alone:
        alone.execute("VACUUM ANALYZE step")


def _explained(found: Field, situation: str, *, in_full: bool) -> Iterator[str]:
    yield f"\n== {situation}"
    for name, (statement, values) in STATEMENTS.items():
        with found.system.database.engine.connect() as connection, connection.begin() as transaction:
            plan = _plan(connection, statement, values, fenced=name in FENCED)
            transaction.rollback()
        seconds = next(line for line in plan if line.startswith("Execution Time"))
        reads = sorted(
            {line.strip(" ->").split("  (")[0] for line in plan if "Scan" in line and "CTE Scan" not in line}
        )
        tables = [one for one in reads if one.startswith("Seq Scan") and any(f" on {name}" in one for name in TABLES)]
        yield f"{name}: {seconds.removeprefix('Execution Time: ')}{'; SEQUENTIAL: ' + ', '.join(tables) if tables else ''}"
        yield from (f"    {one}" for one in (plan if in_full else reads))


def _plan(connection: Connection, statement: TextClause, values: dict[str, Any], *, fenced: bool) -> list[str]:
    if fenced:
        due.read_from_the_index(connection)
    explained = text(f"EXPLAIN (ANALYZE, BUFFERS) {statement.text}")
    return list(connection.execute(explained, values).scalars())


def report(count: int, *, within: float, only_plans: bool, in_full: bool) -> Iterator[str]:
    with field() as found:
        yield f"commit {machine._commit()}, {count} instances, load average {os.getloadavg()[0]:.0f}"
        seconds = park(found, count, with_history=not only_plans)
        yield f"{len(PARKED) * ORIGINALS} parked by workers, copied in {seconds:.0f} s"
        if only_plans:
            yield from plans(found, in_full=in_full)
        else:
            yield from come_due(found, count, within)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.parked", description=__doc__)
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--within", type=float, default=1800.0, help="seconds of coming due after which it is stopped")
    parser.add_argument("--plans", action="store_true", help="explain only, without history and without workers")
    parser.add_argument("--in-full", action="store_true", help="with --plans: whole plans")
    parser.add_argument("--write", action="store_true", help=f"add the output to {KEPT.relative_to(machine.ROOT)}")
    given = parser.parse_args()
    flights.PATIENCE = 120.0  # a busy machine takes long to start a worker
    said = []
    for line in report(given.instances, within=given.within, only_plans=given.plans, in_full=given.in_full):
        said.append(line)
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    if given.write:
        asked = " ".join(sys.argv[1:])
        with KEPT.open("a", encoding="utf-8") as kept:
            kept.write(f"$ python -m tests.benchmarks.parked {asked}\n" + "\n".join(said) + "\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
