"""Definitions: all of them, and one with its picture, its text, its versions and who is on which."""

from __future__ import annotations

from typing import Any

from flask import render_template, request, url_for
from werkzeug.wrappers import Response

from orchestrator import boards, engine, loader, queries
from orchestrator.api.auth import caller, may
from orchestrator.api.bodies import parse_json
from orchestrator.api.context import system
from orchestrator.definition import Definition
from orchestrator.errors import BadRequest, Conflict, Invalid, OrchestratorError, TooLarge
from orchestrator.ui import picture
from orchestrator.ui.blueprint import instance_page, routes
from orchestrator.ui.flash import Told, leads_to


@routes.get("/ui/workflows")
def workflows() -> str:
    tenant = caller("definitions:read").tenant
    return render_template("workflows.html", definitions=boards.definitions(system(), tenant=tenant))


@routes.get("/ui/workflows/<workflow_id>")
def workflow(workflow_id: str) -> str:
    return _page(workflow_id)


@routes.post("/ui/workflows/<workflow_id>/start")
def start(workflow_id: str) -> Response | tuple[str, int]:
    """What cannot be started is shown again with its faults, so that nothing has to be typed twice."""
    person, text = caller("workflows:start"), request.form.get("payload", "")
    try:
        payload = _payload(text)
        started = engine.start(system(), tenant=person.tenant, workflow_id=workflow_id, payload=payload)
    except (BadRequest, Conflict, Invalid, TooLarge) as refused:
        return _page(workflow_id, payload=text, refused=str(refused)), 422
    to = (
        instance_page(started.instance_id) if may("workflows:read") else url_for("ui.workflow", workflow_id=workflow_id)
    )
    return leads_to(to, Told(text="Started."))


def _payload(text: str) -> dict[str, Any]:
    try:
        payload = parse_json(text or "{}")
    except OrchestratorError as error:
        raise BadRequest(str(error).replace("The body", "The payload")) from error
    if not isinstance(payload, dict):
        raise BadRequest("The payload is not a JSON object: write {…}.")
    return payload


def _page(workflow_id: str, payload: str = "{}", refused: str | None = None) -> str:
    tenant = caller("definitions:read").tenant
    asked = request.args.get("version", type=lambda text: min(max(int(text), 0), 2**31 - 1))  # what a column holds
    found = queries.get_definition(system(), tenant=tenant, workflow_id=workflow_id, version=asked)
    definition = _read(found["text"])
    return render_template(
        "workflow.html",
        found=found,
        definition=definition,
        picture=picture.of_definition(definition) if definition else "",
        is_wide=picture.is_wide,
        versions=boards.versions(system(), tenant=tenant, workflow_id=workflow_id),
        may_start=may("workflows:start") and bool(found["text"]) and not found["errors"],
        payload=payload,
        refused=refused,
    )


def _read(text: str | None) -> Definition | None:
    """A version that is not read any more is shown as it was written."""
    try:
        return loader.load(text, lanes=system().lanes, strict=False) if text else None
    except Invalid:
        return None
