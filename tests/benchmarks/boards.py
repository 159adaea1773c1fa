"""`python -m tests.benchmarks.boards [--write]`: how long the pages take over a hundred thousand instances.

Each page is asked for over WSGI, as its tenant; what it asks the database is then explained and analysed statement by
statement. `--write` puts the table into docs/benchmarks.md. `--explain WORDS` prints the plans of the pages whose name
has these words.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from flask.testing import FlaskClient
from sqlalchemy import event

from orchestrator import bootstrap
from orchestrator.api.app import create_app
from orchestrator.settings import Settings
from orchestrator.store.database import plain_url, upgrade
from orchestrator.system import System
from tests import city, flights, servers
from tests.benchmarks.report import DOCUMENT, PAGES

INSTANCES, LIVE, WAITS, ITEMS, WORKFLOWS = 100_000, 10_000, 5_000, 5_000, 20
TIMES = 5
MOST = 200.0  # milliseconds that a page may take

DEFINITION = """\
id: flow-{number}
title: Permit of kind {number}
businessKey: payload.permitNo
deadline: 300d
steps:
  - {{id: upload, title: Store the documents, service: fileSvc.upload}}
  - {{id: charge, title: Charge the fee, service: achSvc.charge, compensate: achSvc.refund}}
  - {{id: decide, title: Zoning approval, service: zoningPortal.approve, pause: true, timeout: 48h, onTimeout: fail}}
  - {{id: update, title: Renew the permit, service: permitSvc.update}}
"""
LOOP = """\
id: many
title: Very many documents
steps:
  - id: each
    title: Every document
    forEach: payload.documents
    as: one
    maxConcurrency: 1000
    steps: [{id: check, title: Check it, service: fileSvc.check}]
"""
# One row of `made` an instance. Every tenth has not ended; of four in five the tenant is `local`. Times go back from
# now, a minute apart; ids are made of them, as version 7 UUIDs are.
MADE = f"""
CREATE TEMPORARY TABLE made AS
SELECT n, clock_now() - make_interval(mins => {INSTANCES} - n) AS at, CASE WHEN n % 5 = 0 THEN 'other' ELSE 'local' END AS tenant,
  'flow-' || (n / 10) % {WORKFLOWS} AS workflow_id, n % 10 = 1 AS live, CASE
    WHEN n % 10 <> 1 THEN (ARRAY['COMPLETED', 'COMPLETED', 'COMPLETED', 'COMPENSATED', 'FAILED', 'CANCELLED'])[1 + (n / 10) % 6]
    WHEN n % 200 = 21 THEN 'STUCK' WHEN n % 200 = 41 THEN 'SUSPENDED' WHEN n % 200 = 61 THEN 'COMPENSATING'
    WHEN n % 40 IN (1, 31) THEN 'WAITING' WHEN n % 40 = 11 THEN 'RUNNING' ELSE 'WAITING' END AS status
FROM generate_series(1, {INSTANCES}) n;
ALTER TABLE made ADD id uuid;
UPDATE made SET id = (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0')
  || '8' || substr(md5(n::text), 1, 15))::uuid;
"""
INSTANCE = """
INSERT INTO instance (id, tenant, workflow_id, version_id, version, status, outcome, history_seq, life, business_key, payload,
  started_at, ended_at, deadline_at)
SELECT m.id, m.tenant, m.workflow_id, v.id, 1, m.status, CASE WHEN m.status IN ('FAILED', 'COMPENSATED') THEN 'FAILED' END, 8, 1,
  'STR-2026-' || lpad(m.n::text, 6, '0'),
  jsonb_build_object('permitNo', 'STR-2026-' || m.n, 'applicant', 'Maria Lopez', 'address', jsonb_build_object('street', '12 Elm Street')),
  m.at, CASE WHEN NOT m.live THEN m.at + interval '50 minutes' END, m.at + interval '300 days'
