"""Callbacks: the one way in which a wait is decided from outside, by a token or by a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator import approvals, escalation, states
from orchestrator.approvals import Answer, Ruling
from orchestrator.definition import Decision, ServiceStep
from orchestrator.errors import (
    BadRequest,
    Conflict,
    Gone,
    NotFound,
    Unauthorized,
)
from orchestrator.instance import Instance
from orchestrator.payloads import check_storable
from orchestrator.queries import status, trace_of
from orchestrator.rows import Row
from orchestrator.states import Phase
from orchestrator.store import instances, transitions
from orchestrator.system import System
from orchestrator.tokens import Wait


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What a callback was answered with: the decision stands, whether made now or before."""

    step: str
    decision: str
    repeated: bool


def decide(system: System, *, trace: str, step: str, token: str | None, tenant: str | None, decision: str | None = None,
           result: Any = None, error: str | None = None, comment: str | None = None, by: str | None = None,
           uncertain: bool = False) -> Decided:  # fmt: skip
    """A callback. `token` is the callback token; without one `tenant` is the authenticated caller's. `uncertain`: a
    rejection of something that may have been done all the same.

    Raises Unauthorized, Conflict(present=the winner), Gone, NotFound, BadRequest, in the order of DESIGN's table.
    """
    wait = _wait(system, trace, step, token, tenant)
    check_storable([result, error, comment], "the answer", system.settings.max_payload)
    given = Answer(
        decision=_decision(decision, error), result=result, error=error, comment=comment, by=by or "callback",
        uncertain=uncertain,
    )  # fmt: skip
    owner = tenant or _owner(system, trace)
    found = transitions.transition(
        system.database, system.plans, [trace_of(trace)], lambda one: _rule(one, step, wait, given), tenant=owner
    )
    if not found:
        raise NotFound(f"there is no instance {trace!r}")
    return _told(step, found[trace_of(trace)])


def authorize(system: System, *, trace: str, step: str, token: str) -> None:
    """A wrong token is refused before anything is said about the body. Raises Unauthorized."""
    _wait(system, trace, step, token, None)


def _wait(system: System, trace: str, step: str, token: str | None, tenant: str | None) -> Wait | None:
    if token is None:
        if tenant is None:
            raise Unauthorized("a callback needs its token, or a bearer token with the scope to decide")
        return None
    wait = system.tokens.read(trace, step, token)
    if wait is None:
        raise Unauthorized(
            "the callback token is wrong, or it belongs to another step: use the whole link as it was given"
        )
    return wait


def _owner(system: System, trace: str) -> str:
    """Whose instance a callback token opens: it is known to be ours, and names the instance, not the tenant."""
    with system.database.across_tenants() as connection:
        owner = instances.tenant_of(connection, trace_of(trace))
    if owner is None:
        raise NotFound(f"there is no instance {trace!r}")
    return owner


def _decision(given: str | None, error: str | None) -> Decision:
    if given is None:
        return "rejected" if error else "approved"
    if given not in ("approved", "rejected"):
        raise BadRequest(f"decision {given!r} is not one of approved, rejected")
    return "approved" if given == "approved" else "rejected"


def _rule(instance: Instance, step: str, wait: Wait | None, given: Answer) -> Ruling:
    row = _awaited(instance, step, wait)
    if row is None or not isinstance(instance.plan.place(step).step, ServiceStep):
        raise _nothing_waits(instance, step)
    ruling = approvals.rule(row, instance.header.status, given, wait.generation if wait else None)
    if ruling.kind != "made":
        return ruling
    if escalation.is_due(instance, row):
        escalation.time_out(instance, row)
        return Ruling(kind="gone", present="past due")
    approvals.decide(instance, row, given)
    return ruling


def _nothing_waits(instance: Instance, step: str) -> NotFound:
    waiting = ", ".join(row.step for row in instance.rows() if _awaits_decision(instance, row)) or "none"
    return NotFound(f"{_why_not(instance, step)}; waiting: {waiting}")


def _awaits_decision(instance: Instance, row: Row) -> bool:
    return row.state == states.WAITING and isinstance(instance.plan.place(row.step).step, ServiceStep)


def _why_not(instance: Instance, step: str) -> str:
    if not instance.plan.has(step):
        return f"there is no step {step!r}"
    return f"{step} awaits no decision" if instance.row(step) else f"{step} has not been reached"


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


def page(system: System, *, trace: str, step: str, token: str | None, tenant: str | None) -> dict[str, Any]:
    """What a person who follows a callback link is shown, deciding nothing: {title, step, workflowId, payload,
    deadline, waiting, decision}. Raises Unauthorized, NotFound."""
    wait = _wait(system, trace, step, token, tenant)
    owner = tenant or _owner(system, trace)
    shown = status(system, tenant=owner, instance_id=trace)
    found = next((one for one in shown["steps"] if one["step"] == step), None)
    if found is None:
        raise NotFound(f"{step} has not been reached, or there is no such step")
    is_current = wait is None or wait.generation == found["generation"]
    return {
        "title": found["title"] or step, "step": step, "workflowId": shown["workflowId"],
        "payload": shown["payload"], "deadline": found["deadline"],
        "waiting": found["status"] == "WAITING" and is_current, "decision": found["decision"],
    }  # fmt: skip
