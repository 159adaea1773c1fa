"""/ui: every instance, one instance, and the forms that answer a waiting step (post, redirect, get)."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from orchestrator import callbacks, queries
from orchestrator.api.auth import caller, decider
from orchestrator.api.bodies import check_text
from orchestrator.api.context import system
from orchestrator.ui import words

PAGE = 50  # instances
ROWS = 100  # transitions or log lines, so that a page stays small; the API has all of them

routes = Blueprint("ui", __name__, template_folder="templates", static_folder="static", static_url_path="/ui/static")


@routes.app_context_processor
def _words() -> dict[str, Any]:
    return {"words": words, "ROWS": ROWS}


@routes.get("/ui", strict_slashes=False)
def instances() -> str:
    reader = caller("workflows:read")
    asked = {name: request.args.get(name) or None for name in ("status", "workflow_id", "business_key", "cursor")}
    page = queries.list_instances(system(), tenant=reader.tenant, limit=PAGE, **asked)
    return render_template("instances.html", page=page, asked=asked)


@routes.get("/ui/instances/<instance_id>")
def instance(instance_id: str) -> str:
    reader = caller("workflows:read")
    found = queries.status(system(), tenant=reader.tenant, instance_id=instance_id)
    log = queries.logs(
        system(), tenant=reader.tenant, instance_id=instance_id, limit=ROWS, cursor=request.args.get("log") or None
    )
    decided = next((step for step in found["steps"] if step["step"] == request.args.get("decided")), None)
    return render_template(
        "instance.html",
        instance=found,
        log=log,
        decided=decided,
        waiting=[step for step in found["steps"] if awaits_decision(step)],
    )


def awaits_decision(step: dict[str, Any]) -> bool:
    """A step that waits for a time, or for a sub-workflow, has no callback URL."""
    return step["status"] == "WAITING" and bool(step.get("callbackUrl"))


@routes.post("/ui/instances/<instance_id>/steps/<step>/decide")
def decide(instance_id: str, step: str) -> Response:
    callbacks.decide(system(), trace=instance_id, step=step, **decider(None), **_answer())
    return redirect(url_for("ui.instance", instance_id=instance_id, decided=step), 303)


@routes.get("/callbacks/<trace>/<step>")
def callback(trace: str, step: str) -> str:
    """What a callback link shows: it decides nothing, for mail scanners and previews follow links too."""
    token = request.args.get("token")
    tenant = decider(token)["tenant"]
    found = callbacks.page(system(), trace=trace, step=step, token=token, tenant=tenant)
    return render_template("callback.html", found=found, trace=trace, step=step, token=token)


@routes.post("/ui/callbacks/<trace>/<step>")
def decide_callback(trace: str, step: str) -> Response:
    token = request.form.get("token")
    callbacks.decide(system(), trace=trace, step=step, **decider(token), **_answer())
    return redirect(url_for("ui.callback", trace=trace, step=step, token=token), 303)


def _answer() -> dict[str, str | None]:
    for text in request.form.values():
        check_text(text)
    return {"decision": request.form.get("decision"), "comment": request.form.get("comment") or None}
