"""The use cases: what the API, the CLI and the Python client can ask for, one function each.

Every function takes the `System`, and the tenant whose token asks. Ids are 32 hex digits. Errors are those of
`orchestrator.errors`; nothing is changed when one is raised.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import uuid_utils
from sqlalchemy import Connection, text

from orchestrator import approvals, escalation, expression, loader, operators, views
from orchestrator.approvals import Answer, Ruling
from orchestrator.clock import CLOCK_NOW, later
from orchestrator.definition import Decision
from orchestrator.errors import (
    BadRequest,
    Conflict,
    ExpressionError,
    Gone,
    Invalid,
    InvalidPayload,
    NotFound,
    Problem,
    TooLarge,
    Unauthorized,
)
from orchestrator.instance import Instance
from orchestrator.operators import Verdict
from orchestrator.payloads import check_payload, check_storable
from orchestrator.plan import Plan
from orchestrator.rows import Header, Row
from orchestrator.settings import Settings
from orchestrator.states import Phase
from orchestrator.store import definitions, instances, transitions
from orchestrator.store.definitions import Plans, Version
from orchestrator.store.transitions import Birth
from orchestrator.system import System
from orchestrator.tokens import Wait

HISTORY = 10_000  # entries that a status answers with; `history` pages through all of them


@dataclass(frozen=True, kw_only=True)
class Started:
    instance_id: str
    status: str
    created: bool  # false: the idempotency key was used before, with the same body


@dataclass(frozen=True, kw_only=True)
class Page:
    items: list[dict[str, Any]]
    cursor: str | None  # for the next page; none: this was the last


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What a callback was answered with: the decision stands, whether made now or before."""

    step: str
    decision: str
    repeated: bool


@dataclass(frozen=True, kw_only=True)
class Saved:
    workflow_id: str
    version: int
    created: bool  # false: the newest version has the same text


# -- starting


def start(
    system: System, *, tenant: str, workflow_id: str, payload: Any, idempotency_key: str | None = None
) -> Started:
    """Raises NotFound (no such workflow), Invalid (its file has errors), InvalidPayload, BadRequest, TooLarge, Conflict."""
    with system.database.transaction() as connection:
        return start_within(
            connection, system.plans, system.settings, tenant=tenant, workflow_id=workflow_id, payload=payload,
            idempotency_key=idempotency_key,
        )  # fmt: skip


def start_within(connection: Connection, plans: Plans, settings: Settings, *, tenant: str, workflow_id: str, payload: Any,
                 idempotency_key: str | None = None) -> Started:  # fmt: skip
    """The same inside a transaction that the caller commits."""
    check_payload(payload, None, settings.max_payload)
    digest = _digest(workflow_id, payload)
    if idempotency_key and (known := instances.by_idempotency_key(connection, tenant, idempotency_key)):
        return _repeated(known, digest)
    version = _newest(connection, tenant, workflow_id)
    plan = plans.of_text(version.id, version.text)
    check_payload(payload, plan.definition.input, settings.max_payload)
    now = _now(connection)
    birth = _birth(plan, version, payload, now, key=idempotency_key, digest=digest)
    begun = transitions.begin(connection, plan, [birth], now)
    if begun:
        return Started(instance_id=birth.header.id, status=begun[0].header.status, created=True)
    known = instances.by_idempotency_key(connection, tenant, idempotency_key or "")
    assert known is not None, "an insert is only refused for its idempotency key"
    return _repeated(known, digest)


def start_many_within(connection: Connection, plans: Plans, settings: Settings, *, tenant: str, workflow_id: str,
                      payloads: Sequence[Any]) -> list[str]:  # fmt: skip
    """An instance for each payload, set-wise; the ids in the payloads' order."""
    version = _newest(connection, tenant, workflow_id)
    plan, now = plans.of_text(version.id, version.text), _now(connection)
    for payload in payloads:
        check_payload(payload, plan.definition.input, settings.max_payload)
    births = [_birth(plan, version, payload, now, key=None, digest=None) for payload in payloads]
    return [one.header.id for one in transitions.begin(connection, plan, births, now)]


def _newest(connection: Connection, tenant: str, workflow_id: str) -> Version:
    refused = definitions.refused(connection, tenant).get(workflow_id)
    if refused:
        raise Invalid(refused)
    version = definitions.find(connection, tenant, workflow_id)
    if version is None:
        raise NotFound(f"there is no workflow {workflow_id!r}; see `GET /api/definitions` for those there are")
    return version