FROM made m JOIN definition_version v ON v.tenant = m.tenant AND v.workflow_id = m.workflow_id
"""
STEP = """
INSERT INTO step (instance_id, step, phase, tenant, version_id, "order", queue, state, service, generation, attempt, tries, losses,
  rounds, alone, escalated, uncertain, uncertain_before, branches_left, ready_at, started_at, ended_at, due_at, output)
SELECT i.id, s.step, 'do', i.tenant, i.version_id, s.number, 'default', s.state, s.service, 0, 1, 0, 0, 0, false,
  s.state = 'WAITING' AND m.n % 100 = 1, false, false, 0, i.started_at + make_interval(mins => s.number),
  i.started_at + make_interval(mins => s.number), CASE WHEN s.state = 'SUCCEEDED' THEN i.started_at END,
  CASE WHEN s.state IN ('WAITING', 'RETRYING') THEN clock_now() + make_interval(mins => m.n % 2880) END, '{"ok": true}'
FROM made m JOIN instance i ON i.id = m.id CROSS JOIN LATERAL (VALUES
  (1, 'upload', 'fileSvc.upload', 'SUCCEEDED'),
  (2, 'charge', 'achSvc.charge', CASE WHEN m.status IN ('FAILED', 'COMPENSATED') THEN 'FAILED' ELSE 'SUCCEEDED' END),
  (3, 'decide', 'zoningPortal.approve', CASE WHEN NOT m.live THEN 'SUCCEEDED' WHEN m.status = 'STUCK' THEN 'UNKNOWN'
     WHEN m.status = 'RUNNING' THEN (ARRAY['READY', 'RUNNING', 'RUNNING', 'RETRYING'])[1 + (m.n / 40) % 4] ELSE 'WAITING' END),
  (4, 'update', 'permitSvc.update', CASE WHEN NOT m.live THEN 'SUCCEEDED' END)) AS s(number, step, service, state)
WHERE s.state IS NOT NULL
"""
HISTORY = """
INSERT INTO history (instance_id, seq, tenant, verb, status, step, phase, attempt, generation, service, time)
SELECT m.id, seq, m.tenant, 'succeed', 'SUCCEEDED', 'upload', 'do', 1, 0, 'fileSvc.upload',
  CASE WHEN m.live THEN m.at ELSE m.at + make_interval(mins => seq * 6) END
FROM made m CROSS JOIN generate_series(1, 8) seq
"""
ITERATION = f"""
INSERT INTO step (instance_id, step, phase, tenant, version_id, "order", queue, state, service, generation, attempt, tries, losses,
  rounds, alone, escalated, uncertain, uncertain_before, branches_left, ready_at, started_at, ended_at, output)
SELECT i.id, 'check[' || n || ']', 'do', i.tenant, i.version_id, 2, 'default',
  CASE WHEN n < {ITEMS - 1000} THEN 'SUCCEEDED' ELSE 'WAITING' END, 'fileSvc.check', 0, 1, 0, 0, 0, false, false, false, false, 0,
  i.started_at, i.started_at, CASE WHEN n < {ITEMS - 1000} THEN i.started_at END, '{{"ok": true}}'
FROM instance i CROSS JOIN generate_series(0, {ITEMS - 1}) n WHERE i.workflow_id = 'many'
"""
ITERATION_HISTORY = f"""
INSERT INTO history (instance_id, seq, tenant, verb, status, step, phase, attempt, generation, service, time)
SELECT i.id, 2 + n, i.tenant, CASE n % 3 WHEN 0 THEN 'ready' WHEN 1 THEN 'claim' ELSE 'succeed' END,
  CASE n % 3 WHEN 0 THEN 'READY' WHEN 1 THEN 'RUNNING' ELSE 'SUCCEEDED' END, 'check[' || n / 3 || ']', 'do', 1, 0,
  'fileSvc.check', i.started_at + make_interval(secs => n)
