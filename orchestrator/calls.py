"""One attempt of a leg, outside any transaction: evaluate, ask where one must, check the lease, send."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from orchestrator import control, doubts, expression, logs, retry, scope
from orchestrator.attempts import Attempt, retry_of
from orchestrator.control import Control
from orchestrator.definition import ServiceStep, Template
from orchestrator.errors import ExpressionError
from orchestrator.iterations import id_of
from orchestrator.lane import Call, Lane, Reply, limit_of
from orchestrator.plan import Names, Plan
from orchestrator.store import due, instances
from orchestrator.store.database import told
from orchestrator.system import System
from orchestrator.tokens import Wait

log = logging.getLogger(__name__)

NEARLY = 0.95  # of its time: then that was used up
TRUST_LEASE = 1.0  # seconds after the claim within which the lease need not be looked up again


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Its condition is false."""


@dataclass(frozen=True, kw_only=True)
class Waits:
    """A pause that tells nobody."""


@dataclass(frozen=True, kw_only=True)
class Inexpressible:
    """An expression of it cannot be evaluated."""

    error: str


@dataclass(frozen=True, kw_only=True)
class Overdue:
    """Its budget was used up before anything was sent."""


@dataclass(frozen=True, kw_only=True)
class NeverArrived:
    """Its retries are used up, and asked, the service knows nothing of the key: what it may be doing is undone."""


@dataclass(frozen=True, kw_only=True)
class Lost:
    """Its lease ran out before the send: somebody else has it now."""


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """It may have been done, and sent again it could be done twice: the lane may not know its key any more."""

    error: str = "it may have been done, and its lane may have forgotten the key by now"


@dataclass(frozen=True, kw_only=True)
class Held:
    """A claimed attempt, what its expressions may name, and the monotonic time before the claim was made: whoever was
    stopped in between has held it for longer than it seems."""

    attempt: Attempt
    context: dict[str, Any]
    since: float


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that is left is to send it."""

    lane: Lane
    call: Call


Result: TypeAlias = Reply | Control | Skipped | Waits | Inexpressible | Overdue | NeverArrived | Lost | Forgotten


def lane_of(system: System, service: str | None) -> Lane | None:
    return system.lanes.get(service.partition(".")[0]) if service else None


def names_of(plan: Plan, attempt: Attempt) -> Names:
    """What an attempt's expressions name."""
    if attempt.phase == "do":
        return plan.needs[id_of(attempt.step)]
    step = plan.place(attempt.step).step
    told = step.compensation.input if isinstance(step, ServiceStep) and step.compensation else None
    named = told or Template(value=None)
    return Names(steps=(*named.steps, step.id), items=named.items)


def contexts(connection: Connection, plan: Plan, attempts: Sequence[Attempt],
             payloads: dict[str, Any]) -> list[dict[str, Any]]:  # fmt: skip
    """What each attempt's expressions may name: payload, earlier steps, items of loops, trace, tenant.

    `payloads` keeps what was read, by instance: a payload never changes.
    """
    ids = sorted({attempt.instance for attempt in attempts})
    if unread := [one for one in ids if one not in payloads]:
        payloads |= instances.payloads(connection, unread)
    seen = [scope.wanted(plan, names_of(plan, one), scope.standpoint(plan, one.step, one.begun)) for one in attempts]
    outputs = instances.outputs(connection, ids, *_together(seen))
    return [
        {
            "payload": payloads[one.instance], "trace": one.instance, "tenant": one.tenant,
            "steps": _steps(plan, one, outputs.get(one.instance, {})), "items": _items(connection, one, want),
        }
        for one, want in zip(attempts, seen, strict=True)
    ]  # fmt: skip


def _together(seen: Sequence[scope.Wanted]) -> tuple[list[str], list[str]]:
    exact = sorted({name for want in seen for name in want.names})
    return exact, sorted({name for want in seen for name in want.iterated})


def _steps(plan: Plan, attempt: Attempt, told: scope.Told) -> dict[str, Any]:
    stand = scope.standpoint(plan, attempt.step, attempt.begun)
    return scope.steps(plan, names_of(plan, attempt).steps, stand, told)


def _items(connection: Connection, attempt: Attempt, want: scope.Wanted) -> dict[str, Any]:
    return {
        name: instances.item(connection, attempt.instance, one.loop, one.number) for name, one in want.items.items()
    }


def perform(system: System, plan: Plan, held: Held) -> Result:
    """Carry out one claimed attempt. Raises nothing for what a definition, the database or a lane does."""
    try:
        ready = _prepare(system, plan, held)
    except ExpressionError as error:
        return Inexpressible(error=str(error))
    except (SQLAlchemyError, psycopg.Error) as error:
        log.warning("the lease of %s cannot be looked up, so nothing is sent: %s", held.attempt.key, told(error))
        return Lost()
    if not isinstance(ready, Prepared):
        return ready
    with logs.about(trace=held.attempt.instance, step=held.attempt.step, tenant=held.attempt.tenant):
        begun = time.monotonic()
        reply = system.caller.call(ready.lane, ready.call)
        return _cut_short(ready, reply, time.monotonic() - begun)


