"""Looking: what the API, the CLI and the pages show. Nothing here changes anything.

Every function takes the `System`, and the tenant whose token asks. Ids are 32 hex digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from orchestrator import canary, lane_orders, views
from orchestrator.errors import (
    BadRequest,
    Invalid,
    NotFound,
)
from orchestrator.plan import Plan
from orchestrator.store import boards, dead_letters, definitions, filters, instances
from orchestrator.store import canary as canary_rows
from orchestrator.store.filters import Filter
from orchestrator.store.instances import Position
from orchestrator.system import System

STEPS = 1_000  # steps, compensations and children that a status answers with
HISTORY = 10_000  # entries that a status answers with; `history` pages through all of them


@dataclass(frozen=True, kw_only=True)
class Page:
    items: list[dict[str, Any]]
    cursor: str | None  # for the next page; none: this was the last


def status(system: System, *, tenant: str, instance_id: str, newest: int | None = None) -> dict[str, Any]:
    """The answer of `GET …/status` (`views.status`). `newest`: of its history so many entries, the last. Raises NotFound."""
    with system.database.transaction(tenant) as connection:
        row = _found(connection, tenant, instance_id)
        trace = row["id"].hex
        steps, omitted = instances.steps(connection, trace, "do", STEPS)
        undo, _ = instances.steps(connection, trace, "undo", STEPS)
        limit = HISTORY if newest is None else newest
        entries = instances.history(connection, tenant, trace, limit=limit, newest=newest is not None)
        children = boards.children(connection, tenant, trace, STEPS)
    base = system.settings.base_url
    shown = views.status(
        row, _plan(system, row["version_id"].hex), [*steps, *undo], entries,
        lambda one: f"{base}/callbacks/{trace}/{one['step']}",
    )  # fmt: skip
    return shown | {"stepsOmitted": omitted, "children": [views.child(one) for one in children]}


def _plan(system: System, version_id: str) -> Plan | None:
    """A definition that this version of the engine does not read any more must not hide its instances."""
    try:
        return system.plans(version_id)
    except Invalid:
        return None


def trace_of(instance_id: str) -> str:
    """An instance id as it is stored. Raises NotFound for what is none."""
    try:
        return UUID(instance_id).hex
    except ValueError:
        raise NotFound(f"{instance_id!r} is not an instance id: those have 32 hex digits") from None


def _found(connection: Connection, tenant: str, instance_id: str) -> dict[str, Any]:
    found = instances.find(connection, tenant, trace_of(instance_id))
    if found is None:
        raise NotFound(f"there is no instance {instance_id!r}")
    return found


BEGINNING = Position(time=datetime.fromtimestamp(0, UTC), instance="0" * 32, seq=0)
POSITION = re.compile("([0-9]{1,17})-([0-9a-f]{32})-([0-9]{1,9})")


def _after(cursor: str | None) -> Position:
    if cursor is None:
        return BEGINNING
    if (found := POSITION.fullmatch(cursor)) is None:
        raise _bad_cursor(cursor)
    time = BEGINNING.time + timedelta(microseconds=int(found[1]))
    return Position(time=time, instance=found[2], seq=int(found[3]))


def _position(one: Mapping[str, Any]) -> str:
    passed = (one["time"] - BEGINNING.time) // timedelta(microseconds=1)
    return f"{passed}-{one['instance_id'].hex}-{one['seq']}"


def before(cursor: str | None) -> str | None:
    """The id that a page of instances ended with. Raises BadRequest."""
    try:
        return UUID(cursor).hex if cursor is not None else None
    except ValueError:
        raise _bad_cursor(str(cursor)) from None


def _bad_cursor(cursor: str) -> BadRequest:
    return BadRequest(f"{cursor!r} is not a cursor: pass on the one that the page before gave")


def _page(found: list[dict[str, Any]], limit: int, cursor_of: Callable[[dict[str, Any]], str]) -> str | None:
    """The cursor for the next page. One row more than the page holds was asked for; it is dropped here."""
    if len(found) <= limit:
        return None
    del found[limit:]
    return cursor_of(found[-1])


def history(system: System, *, tenant: str, instance_id: str, limit: int = 100, cursor: str | None = None) -> Page:
    """Transitions, oldest first: the instance's own, and those of all that descend from it."""
    return _entries(system, tenant, instance_id, limit, cursor, view=views.entry)


def logs(system: System, *, tenant: str, instance_id: str, limit: int = 100, cursor: str | None = None) -> Page:
    """The same in console form: {instanceId, workflowId, time, level, step, line, seq, fields}.

    Transitions that nobody has to read about are left out, so that a page may hold fewer than `limit`, or none; the
    cursor says whether more follow.
    """
    return _entries(system, tenant, instance_id, limit, cursor, view=views.log_line)


def _entries(system: System, tenant: str, instance_id: str, limit: int, cursor: str | None, *,
             view: Callable[[Mapping[str, Any]], dict[str, Any] | None]) -> Page:  # fmt: skip
    with system.database.transaction(tenant) as connection:
        trace = _found(connection, tenant, instance_id)["id"].hex
        found = instances.family_history(connection, tenant, trace, after=_after(cursor), limit=limit + 1)
    following = _page(found, limit, _position)
    return Page(items=[shown for one in found if (shown := view(one)) is not None], cursor=following)


