"""/api/definitions: upload, check and read workflow definitions. Bodies are the YAML or JSON text itself."""

from __future__ import annotations

from typing import Any

from flask import request
from flask_openapi.blueprint import APIBlueprint
from flask_openapi.models.tag import Tag

from orchestrator import engine, queries
from orchestrator.api import models as m
from orchestrator.api.auth import caller
from orchestrator.api.bodies import body_text
from orchestrator.api.context import system
from orchestrator.errors import Invalid

Answer = tuple[dict[str, Any], int, dict[str, str]]

routes = APIBlueprint(
    "definitions",
    __name__,
    url_prefix="/api/definitions",
    abp_responses=m.COMMON,
    abp_tags=[Tag(name="definitions", description="Workflow definitions")],
)
TEXT: dict[str, Any] = {
    "content": {kind: {"schema": {"type": "string"}} for kind in ("application/yaml", "text/plain")}
    | {"application/json": {"schema": {"type": "object"}}}
}


def _text() -> str:
    return body_text(request, limit=system().settings.max_definition)


@routes.put(
    "/<id>", request_body=TEXT, responses={200: m.SavedAnswer, 201: m.SavedAnswer, 413: m.TOO_LARGE, 422: m.INVALID}
)
def put_definition(path: m.DefinitionPath) -> Answer:
    """Save a definition: 201 for a new version, 200 where the newest has the same text."""
    saved = engine.put_definition(
        system(), tenant=caller("definitions:write").tenant, workflow_id=path.id, text=_text()
    )
    location = f"{system().settings.base_url}/api/definitions/{saved.workflow_id}?version={saved.version}"
    answer = {"id": saved.workflow_id, "version": saved.version, "created": saved.created}
    return answer, 201 if saved.created else 200, {"Location": location}


@routes.post("/validate", request_body=TEXT, responses={200: m.ValidAnswer, 413: m.TOO_LARGE, 422: m.INVALID})
def validate() -> dict[str, Any]:
    """Check a definition without saving it: all its errors at once."""
    caller("definitions:read")
    problems = engine.validate_definition(system(), _text())
    if problems:
        raise Invalid(problems)
    return {"valid": True, "errors": []}


@routes.get("", responses={200: m.PageAnswer})
def list_definitions() -> dict[str, Any]:
    """List definitions; one whose newest file was refused carries its `errors`."""
    return {"items": queries.list_definitions(system(), tenant=caller("definitions:read").tenant), "cursor": None}


@routes.get("/<id>", responses={200: m.DefinitionAnswer, 404: m.NOT_FOUND})
def get_definition(path: m.DefinitionPath, query: m.VersionQuery) -> dict[str, Any]:
    """Read one version of a definition, as it was written."""
    return queries.get_definition(
        system(), tenant=caller("definitions:read").tenant, workflow_id=path.id, version=query.version
    )