def _now(connection: Connection) -> datetime:
    found: datetime = connection.execute(text(f"SELECT {CLOCK_NOW}")).scalar_one()
    return found


def _birth(plan: Plan, version: Version, payload: Any, now: datetime, *, key: str | None, digest: str | None) -> Birth:
    deadline = plan.definition.deadline
    header = Header(
        id=uuid_utils.uuid7().hex, tenant=version.tenant, workflow_id=version.workflow_id, version_id=version.id,
        version=version.version, business_key=_business_key(plan, payload),
        deadline_at=later(now, deadline) if deadline else None,
    )  # fmt: skip
    return Birth(header=header, payload=payload, idempotency_key=key, request_digest=digest)


def _repeated(known: Mapping[str, Any], digest: str) -> Started:
    if known["request_digest"] != digest:
        raise Conflict("this Idempotency-Key was used for another request; take a new key", present=known["id"].hex)
    return Started(instance_id=known["id"].hex, status=known["status"], created=False)


def _digest(workflow_id: str, payload: Any) -> str:
    said = json.dumps([workflow_id, payload], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()


def _business_key(plan: Plan, payload: Any) -> str | None:
    if plan.definition.business_key is None:
        return None
    try:
        found = expression.evaluate(plan.definition.business_key, {"payload": payload, "steps": {}})
    except ExpressionError as error:
        raise InvalidPayload([Problem(message=f"businessKey: {error}")]) from error
    return found if isinstance(found, str) else json.dumps(found)


# -- looking


def status(system: System, *, tenant: str, instance_id: str) -> dict[str, Any]:
    """The answer of `GET …/status` (`views.status`). Raises NotFound."""
    with system.database.transaction() as connection:
        row = _found(connection, tenant, instance_id)
        steps = instances.steps(connection, row["id"].hex)
        entries = instances.history(connection, tenant, row["id"].hex, after=0, limit=HISTORY)
    plan = system.plans(row["version_id"].hex)
    base = system.settings.base_url
    return views.status(row, plan, steps, entries, lambda one: f"{base}/callbacks/{row['id'].hex}/{one['step']}")


def _found(connection: Connection, tenant: str, instance_id: str) -> dict[str, Any]:
    found = instances.find(connection, tenant, _trace(instance_id))
    if found is None:
        raise NotFound(f"there is no instance {instance_id!r}")
    return found


def _trace(instance_id: str) -> str:
    try:
        return UUID(instance_id).hex
    except ValueError:
        raise NotFound(f"{instance_id!r} is not an instance id: those have 32 hex digits") from None


def _after(cursor: str | None) -> int:
    if cursor is not None and not re.fullmatch("[0-9]{1,9}", cursor):
        raise _bad_cursor(cursor)
    return int(cursor or 0)


def _before(cursor: str | None) -> str | None:
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
    """Transitions, oldest first."""
    return _entries(system, tenant, instance_id, limit, cursor, view=lambda _, one: views.entry(one))


def logs(system: System, *, tenant: str, instance_id: str, limit: int = 100, cursor: str | None = None) -> Page:
    """The same in console form: {time, level, step, line, fields}.

    Transitions that nobody has to read about are left out, so that a page may hold fewer than `limit`, or none; the
    cursor says whether more follow.
    """
    return _entries(system, tenant, instance_id, limit, cursor, view=views.log_line)


def _entries(system: System, tenant: str, instance_id: str, limit: int, cursor: str | None, *,
             view: Callable[[str, Mapping[str, Any]], dict[str, Any] | None]) -> Page:  # fmt: skip
    with system.database.transaction() as connection:
        trace = _found(connection, tenant, instance_id)["id"].hex
        found = instances.history(connection, tenant, trace, after=_after(cursor), limit=limit + 1)
    following = _page(found, limit, lambda one: str(one["seq"]))
    return Page(items=[shown for one in found if (shown := view(trace, one)) is not None], cursor=following)


def list_instances(system: System, *, tenant: str, status: str | None = None, workflow_id: str | None = None,
                   business_key: str | None = None, limit: int = 50, cursor: str | None = None) -> Page:  # fmt: skip
    """Newest first (`views.summary`)."""
    wanted = instances.Filter(tenant=tenant, status=status, workflow_id=workflow_id, business_key=business_key,
                              before=_before(cursor), limit=limit + 1)  # fmt: skip
    with system.database.transaction() as connection:
        found = instances.listed(connection, wanted)
        following = _page(found, limit, lambda row: row["id"].hex)
        active = instances.active_steps(connection, [row["id"].hex for row in found if row["ended_at"] is None])
    items = [views.summary(row, active.get(row["id"].hex, [])) for row in found]
    return Page(items=items, cursor=following)


# -- ordering


def cancel(system: System, *, tenant: str, instance_id: str) -> str:
    """This and the next four return the instance's status afterwards; they raise NotFound, or Conflict(present=status)."""
    return _order(system, tenant, instance_id, operators.cancel)


def suspend(system: System, *, tenant: str, instance_id: str) -> str:
    return _order(system, tenant, instance_id, operators.suspend)


def resume(system: System, *, tenant: str, instance_id: str) -> str:
    return _order(system, tenant, instance_id, operators.resume)


def retry(system: System, *, tenant: str, instance_id: str) -> str:
    """A STUCK undo, a quarantined step, or a FAILED or COMPENSATED instance from its failed step (new generation)."""
    return _order(system, tenant, instance_id, operators.retry)


def resolve(system: System, *, tenant: str, instance_id: str, step: str, verdict: Verdict, result: Any = None,
            by: str | None = None) -> str:  # fmt: skip
    """A person's verdict on an UNKNOWN step."""
    check_storable(result, "the result", system.settings.max_payload)
    return _order(system, tenant, instance_id, lambda one: operators.resolve(one, step, verdict, result=result, by=by))


def _order(system: System, tenant: str, instance_id: str, verb: Callable[[Instance], None]) -> str:
    trace = _trace(instance_id)

    def ordered(instance: Instance) -> str:
        verb(instance)
        instance.settle()
        return instance.header.status

    found = transitions.transition(system.database, system.plans, [trace], ordered, tenant=tenant)
    if not found:
        raise NotFound(f"there is no instance {instance_id!r}")
    return found[trace]


# -- deciding


def decide(system: System, *, trace: str, step: str, token: str | None, tenant: str | None, decision: str | None = None,
           result: Any = None, error: str | None = None, comment: str | None = None, by: str | None = None) -> Decided:  # fmt: skip
    """A callback. `token` is the callback token; without one `tenant` is the authenticated caller's.

    Raises Unauthorized, Conflict(present=the winner), Gone, NotFound, BadRequest, in the order of DESIGN's table.
    """
    wait = _wait(system, trace, step, token, tenant)
    check_storable([result, error, comment], "the answer", system.settings.max_payload)
    given = Answer(
        decision=_decision(decision, error), result=result, error=error, comment=comment, by=by or "callback"
    )
    found = transitions.transition(
        system.database, system.plans, [_trace(trace)], lambda one: _rule(one, step, wait, given), tenant=tenant
    )
    if not found:
        raise NotFound(f"there is no instance {trace!r}")
    return _told(step, found[_trace(trace)])


def _wait(system: System, trace: str, step: str, token: str | None, tenant: str | None) -> Wait | None:
    if token is None:
        if tenant is None:
            raise Unauthorized("a callback needs its token, or a bearer token with the scope to decide")
        return None
    wait = system.tokens.read(trace, step, token)
    if wait is None:
        raise Unauthorized("the callback token is wrong, or it belongs to another step")
    return wait


def _decision(given: str | None, error: str | None) -> Decision:
    if given is None:
        return "rejected" if error else "approved"
    if given not in ("approved", "rejected"):
        raise BadRequest(f"decision {given!r} is not one of approved, rejected")
    return "approved" if given == "approved" else "rejected"


def _rule(instance: Instance, step: str, wait: Wait | None, given: Answer) -> Ruling:
    row = _awaited(instance, step, wait)
    if row is None:
        raise NotFound(f"{step} has not been reached, or there is no such step")
    ruling = approvals.rule(row, instance.header.status, given, wait.generation if wait else None)
    if ruling.kind != "made":
        return ruling
    if escalation.is_due(instance, row):
        escalation.time_out(instance, row)
        return Ruling(kind="gone", present="past due")
    approvals.decide(instance, row, given)
    return ruling


def _awaited(instance: Instance, step: str, wait: Wait | None) -> Row | None:
    """A token names the phase; a person means whichever waits."""
    if wait is not None:
        return instance.row(step, wait.phase)
    phases: Sequence[Phase] = ("do", "undo")
    rows = [row for phase in phases if (row := instance.row(step, phase))]
    return next((row for row in rows if row.state in approvals.RESOLVABLE), rows[0] if rows else None)


def _told(step: str, ruling: Ruling) -> Decided:
    if ruling.kind == "conflict":
        raise Conflict(f"{step} cannot be decided any more: {ruling.present}", present=ruling.present)
    if ruling.kind == "gone":
        raise Gone(f"this wait for {step} is over: {ruling.present}")
    return Decided(step=step, decision=ruling.present, repeated=ruling.kind == "repeated")


def callback_page(system: System, *, trace: str, step: str, token: str | None, tenant: str | None) -> dict[str, Any]:
    """What a person who follows a callback link is shown, deciding nothing: {title, step, workflowId, payload,
    deadline, waiting, decision}. Raises Unauthorized, NotFound."""
    wait = _wait(system, trace, step, token, tenant)
    with system.database.transaction() as connection:
        owner = instances.tenant_of(connection, _trace(trace)) if tenant is None else tenant
    shown = status(system, tenant=owner or "", instance_id=trace)
    found = next((one for one in shown["steps"] if one["step"] == step), None)
    if found is None:
        raise NotFound(f"{step} has not been reached, or there is no such step")
    is_current = wait is None or wait.generation == found["generation"]
    return {
        "title": found["title"] or step, "step": step, "workflowId": shown["workflowId"],
        "payload": shown["payload"], "deadline": found["deadline"],
        "waiting": found["status"] == "WAITING" and is_current, "decision": found["decision"],
    }  # fmt: skip


# -- definitions


def put_definition(system: System, *, tenant: str, workflow_id: str, text: str) -> Saved:
    """Raises Invalid (with positions), TooLarge, BadRequest (the id inside differs)."""
    definition = loader.load(_limited(system, text), lanes=system.lanes, limit=system.settings.max_definition)
    if definition.id != workflow_id:
        raise BadRequest(
            f"the definition's id is {definition.id!r}, but it was sent to {workflow_id!r}: make them agree"
        )
    with system.database.transaction() as connection:
        version, created = definitions.save(connection, tenant, definition, text)
    return Saved(workflow_id=workflow_id, version=version.version, created=created)


def _limited(system: System, text: str) -> str:
    limit = system.settings.max_definition
    if len(text.encode()) > limit:
        raise TooLarge(f"a definition may have {limit} bytes")
    return text


def validate_definition(system: System, text: str) -> tuple[Problem, ...]:
    try:
        loader.load(_limited(system, text), lanes=system.lanes, limit=system.settings.max_definition)
    except Invalid as invalid:
        return invalid.problems
    return ()


def list_definitions(system: System, *, tenant: str) -> list[dict[str, Any]]:
    """{id, title, version, created, errors}: `errors` where the newest file in workflows/ was refused."""
    with system.database.transaction() as connection:
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
    with system.database.transaction() as connection:
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


# -- health


def ready(system: System) -> dict[str, Any]:
    """`/readyz`: {ok, database, broker}, where what is not `ok` says why."""
    found = {"database": _try(lambda: _ask_database(system)), "broker": _try(lambda: _ask_broker(system))}
    return {"ok": all(said == "ok" for said in found.values()), **found}


def _try(question: Callable[[], object]) -> str:
    try:
        question()
    except Exception as error:  # noqa: BLE001  # whatever a driver raises is the answer here
        return f"{type(error).__name__}: {error}".split("\n")[0][:200]
    return "ok"


def _ask_database(system: System) -> None:
    with system.database.transaction() as connection:
        connection.execute(text("SELECT 1 FROM instance LIMIT 1"))


def _ask_broker(system: System) -> None:
    with system.app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=2)


def metrics(system: System) -> str:
    """`/metrics` in Prometheus' text form."""
    with system.database.transaction() as connection:
        counts, steps = instances.counts(connection), instances.step_counts(connection)
    lines = ["# TYPE orchestrator_instances gauge"]
    lines += [f'orchestrator_instances{{status="{name}"}} {count}' for name, count in sorted(counts.items())]
    lines += ["# TYPE orchestrator_steps gauge"]
    lines += [f'orchestrator_steps{{state="{name}"}} {count}' for name, (count, _) in sorted(steps.items())]
    lines += ["# TYPE orchestrator_oldest_step_seconds gauge"]
    lines += [
        f'orchestrator_oldest_step_seconds{{state="{name}"}} {age:.3f}' for name, (_, age) in sorted(steps.items())
    ]
    return "\n".join(lines) + "\n"
