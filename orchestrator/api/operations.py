"""/healthz, /readyz and /metrics: for whoever runs the servers."""

from __future__ import annotations

from typing import Any

import structlog
from flask import Response
from flask_openapi.blueprint import APIBlueprint
from flask_openapi.models.tag import Tag

from orchestrator import queries
from orchestrator.api import models as m
from orchestrator.api.auth import caller
from orchestrator.api.context import system
from orchestrator.api.problems import RETRY_AFTER, ProblemDocument, respond

log = structlog.get_logger(__name__)

routes = APIBlueprint(
    "operations",
    __name__,
    abp_responses=m.COMMON,
    abp_tags=[Tag(name="operations", description="For whoever runs the servers")],
)
METRICS: dict[str, Any] = {"description": "Prometheus' text form", "content": {"text/plain": {}}}


@routes.get("/healthz", responses={200: m.HealthAnswer})
def healthz() -> dict[str, Any]:
    """This process answers; nothing else is asked."""
    return {"ok": True}


@routes.get("/readyz", responses={200: m.ReadyAnswer, 503: m.problem_response("What does not answer is false")})
def readyz(query: m.ReadyQuery) -> dict[str, Any] | Response:
    """Database and broker answer: 200; else 503, and which of them does not. A late canary is told, and is a 503 only for
    who asks for that: no web server can do anything about it, and all of them go on taking starts."""
    found = queries.ready(system())
    answering = {name: found[name] == "ok" for name in ("database", "broker")}
    if not found["ok"]:
        log.error("not ready", **found)  # why: an address or a user's name is not for everybody who may ask
        silent = " and the ".join(name for name, answers in answering.items() if not answers)
        return _not_ready(answering, f"No answer from the {silent}; the log says why.")
    proof = queries.proof(system())
    if query.canary and proof and proof["late"]:
        return _not_ready({**answering, "canary": proof}, "Nothing has come through for too long: are workers running?")
    return {"ok": True, **answering, "canary": proof}


def _not_ready(told: dict[str, Any], why: str) -> Response:
    return respond(
        ProblemDocument(
            status=503,
            kind="not-ready",
            title="Not ready",
            members={"ok": False, **told},
            detail=why,
            headers={"Retry-After": RETRY_AFTER},
        )
    )


@routes.get("/metrics", responses={200: METRICS})
def metrics() -> Response:
    """Instances by status, waiting work and its age, for Prometheus."""
    caller("metrics:read")
    return Response(queries.metrics(system()), content_type="text/plain; version=0.0.4; charset=utf-8")
