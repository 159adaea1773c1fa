"""Instances are born: by a request, within a caller's own transaction, or as the child of another instance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import uuid_utils
from sqlalchemy import Connection, text

from orchestrator import expression
from orchestrator.clock import CLOCK_NOW, later
from orchestrator.errors import Conflict, ExpressionError, Invalid, InvalidPayload, NotFound, Problem
from orchestrator.payloads import check_payload
from orchestrator.plan import Plan
from orchestrator.rows import Header
from orchestrator.settings import Settings
from orchestrator.store import completions, definitions, instances, transitions
from orchestrator.store.definitions import Plans, Version
from orchestrator.store.transitions import Birth

LONGEST_KEY = 500  # characters of a business key: it is searched by an index


@dataclass(frozen=True, kw_only=True)
class Parent:
    """Who starts a child: the instance, its step, in which generation; and the first instance of that line."""

    id: str
    step: str
    generation: int
    root: str


@dataclass(frozen=True, kw_only=True)
class Started:
    instance_id: str
    status: str
    created: bool  # false: the idempotency key was used before, with the same body


def start_within(connection: Connection, plans: Plans, settings: Settings, *, tenant: str, workflow_id: str, payload: Any,
                 idempotency_key: str | None = None, completion_url: str | None = None) -> Started:  # fmt: skip
    """The same inside a transaction that the caller commits. `completion_url`: one that `completions.check` has passed."""
    check_payload(payload, None, settings.max_payload)
    digest = _digest(workflow_id, payload, completion_url)
    if idempotency_key and (known := instances.by_idempotency_key(connection, tenant, idempotency_key)):
        return _repeated(known, digest)
    version = _newest(connection, tenant, workflow_id)
    plan = plans.of_text(version.id, version.text)
    check_payload(payload, plan.definition.input, settings.max_payload)
    now = _now(connection)
    birth = _birth(plan, version, payload, now, key=idempotency_key, digest=digest)
    begun = transitions.begin(connection, plan, [birth], now)
    if begun and completion_url is not None:
        completions.ask(connection, tenant, birth.header.id, completion_url)
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


def start_child(connection: Connection, plans: Plans, settings: Settings, *, tenant: str, workflow_id: str, payload: Any,
                parent: Parent) -> str | None:  # fmt: skip
    """The child's id; None where somebody else has just started it: there is one for a step's generation."""
    version = _newest(connection, tenant, workflow_id)
    plan, now = plans.of_text(version.id, version.text), _now(connection)
    check_payload(payload, plan.definition.input, settings.max_payload)
    birth = _birth(plan, version, payload, now, key=None, digest=None)
    header = replace(birth.header, parent_id=parent.id, parent_step=parent.step, parent_generation=parent.generation,
                     root_id=parent.root)  # fmt: skip
    begun = transitions.begin(connection, plan, [replace(birth, header=header)], now)
    return header.id if begun else None


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


def _digest(workflow_id: str, payload: Any, *more: str | None) -> str:
    asked = [workflow_id, payload, *(one for one in more if one is not None)]
    said = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()


def _business_key(plan: Plan, payload: Any) -> str | None:
    if plan.definition.business_key is None:
        return None
    try:
        found = expression.evaluate(plan.definition.business_key, {"payload": payload, "steps": {}})
    except ExpressionError as error:
        raise InvalidPayload([Problem(message=f"businessKey: {error}")]) from error
    key = found if isinstance(found, str) else json.dumps(found)
    if len(key) > LONGEST_KEY:
        raise InvalidPayload(
            [Problem(message=f"businessKey: it has {len(key)} characters; at most {LONGEST_KEY} are kept")]
        )
    return key
