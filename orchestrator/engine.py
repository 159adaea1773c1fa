"""The use cases that change something: what the API, the CLI and the Python client can order, one function each.

Every function takes the `System`, and the tenant whose token asks. Ids are 32 hex digits. Errors are those of
`orchestrator.errors`; nothing is changed when one is raised. What they can ask stands in `queries`, and what a
callback does in `callbacks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator import births, completions, loader, operators
from orchestrator.births import Started
from orchestrator.errors import BadRequest, Invalid, NotFound, Problem, TooLarge
from orchestrator.instance import Instance
from orchestrator.operators import Verdict
from orchestrator.payloads import check_storable
from orchestrator.queries import trace_of
from orchestrator.store import definitions, transitions
from orchestrator.system import System


@dataclass(frozen=True, kw_only=True)
class Saved:
    workflow_id: str
    version: int
    created: bool  # false: the newest version has the same text


def start(system: System, *, tenant: str, workflow_id: str, payload: Any, idempotency_key: str | None = None,
          completion_url: str | None = None) -> Started:  # fmt: skip
    """Raises NotFound (no such workflow), Invalid (its file has errors), InvalidPayload, InvalidCompletion, BadRequest,
    TooLarge, Conflict."""
    if completion_url is not None:
        completions.check(system.settings, completion_url)
    with system.database.transaction(tenant) as connection:
        return births.start_within(
            connection, system.plans, system.settings, tenant=tenant, workflow_id=workflow_id, payload=payload,
            idempotency_key=idempotency_key, completion_url=completion_url,
        )  # fmt: skip


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
    trace = trace_of(instance_id)

    def ordered(instance: Instance) -> str:
        verb(instance)
        instance.settle()
        return instance.header.status

    found = transitions.transition(system.database, system.plans, [trace], ordered, tenant=tenant)
    if not found:
        raise NotFound(f"there is no instance {instance_id!r}")
    return found[trace]


def put_definition(system: System, *, tenant: str, workflow_id: str, text: str) -> Saved:
    """Raises Invalid (with positions), TooLarge, BadRequest (the id inside differs)."""
    definition = loader.load(_limited(system, text), lanes=system.lanes, limit=system.settings.max_definition)
    if definition.id != workflow_id:
        raise BadRequest(
            f"the definition's id is {definition.id!r}, but it was sent to {workflow_id!r}: make them agree"
        )
    with system.database.transaction(tenant) as connection:
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
