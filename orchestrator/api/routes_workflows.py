"""/api/workflows: start instances, look at them, operate them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask_openapi.blueprint import APIBlueprint
from flask_openapi.models.tag import Tag

from orchestrator import engine, longpoll, orders, queries
from orchestrator.api import models as m
from orchestrator.api.auth import caller
from orchestrator.api.context import changes, system
from orchestrator.durations import seconds
from orchestrator.errors import BadRequest
from orchestrator.store.filters import Filter

Answer = tuple[dict[str, Any], int] | tuple[dict[str, Any], int, dict[str, str]]

routes = APIBlueprint(
    "workflows",
    __name__,
    url_prefix="/api/workflows",
    abp_responses=m.COMMON,
    abp_tags=[Tag(name="workflows", description="Instances of workflow definitions")],
)


@routes.post(
    "/start",
    responses={
        200: m.StartedAnswer,
        201: m.StartedAnswer,
        404: m.NOT_FOUND,
        409: m.CONFLICT,
        413: m.TOO_LARGE,
        415: m.MEDIA,
        422: m.INVALID,
    },
)
def start(body: m.StartBody, header: m.StartHeader) -> Answer:
    """Start an instance: 201, or 200 where the same Idempotency-Key started it before."""
    started = engine.start(
        system(),
        tenant=caller("workflows:start").tenant,
        workflow_id=body.workflow_id,
        payload=body.payload,
        idempotency_key=header.idempotency_key,
        completion_url=body.completion_url,
    )
    answer = {"instanceId": started.instance_id, "traceId": started.instance_id, "status": started.status}
    location = f"{system().settings.base_url}/api/workflows/{started.instance_id}/status"
    return answer, 201 if started.created else 200, {"Location": location}


@routes.get("", responses={200: m.PageAnswer})
def list_instances(query: m.InstancesQuery) -> dict[str, Any]:
    """List instances, newest first."""
    page = queries.list_instances(system(), tenant=caller("workflows:read").tenant, **dict(query))
    return {"items": page.items, "cursor": page.cursor}


@routes.post("/bulk", responses={200: m.BulkAnswer, 413: m.TOO_LARGE, 415: m.MEDIA})
def bulk(body: m.BulkBody) -> dict[str, Any]:
    """Order something about every instance that a filter chooses, each in a transaction of its own."""
    wanted = Filter(tenant=caller("workflows:operate").tenant, before=queries.before(body.cursor), limit=body.limit,
                    **dict(body.filter))  # fmt: skip
    found = orders.order(system(), body.action, wanted, dry_run=body.dry_run)
    return {"matched": found.matched, "done": 0 if body.dry_run else found.done, "items": list(found.items),
            "refused": list(found.refused), "more": found.cursor is not None, "cursor": found.cursor}  # fmt: skip


@routes.get("/<id>/status", responses={200: m.StatusAnswer, 404: m.NOT_FOUND, 503: m.BUSY})
def status(path: m.InstancePath, query: m.StatusQuery) -> dict[str, Any]:
    """Where an instance is, what happened to it, and what was undone; with `wait` as soon as that changes."""
    tenant = caller("workflows:read").tenant
    if query.wait is not None:
        longpoll.await_change(system(), changes(), tenant=tenant, instance_id=path.id, seconds=_seconds(query.wait),
                              since=query.since)  # fmt: skip
    return queries.status(system(), tenant=tenant, instance_id=path.id)


def _seconds(wait: str) -> float:
    try:
        return seconds(wait)
    except ValueError as error:
        raise BadRequest(f"wait: {error}") from error


@routes.get("/<id>/history", responses={200: m.PageAnswer, 404: m.NOT_FOUND})
def history(path: m.InstancePath, query: m.PageQuery) -> dict[str, Any]:
    """Every transition of an instance, in order."""
    page = queries.history(system(), tenant=caller("workflows:read").tenant, instance_id=path.id, **dict(query))
    return {"items": page.items, "cursor": page.cursor}


@routes.get("/<id>/logs", responses={200: m.PageAnswer, 404: m.NOT_FOUND})
def logs(path: m.InstancePath, query: m.PageQuery) -> dict[str, Any]:
    """The log lines of an instance, oldest first."""
    page = queries.logs(system(), tenant=caller("workflows:read").tenant, instance_id=path.id, **dict(query))
    return {"items": page.items, "cursor": page.cursor}


OPERATED: dict[Any, Any] = {202: m.OperationAnswer, 404: m.NOT_FOUND, 409: m.CONFLICT}


def _operate(use_case: Callable[..., str], instance_id: str, **arguments: Any) -> Answer:
    after = use_case(system(), tenant=caller("workflows:operate").tenant, instance_id=instance_id, **arguments)
    return {"instanceId": instance_id, "status": after}, 202


@routes.post("/<id>/cancel", responses=OPERATED)
def cancel(path: m.InstancePath) -> Answer:
    """Cancel an instance; what was done is undone first."""
    return _operate(engine.cancel, path.id)


@routes.post("/<id>/retry", responses=OPERATED)
def retry(path: m.InstancePath) -> Answer:
    """Retry a stuck undo, a quarantined step, or a failed instance from its failed step."""
    return _operate(engine.retry, path.id)


@routes.post("/<id>/suspend", responses=OPERATED)
def suspend(path: m.InstancePath) -> Answer:
    """Let no further step begin; results, callbacks and deadlines are still recorded."""
    return _operate(engine.suspend, path.id)


@routes.post("/<id>/resume", responses=OPERATED)
def resume(path: m.InstancePath) -> Answer:
    """Let a suspended instance go on."""
    return _operate(engine.resume, path.id)


@routes.post("/<id>/steps/<step>/resolve", responses={**OPERATED, 415: m.MEDIA})
def resolve(path: m.StepPath, body: m.ResolveBody) -> Answer:
    """Settle a step of which nobody knows whether it was done."""
    return _operate(
        engine.resolve,
        path.id,
        step=path.step,
        verdict=body.verdict,
        result=body.result,
        by=caller("workflows:operate").subject,
    )
