"""The lanes: where each leads, and what waits for it or is in flight."""

from __future__ import annotations

from flask import render_template, request, url_for
from werkzeug.wrappers import Response

from orchestrator import boards, lane_orders
from orchestrator.api.auth import caller
from orchestrator.api.context import system
from orchestrator.ui.blueprint import routes
from orchestrator.ui.flash import Told, leads_to


@routes.get("/ui/lanes")
def lanes() -> str:
    return render_template("lanes.html", lanes=boards.lanes(system(), tenant=caller("workflows:read").tenant))


@routes.post("/ui/lanes/<name>/<any(hold, release):order>")
def order_lane(name: str, order: str) -> Response:
    person = caller("lanes:operate")
    if order == "hold":
        lane_orders.hold(system(), name, by=person.subject, why=request.form.get("why", "").strip() or None)
        said = f"Lane {name} is held: nothing more begins on it, and what runs there goes on."
    else:
        lane_orders.release(system(), name, by=person.subject)
        said = f"Lane {name} is released."
    return leads_to(url_for("ui.lanes"), Told(text=said))
