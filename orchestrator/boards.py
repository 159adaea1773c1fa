"""Looking at many instances at once, and at one as people see it: what the pages of the control tower show.

Every function takes the `System`, and the tenant whose token asks. Moments are datetimes of the database's clock.
Nothing here changes anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from orchestrator import lane_orders, queries
from orchestrator.definition import Definition, ServiceStep, TimeoutAction, walk
from orchestrator.errors import BadRequest, Invalid, NotFound
from orchestrator.milestones import milestones, plain, title_of
from orchestrator.queries import Page
from orchestrator.states import WAITING
from orchestrator.store import boards, filters, instances
from orchestrator.store.filters import Filter
from orchestrator.system import System

HOUR = 3600.0
BATCH, BATCHES = 100, 10  # of waits that are looked through for a page of the inbox

Shown = dict[str, Any]


# -- the operator


def overview(system: System, *, tenant: str) -> Shown:
    """{now, counts, late, stuck, ended}: `counts` of what has not ended and `ended` of the last hour, by status."""
    with system.database.transaction(tenant) as connection:
        late, stuck = boards.troubled(connection, tenant)
        return {
            "now": boards.now(connection), "counts": boards.counts(connection, tenant), "late": late, "stuck": stuck,
            "ended": boards.ended(connection, tenant, HOUR),
        }  # fmt: skip


def listed(system: System, wanted: Filter) -> Page:
    """Newest first: {instanceId, workflowId, title, version, status, reason, businessKey, current, started, ended,
    deadline}; `current`: the titles of its active steps. Raises BadRequest for what is no moment."""
    with system.database.transaction(wanted.tenant) as connection:
        found = filters.listed(connection, replace(wanted, limit=wanted.limit + 1))
        following = found[wanted.limit - 1]["id"].hex if len(found) > wanted.limit else None
        del found[wanted.limit :]
        active = instances.active_steps(connection, [row["id"].hex for row in found if row["ended_at"] is None])
        known = _definitions(system, connection, found)
    return Page(items=[_line(row, known[row["version_id"]], active.get(row["id"].hex, [])) for row in found],
                cursor=following)  # fmt: skip


def _line(row: Mapping[str, Any], definition: Definition | None, active: list[str]) -> Shown:
    names = titles(definition)
    return {
        "instanceId": row["id"].hex, "workflowId": row["workflow_id"], "version": row["version"],
        "title": (definition.title if definition else None) or plain(row["workflow_id"]), "status": row["status"],
        "reason": row["reason"], "businessKey": row["business_key"],
        "current": gathered(names, active), "started": row["started_at"],
        "ended": row["ended_at"], "deadline": row["deadline_at"],
    }  # fmt: skip


def lanes(system: System, *, tenant: str) -> list[Shown]:
    """{name, transport, idempotency, queue, target, backup, counts, oldest, breaker, held}, by name.

    `counts`: steps by state; `oldest`: when the first READY one became so. `breaker` is none where it is closed,
    and `held` ({since, by, why}) where it is not held. A lane that work waits for, but that is configured no more, has no transport.
    """
    with system.database.transaction(tenant) as connection:
        found = boards.lanes(connection, tenant)
    states = {one["name"]: one for one in lane_orders.listed(system)}
    return [_lane(system, name, found.get(name, {}), states.get(name, {})) for name in sorted({*system.lanes, *found})]


def _lane(system: System, name: str, found: Mapping[str, tuple[int, datetime]], state: Shown) -> Shown:
    lane, breaker = system.lanes.get(name), state.get("breaker")
    return {
        "name": name, "transport": lane.transport if lane else None,
        "idempotency": lane.idempotency if lane else None, "queue": lane.queue if lane else None,
        "target": (lane.url or lane.module) if lane else None, "backup": lane.backup if lane else None,
        "counts": {state: count for state, (count, _) in found.items()},
        "oldest": found["READY"][1] if "READY" in found else None, "held": state.get("held"),
        "breaker": breaker["state"] if breaker and breaker["state"] != "closed" else None,
    }  # fmt: skip


def definitions(system: System, *, tenant: str) -> list[Shown]:
    """`queries.list_definitions`, each with `live`: how many of its instances have not ended."""
    with system.database.transaction(tenant) as connection:
        live = boards.live_by_workflow(connection, tenant)
    return [{**one, "live": live.get(one["id"], 0)} for one in queries.list_definitions(system, tenant=tenant)]


def versions(system: System, *, tenant: str, workflow_id: str) -> list[Shown]:
    """Newest first: {version, created_at, live}."""
    with system.database.transaction(tenant) as connection:
        return boards.versions(connection, tenant, workflow_id)


# -- the reviewer


def inbox(system: System, *, tenant: str, limit: int = 25, cursor: str | None = None) -> Page:
    """What waits for a person, the next deadline first: {instanceId, step, title, workflowId, workflowTitle, businessKey,
    payload, deadline, left (seconds), escalated, service, since, then}; `then`: `outlook`."""
    offset = _offset(cursor)
    with system.database.transaction(tenant) as connection:
        moment = boards.now(connection)
        items: list[Shown] = []
        for _ in range(BATCHES):
            rows = boards.waits(connection, tenant, limit=BATCH, offset=offset)
            known = _definitions(system, connection, rows)
            for row in rows:
                if len(items) == limit:
                    return Page(items=items, cursor=str(offset))
                offset += 1
                if awaits_a_person(known[row["version_id"]], row["step"]):
                    items.append(_wait(row, known[row["version_id"]], moment))
            if len(rows) < BATCH:
                return Page(items=items, cursor=None)
    return Page(items=items, cursor=str(offset))


def _offset(cursor: str | None) -> int:
    if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
        raise BadRequest(f"{cursor!r} is not a cursor: pass on the one that the page before gave")
    return int(cursor or 0)


def awaits_a_person(definition: Definition | None, step: str) -> bool:
    """A `pause`; a service that answers later, a timer and a sub-workflow wait too, for nobody. Where the definition
    cannot be read any more it is shown, not hidden."""
    found = service(definition, step)
    return found.pause if found is not None else definition is None


def _wait(row: Mapping[str, Any], definition: Definition | None, moment: datetime) -> Shown:
    return {
        "instanceId": row["instance_id"].hex, "step": row["step"], "title": title(titles(definition), row["step"]),
        "workflowId": row["workflow_id"], "version": row["version"],
        "workflowTitle": (definition.title if definition else None) or plain(row["workflow_id"]),
        "businessKey": row["business_key"], "payload": row["payload"], "deadline": row["due_at"],
        "left": (row["due_at"] - moment).total_seconds() if row["due_at"] else None, "escalated": row["escalated"], "service": row["service"],
        "since": row["started_at"] or row["ready_at"],
        "then": outlook(definition, row["step"], escalated=row["escalated"]),
    }  # fmt: skip


def outlook(definition: Definition | None, step: str, *, escalated: bool) -> Shown | None:
    """What happens when nobody decides in time: {kind, decision, to, timeout, then}; `to`, `timeout` (seconds) and `then`
    of an escalation. None where there is no limit."""
    found = service(definition, step)
    if found is None or found.timeout is None:
        return None
    further = found.escalation
    if escalated:
        return _action(further.on_timeout) if further and further.timeout else None
    if found.on_timeout.kind == "escalate" and further is not None:
        then = _action(further.on_timeout) if further.timeout else None
        return {"kind": "escalate", "decision": None, "to": str(further.to), "timeout": further.timeout, "then": then}
    return _action(found.on_timeout)


def _action(action: TimeoutAction) -> Shown:
    return {"kind": action.kind, "decision": action.decision}


# -- one instance


def whole(system: System, *, tenant: str, instance_id: str, newest: int = 0) -> Shown:
    """`queries.status` with the `newest` entries of the history, and beside it {now, definition, states}, and the `workflowId` of its parent: `definition` is none
    where it cannot be read any more; `states` are those of all steps, by name, however many. Raises NotFound."""
    shown = queries.status(system, tenant=tenant, instance_id=instance_id, newest=newest)
    with system.database.transaction(tenant) as connection:
        kin = boards.kin(connection, tenant, shown["instanceId"])
        if kin is None:
            raise NotFound(f"there is no instance {instance_id!r}")
        parent = shown["parent"] and shown["parent"] | {"workflowId": kin["parent_workflow_id"]}
        own = {
            "now": boards.now(connection), "parent": parent, "states": _states(connection, tenant, shown),
            "definition": _definition(system, connection, kin["version_id"].hex),
        }  # fmt: skip
    return shown | own


def _states(connection: Connection, tenant: str, shown: Shown) -> dict[str, str]:
    if shown["stepsOmitted"]:
        return boards.states(connection, tenant, shown["instanceId"])
    return {one["step"]: one["status"] for one in shown["steps"]}


def progress(shown: Shown) -> Shown:
    """Of `whole`: {milestones, serving, deadline}, for who asks where it is. `serving`: the titles of what waits or runs
    now; `deadline`: the next moment by which something happens (ISO 8601), or none."""
    definition, is_over = shown["definition"], shown["ended"] is not None
    found: dict[str, set[str]] = defaultdict(set)
    for step, state in shown["states"].items():
        found[base(step)].add(state)
    frozen = {name: frozenset(several) for name, several in found.items()}
    stones = milestones(definition, frozen, is_over=is_over) if definition else ()
    due = sorted(one["deadline"] for one in shown["steps"] if one["status"] == WAITING and one["deadline"])
    return {
        "milestones": stones, "serving": [stone.title for stone in stones if stone.standing == "now"],
        "deadline": None if is_over else next(iter(due), shown["deadline"]),
    }  # fmt: skip


def find(system: System, *, tenant: str, words: str, limit: int) -> list[Shown]:
    """What somebody may mean who asks with a business key or a trace id; what has exactly that key, before all else."""
    exact = listed(system, Filter(tenant=tenant, business_key=words, limit=limit)).items
    return exact or listed(system, Filter(tenant=tenant, words=words, limit=limit)).items


# -- definitions, and what they call things


def base(step: str) -> str:
    """A step's id; in a loop its name has the iteration behind it: `sign[3]`."""
    return step.partition("[")[0]