FROM instance i CROSS JOIN generate_series(1, {3 * ITEMS - 3}) n WHERE i.workflow_id = 'many'
"""
LOOP_ROW = f"""
INSERT INTO step (instance_id, step, phase, tenant, version_id, "order", queue, state, generation, attempt, tries, losses, rounds,
  alone, escalated, uncertain, uncertain_before, branches_left, ready_at, started_at, items, begun)
SELECT i.id, 'each', 'do', i.tenant, i.version_id, 1, 'default', 'RUNNING', 0, 1, 0, 0, 0, false, false, false, false, 1000,
  i.started_at, i.started_at, {ITEMS}, {ITEMS} FROM instance i WHERE i.workflow_id = 'many'
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, kw_only=True)
class Scene:
    client: FlaskClient
    database_url: str
    statements: list[tuple[str, Any]]  # of the page that was asked for last


@dataclass(frozen=True, kw_only=True)
class Timed:
    page: str
    path: str
    whole: float  # milliseconds
    database: float  # of it, by EXPLAIN ANALYZE
    slowest: str  # plan of the slowest statement
    slowest_ms: float
    size: int  # bytes


@contextmanager
def scene() -> Iterator[Scene]:
    with (
        servers.postgres() as postgres,
        servers.broker() as broker,
        servers.database(postgres) as url,
        tempfile.TemporaryDirectory() as folder,
    ):
        upgrade(url)
        lanes = Path(folder) / "services.yaml"
        lanes.write_text(city.LANES.format(url="http://127.0.0.1:9"))
        settings = Settings(auth="local", database_url=url, broker_url=broker, services_file=str(lanes))
        system = bootstrap.compose(settings)
        try:
            _define(system)
            _fill(url)
            yield _scene(system, url)
        finally:
            system.close()


def _define(system: System) -> None:
    from orchestrator import engine

    for number in range(WORKFLOWS):
        for tenant in ("local", "other"):
            text = DEFINITION.format(number=number)
            engine.put_definition(system, tenant=tenant, workflow_id=f"flow-{number}", text=text)
    flights.define(system, LOOP)
    flights.start(system, "many", {"documents": [{"name": f"plan-{number}.pdf"} for number in range(ITEMS)]})


def _fill(url: str) -> None:
    with psycopg.connect(plain_url(url)) as connection:
        for statement in (MADE, INSTANCE, STEP, HISTORY, ITERATION, ITERATION_HISTORY, LOOP_ROW):
            connection.execute(statement)
        connection.execute(
            "UPDATE step SET state = 'RUNNING', items = %s, begun = %s WHERE step = 'each'", [ITEMS, ITEMS]
        )
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE")


def _scene(system: System, url: str) -> Scene:
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(system.database.engine, "before_cursor_execute", note)
    return Scene(client=create_app(system).test_client(), database_url=url, statements=statements)


def pages(scene: Scene) -> dict[str, str]:
    """Name → path."""
    with psycopg.connect(plain_url(scene.database_url)) as connection:
        (one,) = connection.execute(
            "SELECT id FROM instance WHERE status = 'WAITING' AND tenant = 'local' LIMIT 1"
        ).fetchone()  # type: ignore[misc]
        (many,) = connection.execute("SELECT id FROM instance WHERE workflow_id = 'many'").fetchone()  # type: ignore[misc]
    filters = (
        "status=WAITING", "status=COMPLETED", "workflow=flow-3", "workflow=flow-3&version=1", "key=STR-2026-050001", "lane=achSvc",
        "lane=zoningPortal", "lane=permitSvc", "since=2h", "since=1s", "since=1s&status=WAITING", "since=30d&lane=achSvc", "since=30d&status=WAITING", "late=1", "stuck=1",
        "q=050001", "q=nothing-has-this", "q=STR",
    )  # fmt: skip
    return {
        "overview": "/ui", "instances": "/ui/instances",
        **{f"instances, {query}": f"/ui/instances?{query}" for query in filters},
        "order all, lane=zoningPortal": "/ui/orders/retry?lane=zoningPortal",
        "inbox": "/ui/inbox", "inbox, far behind": "/ui/inbox?cursor=4000", "lanes": "/ui/lanes", "workflows": "/ui/workflows",
        "one workflow": "/ui/workflows/flow-3", "where, by key": "/ui/where?key=STR-2026-050001", "where, by a part": "/ui/where?key=5000",
        "where, unknown": "/ui/where?key=nothing-has-this", "progress": f"/ui/where/{one.hex}",
        "one wait": f"/ui/inbox/{one.hex}/decide", "instance": f"/ui/instances/{one.hex}",
        f"instance, forEach of {ITEMS}": f"/ui/instances/{many.hex}", f"progress, forEach of {ITEMS}": f"/ui/where/{many.hex}",
        f"status (REST), forEach of {ITEMS}": f"/api/workflows/{many.hex}/status",
    }  # fmt: skip


