"""The use cases: what the API, the CLI and the Python client can ask for, one function each.

Every function takes the `System`, and the tenant whose token asks. Ids are 32 hex digits.
Errors are those of `orchestrator.errors`; nothing is changed when one is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from orchestrator.errors import Problem
from orchestrator.system import System


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


def start(system: System, *, tenant: str, workflow_id: str, payload: Mapping[str, Any],
          idempotency_key: str | None = None) -> Started:
    """Raises NotFound (no such workflow), Invalid (its file has errors), InvalidPayload, TooLarge, Conflict."""
    raise NotImplementedError


def status(system: System, *, tenant: str, instance_id: str) -> dict[str, Any]:
    """The answer of `GET …/status`: every time an ISO 8601 string. Raises NotFound.

    {instanceId, traceId, workflowId, version, title, businessKey, status, reason, currentStep, currentSteps,
     payload, started, ended, history: [...], compensations: [{step, service, status, error, attempt}],
     steps: [{step, title, status, reason, service, attempt, generation, result, error, decision, comment,
              deadline, escalated, started, ended, callbackUrl?, ready}]}     (callbackUrl: a waiting step's, no token)
    history entry: {seq, step, phase: do|undo|null, verb, status, reason, attempt, generation, service, result,
                    error, time, worker, line}    (step null: the instance itself; line: the console form)
    """
    raise NotImplementedError


def history(system: System, *, tenant: str, instance_id: str, limit: int = 100, cursor: str | None = None) -> Page:
    raise NotImplementedError


def logs(system: System, *, tenant: str, instance_id: str, limit: int = 100, cursor: str | None = None) -> Page:
    """Entries {time, level, step, line, fields}, oldest first."""
    raise NotImplementedError


def list_instances(system: System, *, tenant: str, status: str | None = None, workflow_id: str | None = None,
                   business_key: str | None = None, limit: int = 50, cursor: str | None = None) -> Page:
    """Newest first: {instanceId, traceId, workflowId, version, status, reason, businessKey, currentStep, started, ended}."""
    raise NotImplementedError


def cancel(system: System, *, tenant: str, instance_id: str) -> str:
    """This and the next four return the instance's status afterwards; raise NotFound or Conflict(present=status)."""
    raise NotImplementedError


def suspend(system: System, *, tenant: str, instance_id: str) -> str:
    raise NotImplementedError


def resume(system: System, *, tenant: str, instance_id: str) -> str:
    raise NotImplementedError


def retry(system: System, *, tenant: str, instance_id: str) -> str:
    """A STUCK undo, a quarantined step, or a FAILED/COMPENSATED instance from its failed step (new generation)."""
    raise NotImplementedError


def resolve(system: System, *, tenant: str, instance_id: str, step: str,
            verdict: Literal["succeeded", "failed", "retry"], result: Any = None, by: str | None = None) -> str:
    """A person's verdict on an UNKNOWN step."""
    raise NotImplementedError


def decide(system: System, *, trace: str, step: str, token: str | None, tenant: str | None, decision: str | None = None,
           result: Any = None, error: str | None = None, comment: str | None = None, by: str | None = None) -> Decided:
    """A callback. `token` is the callback token; without one `tenant` is the authenticated caller's.

    Raises Unauthorized, Conflict(present=the winner), Gone, NotFound, BadRequest.
    """
    raise NotImplementedError


def put_definition(system: System, *, tenant: str, workflow_id: str, text: str) -> Saved:
    """Raises Invalid (422, with positions), TooLarge, BadRequest (the id inside differs)."""
    raise NotImplementedError


def validate_definition(system: System, text: str) -> tuple[Problem, ...]:
    raise NotImplementedError


def list_definitions(system: System, *, tenant: str) -> list[dict[str, Any]]:
    """{id, title, version, created, errors}: `errors` where the newest file in workflows/ was refused."""
    raise NotImplementedError


def get_definition(system: System, *, tenant: str, workflow_id: str, version: int | None = None) -> dict[str, Any]:
    """{id, title, version, versions, created, text, errors}. Raises NotFound."""
    raise NotImplementedError


def callback_page(system: System, *, trace: str, step: str, token: str | None, tenant: str | None) -> dict[str, Any]:
    """What a person who follows a callback link is shown, deciding nothing: {title, step, workflowId, payload,
    deadline, waiting: bool, decision}. Raises Unauthorized, NotFound."""
    raise NotImplementedError


def ready(system: System) -> dict[str, Any]:
    """`/readyz`: {ok, database, broker, time}."""
    raise NotImplementedError


def metrics(system: System) -> str:
    """`/metrics` in Prometheus' text form: instances by status, steps ready/running/waiting, oldest ready row's age."""
    raise NotImplementedError


__all__ = ["Decided", "Page", "Saved", "Started", "datetime"]