def titles(definition: Definition | None) -> dict[str, str]:
    return {step.id: title_of(step) for step in walk(definition.steps)} if definition else {}


def title(names: Mapping[str, str], step: str) -> str:
    """With the number of its iteration, counted from one as people do: `Sign (2)`."""
    own, bracket, rest = step.partition("[")
    said = names.get(own) or plain(own)
    numbers = ".".join(str(int(one) + 1) for one in rest.rstrip("]").split("][")) if bracket else ""
    return f"{said} ({numbers})" if numbers else said


def gathered(names: Mapping[str, str], steps: Iterable[str]) -> list[str]:
    """The titles of steps, several iterations of one as one: `Sign (2)`, `Sign (197 times)`."""
    found: dict[str, list[str]] = defaultdict(list)
    for step in steps:
        found[base(step)].append(step)
    return [title(names, own[0]) if len(own) == 1 else f"{title(names, name)} ({len(own)} times)"
            for name, own in found.items()]  # fmt: skip


def service(definition: Definition | None, step: str) -> ServiceStep | None:
    found = next((one for one in walk(definition.steps) if one.id == base(step)), None) if definition else None
    return found if isinstance(found, ServiceStep) else None


def _definitions(
    system: System, connection: Connection, rows: Iterable[Mapping[str, Any]]
) -> dict[Any, Definition | None]:
    return {version: _definition(system, connection, version.hex) for version in {row["version_id"] for row in rows}}


def _definition(system: System, connection: Connection, version_id: str) -> Definition | None:
    """One that this version of the engine does not read any more must not hide its instances."""
    try:
        return system.plans(version_id, connection).definition
    except (Invalid, NotFound):
        return None