def measured(scene: Scene, page: str, path: str) -> Timed:
    took, size = [], 0
    for _ in range(TIMES):
        scene.statements.clear()
        began = time.perf_counter()
        answer = scene.client.get(path, follow_redirects=True)
        took.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, (path, answer.status_code, answer.data[:300])
        size = len(answer.data)
    plans = [_analysed(scene, statement, parameters) for statement, parameters in list(scene.statements)]
    known = [(_execution(plan), plan) for plan in plans if plan]
    slowest_ms, slowest = max(known)
    return Timed(page=page, path=path, whole=median(took), database=sum(one for one, _ in known), slowest=slowest,
                 slowest_ms=slowest_ms, size=size)  # fmt: skip


def _analysed(scene: Scene, statement: str, parameters: Any) -> str:
    """As the tenant, with row-level security; empty for what is no question, or is nobody's in particular."""
    if not re.match(r"\s*(SELECT|WITH)", statement) or "set_config" in statement or " FROM lane" in statement:
        return ""
    with psycopg.connect(plain_url(scene.database_url)) as connection:
        connection.execute("SELECT set_config('orchestrator.tenant', 'local', true)")
        connection.execute("SET LOCAL ROLE orchestrator_tenant")
        rows = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", parameters)
        return "\n".join(row[0] for row in rows)


def _execution(plan: str) -> float:
    return sum(float(found) for found in re.findall(r"(?:Planning|Execution) Time: ([0-9.]+) ms", plan))


def table(found: list[Timed]) -> str:
    rows = [f"| {one.page} | {one.whole:.0f} ms | {one.database:.0f} ms | {one.size / 1000:.0f} kB |" for one in found]
    return "\n".join(["| page | whole | database | size |", "|---|---|---|---|", *rows])


def section(found: list[Timed]) -> str:
    return f"""{PAGES}

Written by `.venv/bin/python -m tests.benchmarks.boards --write`, by hand. {INSTANCES:,} instances of {WORKFLOWS} workflows and two
tenants (four in five belong to the one that looks), every tenth of which has not ended; more than {WAITS:,} wait for a
person. *whole*: from the request to the last byte, the median of {TIMES}, in one process without a network. *database*: of it,
the sum of what `EXPLAIN ANALYZE` says of each statement, planning included. Every page is to stay below {MOST:.0f} ms.

{table(found)}
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.boards", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument(
        "--explain", metavar="WORDS", help="print the slowest plan of the pages with these words in their name"
    )
    given = parser.parse_args()
    with scene() as filled:
        found = [measured(filled, page, path) for page, path in pages(filled).items()]
    for one in found:
        if given.explain is not None and given.explain in one.page:
            sys.stdout.write(f"\n== {one.page}: {one.slowest_ms:.1f} ms\n{one.slowest}\n")
    sys.stdout.write(table(found) + "\n")
    if given.write:
        kept = DOCUMENT.read_text(encoding="utf-8").partition(PAGES)[0].rstrip()
        DOCUMENT.write_text(f"{kept}\n\n{section(found)}", encoding="utf-8")
    return 1 if any(one.whole > MOST for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
