"""The clerk's and the citizen's pages: where is it? In plain words, and nothing of how it works."""

from __future__ import annotations

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from orchestrator import boards
from orchestrator.api.auth import caller
from orchestrator.api.context import system
from orchestrator.ui.blueprint import routes

FOUND = 20


@routes.get("/ui/where")
def search() -> Response | str:
    """By business key, or by trace id; what is found alone is shown at once."""
    tenant = caller("workflows:read").tenant
    asked = request.args.get("key", "").strip()
    found = boards.find(system(), tenant=tenant, words=asked, limit=FOUND) if asked else []
    if len(found) == 1:
        return redirect(url_for("ui.where", instance_id=found[0]["instanceId"]), 303)
    return render_template("where.html", asked=asked, found=found)


@routes.get("/ui/where/<instance_id>")
def where(instance_id: str) -> str:
    whole = boards.whole(system(), tenant=caller("workflows:read").tenant, instance_id=instance_id)
    return render_template("progress.html", instance=whole, progress=boards.progress(whole))