def list_instances(system: System, *, tenant: str, limit: int = 50, cursor: str | None = None, **asked: Any) -> Page:
    """Newest first (`views.summary`). `asked`: the fields of `filters.Filter`. Raises BadRequest."""
    wanted = Filter(tenant=tenant, before=before(cursor), limit=limit + 1, **asked)
    with system.database.transaction(tenant) as connection:
        found = filters.listed(connection, wanted)
        following = _page(found, limit, lambda row: row["id"].hex)
        active = instances.active_steps(connection, [row["id"].hex for row in found if row["ended_at"] is None])
    items = [views.summary(row, active.get(row["id"].hex, [])) for row in found]
    return Page(items=items, cursor=following)


def list_definitions(system: System, *, tenant: str) -> list[dict[str, Any]]:
    """{id, title, version, created, errors}: `errors` where the newest file in workflows/ was refused."""
    with system.database.transaction(tenant) as connection:
        stored = {row["workflow_id"]: row for row in definitions.listed(connection, tenant)}
        refused = definitions.refused(connection, tenant)
    return [
        {"id": name, "title": stored[name]["title"] if name in stored else None,
         "version": stored[name]["version"] if name in stored else None,
         "created": views.iso(stored[name]["created_at"]) if name in stored else None,
         "errors": [str(problem) for problem in refused.get(name, ())]}
        for name in sorted(stored | refused)
    ]  # fmt: skip


def get_definition(system: System, *, tenant: str, workflow_id: str, version: int | None = None) -> dict[str, Any]:
    """{id, title, version, versions, created, text, errors}. Raises NotFound."""
    with system.database.transaction(tenant) as connection:
        found = definitions.find(connection, tenant, workflow_id, version)
        versions = definitions.versions(connection, tenant, workflow_id)
        refused = definitions.refused(connection, tenant).get(workflow_id, ())
    if found is None and not refused:
        raise NotFound(f"there is no workflow {workflow_id!r}" + (f" in version {version}" if version else ""))
    return {
        "id": workflow_id, "title": found.title if found else None, "version": found.version if found else None,
        "versions": versions, "created": views.iso(found.created_at) if found else None,
        "text": found.text if found else None, "errors": [str(problem) for problem in refused],
    }  # fmt: skip


def ready(system: System) -> dict[str, Any]:
    """`/readyz`: {ok, database, broker}, where what is not `ok` says why. It says nothing of workers: starts are taken
    without them."""
    found = {"database": _try(lambda: _ask_database(system)), "broker": _try(lambda: _ask_broker(system))}
    return {"ok": all(said == "ok" for said in found.values()), **found}


def proof(system: System) -> dict[str, Any] | None:
    """Of the canary {age, late}: `age` in seconds, none where none has come through; none at all where it is switched off."""
    every = system.settings.canary
    if not every:
        return None
    with system.database.across_tenants() as connection:
        found = canary_rows.newest(connection)
    return {"age": round(found.age, 1) if found else None, "late": canary.is_late(found, every)}


def _try(question: Callable[[], object]) -> str:
    try:
        question()
    except Exception as error:  # noqa: BLE001  # whatever a driver raises is the answer here
        return f"{type(error).__name__}: {error}".split("\n")[0][:200]
    return "ok"


def _ask_database(system: System) -> None:
    with system.database.across_tenants() as connection:
        connection.execute(text("SELECT 1 FROM instance LIMIT 1"))


def _ask_broker(system: System) -> None:
    with system.app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=2)


def metrics(system: System) -> str:
    """`/metrics` in Prometheus' text form: of all tenants together, and naming none."""
    with system.database.across_tenants() as connection:
        counts, steps = instances.counts(connection), instances.step_counts(connection)
        found = canary_rows.newest(connection) if system.settings.canary else None
        letters, kept = dead_letters.counts(connection), dead_letters.kept(connection)
    lines = ["# TYPE orchestrator_instances gauge"]
    lines += [f'orchestrator_instances{{status="{name}"}} {count}' for name, count in sorted(counts.items())]
    lines += ["# TYPE orchestrator_steps gauge"]
    lines += [f'orchestrator_steps{{state="{name}"}} {count}' for name, (count, _) in sorted(steps.items())]
    lines += ["# TYPE orchestrator_oldest_step_seconds gauge"]
    lines += [
        f'orchestrator_oldest_step_seconds{{state="{name}"}} {age:.3f}' for name, (_, age) in sorted(steps.items())
    ]
    if found is not None:
        lines += ["# TYPE orchestrator_canary_age_seconds gauge", f"orchestrator_canary_age_seconds {found.age:.3f}"]
        lines += ["# TYPE orchestrator_canary_duration_seconds gauge",
                  f"orchestrator_canary_duration_seconds {found.duration:.3f}"]  # fmt: skip
    lines += ["# TYPE orchestrator_dead_letters_total counter"]
    lines += [f'orchestrator_dead_letters_total{{reason="{name}"}} {count}' for name, count in letters.items()]
    lines += ["# TYPE orchestrator_dead_letters_kept gauge"]
    lines += [f'orchestrator_dead_letters_kept{{reason="{name}"}} {count}' for name, (count, _) in kept.items()]
    return "\n".join([*lines, *lane_orders.metrics(system)]) + "\n"
