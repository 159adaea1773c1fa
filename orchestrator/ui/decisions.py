"""The reviewer's pages: the inbox, one wait with its form, and what a callback link shows."""

from __future__ import annotations

from flask import render_template, request, url_for
from werkzeug.wrappers import Response

from orchestrator import boards, callbacks, queries
from orchestrator.api.auth import caller, decider
from orchestrator.api.context import system
from orchestrator.errors import Conflict, Gone, NotFound
from orchestrator.ui.blueprint import back, routes
from orchestrator.ui.flash import Told, leads_to

PAGE = 20  # waits


@routes.get("/ui/inbox")
def inbox() -> str:
    tenant = caller("workflows:read").tenant
    page = boards.inbox(system(), tenant=tenant, limit=PAGE, cursor=request.args.get("cursor") or None)
    return render_template("inbox.html", page=page, cursor=request.args.get("cursor"))


@routes.get("/ui/inbox/<instance_id>/<step>")
def wait(instance_id: str, step: str) -> str:
    whole = boards.whole(system(), tenant=caller("workflows:read").tenant, instance_id=instance_id)
    found = next((one for one in whole["steps"] if one["step"] == step), None)
    if found is None:
        raise NotFound(f"{step} has not been reached, or there is no such step")
    return render_template(
        "wait.html",
        instance=whole,
        step=found,
        title=boards.title(boards.titles(whole["definition"]), step),
        outlook=boards.outlook(whole["definition"], step, escalated=found["escalated"]),
        progress=boards.progress(whole),
    )


@routes.post("/ui/inbox/<instance_id>/<step>")
def decide(instance_id: str, step: str) -> Response:
    given = decider(None)
    to = back(url_for("ui.wait", instance_id=instance_id, step=step))
    try:
        made = _decide(instance_id, step, given)
    except (Conflict, Gone, NotFound) as lost:
        return leads_to(to, Told(text=_winner(str(given["tenant"]), instance_id, step, lost), mood="bad"))
    again = "was already " if made.repeated else "is "
    return leads_to(to, Told(text=f"“{_title(str(given['tenant']), instance_id, step)}” {again}{made.decision}."))


def _title(tenant: str, instance_id: str, step: str) -> str:
    whole = boards.whole(system(), tenant=tenant, instance_id=instance_id)
    return boards.title(boards.titles(whole["definition"]), step)


def _winner(tenant: str, instance_id: str, step: str, lost: Exception) -> str:
    """Whoever comes second is told who was first, what he decided and why."""
    shown = queries.status(system(), tenant=tenant, instance_id=instance_id, newest=0)
    found = next((one for one in shown["steps"] if one["step"] == step), None)
    if found is None or not found["decision"]:
        return f"Your decision came too late: {lost}."
    by = f" by {found['decidedBy']}" if found["decidedBy"] else ""
    comment = f" (“{found['comment']}”)" if found["comment"] else ""
    title = _title(tenant, instance_id, step)
    return f"“{title}” was already {found['decision']}{by}{comment}. Your decision changes nothing."


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
    to = url_for("ui.callback", trace=trace, step=step, token=token)
    try:
        made = _decide(trace, step, decider(token))
    except (Conflict, Gone) as lost:
        return leads_to(to, Told(text=f"Your decision came too late: {lost}.", mood="bad"))
    return leads_to(to, Told(text=f"Recorded: {made.decision}."))


def _decide(trace: str, step: str, who: dict[str, str | None]) -> callbacks.Decided:
    return callbacks.decide(
        system(), trace=trace, step=step, token=who["token"], tenant=who["tenant"], by=who["by"],
        decision=request.form.get("decision"), comment=request.form.get("comment", "").strip() or None,
    )  # fmt: skip