def _cut_short(sent: Prepared, reply: Reply, seconds: float) -> Reply:
    """Who had less time than the lane gives a call, and used it up, learns nothing of the lane: else one definition with
    a short `timeout` would open the breaker for all tenants."""
    is_cut = sent.call.timeout < sent.lane.timeout and seconds >= sent.call.timeout * NEARLY
    return replace(reply, is_ours=True) if is_cut and reply.outcome in ("uncertain", "not_sent") else reply


def _prepare(system: System, plan: Plan, held: Held) -> Prepared | Result:
    """Everything before the send."""
    attempt, step = held.attempt, plan.place(held.attempt.step).step
    is_first = attempt.phase == "do" and not attempt.begun
    if is_first and step.when is not None and not expression.truth(step.when, held.context):
        return Skipped()
    if attempt.is_doubted:
        return Forgotten(error=doubts.ERROR)
    if not isinstance(step, ServiceStep):
        return control.perform(system, step, attempt, held.context)
    if attempt.service is None:
        return Waits()
    return _prepare_call(system, step, held)


def _prepare_call(system: System, step: ServiceStep, held: Held) -> Prepared | Result:
    attempt = held.attempt
    lane = lane_of(system, attempt.service)
    if lane is None:
        return Reply(outcome="not_sent", error=f"{attempt.service}: this lane is not in the services file")
    # A repeat that is sent in time may arrive when the key is forgotten.
    arrives_by = attempt.limit_until or attempt.now
    if attempt.uncertain and retry.is_forgotten(lane, attempt.started_at, arrives_by):
        return Forgotten()
    timeout = _time_left(lane, held)
    must_ask = attempt.uncertain and lane.idempotency == "query"
    if timeout <= 0 and not must_ask:
        return Overdue()
    call = _call(system, step, attempt, held.context, timeout if timeout > 0 else lane.timeout)
    if must_ask and (told := _ask(system, lane, call, step, held)):
        return told
    return Prepared(lane=lane, call=call) if _still_holds(system, lane, held) else Lost()


def _ask(system: System, lane: Lane, call: Call, step: ServiceStep, held: Held) -> Result | None:
    """What became of the key; none: it never arrived, and may be sent again."""
    asked = system.caller.ask(lane, call)
    if asked.outcome != "not_sent":
        return asked
    if _time_left(lane, held) <= 0:
        return Overdue()
    attempt = held.attempt
    return None if retry.may_send(retry_of(step, attempt.phase), attempt.tries) else NeverArrived()


def _time_left(lane: Lane, held: Held) -> float:
    """Seconds that a request may take: the lane's timeout, or what is left of the step's budget."""
    budget = held.attempt.budget_until
    if budget is None:
        return lane.timeout
    return min(lane.timeout, (budget - held.attempt.now).total_seconds() - (time.monotonic() - held.since))


def _still_holds(system: System, lane: Lane, held: Held) -> bool:
    """A process that was stopped and woken must not send what another has taken over. When some time has passed since
    the claim, the lease is taken anew, so that the call can be over before its limit."""
    if time.monotonic() - held.since < TRUST_LEASE:
        return True
    limit = limit_of(lane)
    with system.database.transaction() as connection:
        if not due.renew(connection, held.attempt, lease=system.settings.lease, limit=limit):
            return False
    system.hands.renew(limit)  # or it would count as hung by the limit that it had before
    return True


def _call(system: System, step: ServiceStep, attempt: Attempt, context: dict[str, Any], timeout: float) -> Call:
    lane, _, operation = (attempt.service or "").partition(".")
    is_undo = attempt.phase == "undo"
    done = context["steps"].get(step.id, {})
    wait = Wait(trace=attempt.instance, step=attempt.step, phase=attempt.phase, generation=attempt.generation)
    return Call(
        tenant=attempt.tenant, trace=attempt.instance, step=attempt.step, lane=lane, operation=operation,
        key=attempt.key, attempt=attempt.attempt, payload=context["payload"],
        input=_input(step, context, is_undo=is_undo), timeout=timeout,
        callback_url=system.tokens.url(system.settings.base_url, wait),
        result=done.get("result") if is_undo else None, undo=is_undo, pause=step.pause and not is_undo,
    )  # fmt: skip


def _input(step: ServiceStep, context: dict[str, Any], *, is_undo: bool) -> Any:
    template: Template | None = step.input
    if is_undo:
        template = step.compensation.input if step.compensation else None
    return expression.render(template, context) if template else context["payload"]
