"""/callbacks: services and people answer waiting steps here. (The page that a GET shows is in `ui`.)"""

from __future__ import annotations

from typing import Any

from flask import request
from flask_openapi.blueprint import APIBlueprint
from flask_openapi.models.tag import Tag

from orchestrator import callbacks
from orchestrator.api import models as m
from orchestrator.api.auth import decider
from orchestrator.api.context import system

routes = APIBlueprint(
    "callbacks",
    __name__,
    url_prefix="/callbacks",
    abp_responses=m.COMMON,
    abp_tags=[Tag(name="callbacks", description="Answers to waiting steps")],
)


@routes.before_request
def know_who_asks() -> None:
    """Before the body is read: whoever has the wrong token is told nothing else."""
    token = request.args.get("token", request.headers.get("X-Callback-Token"))
    if token is not None and request.view_args is not None:
        callbacks.authorize(system(), trace=request.view_args["trace"], step=request.view_args["step"], token=token)


@routes.post(
    "/<trace>/<step>",
    responses={200: m.DecidedAnswer, 404: m.NOT_FOUND, 409: m.CONFLICT, 410: m.GONE, 413: m.TOO_LARGE, 415: m.MEDIA},
)
def decide(
    path: m.CallbackPath,
    query: m.CallbackQuery,
    header: m.CallbackHeader,
    body: m.CallbackBody,
) -> dict[str, Any]:
    """Answer a waiting step, with its callback token or as somebody who may decide."""
    token = query.token if query.token is not None else header.callback_token
    decided = callbacks.decide(system(), trace=path.trace, step=path.step, **decider(token), **dict(body))
    return {"step": decided.step, "decision": decided.decision, "repeated": decided.repeated}
