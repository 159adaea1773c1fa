"""Orders to several instances at once: chosen in a list, shown again to be confirmed, then given one by one."""

from __future__ import annotations

from dataclasses import replace

from flask import render_template, request, url_for
from werkzeug.wrappers import Response

from orchestrator import boards
from orchestrator.api.auth import caller
from orchestrator.api.context import system
from orchestrator.errors import BadRequest, Conflict, NotFound
from orchestrator.orders import ORDERS
from orchestrator.queries import trace_of
from orchestrator.ui.blueprint import back, routes
from orchestrator.ui.flash import Told, leads_to

MOST = 200  # instances in one order
REFUSALS = 5  # that are told one by one
DONE = {"retry": "being tried again", "suspend": "suspended", "resume": "resumed", "cancel": "cancelled"}


@routes.post("/ui/orders")
def confirm() -> Response | str:
    """What would be ordered; nothing is done yet."""
    person = caller("workflows:operate")
    order, ids, to = _order(), _ids(), back(url_for("ui.instances"))
    if not ids:
        return leads_to(to, Told(text="Choose the instances first, by the boxes before them.", mood="bad"))
    wanted = replace(boards.search(person.tenant, {}, limit=MOST), ids=tuple(ids))
    return render_template("confirm.html", order=order, page=boards.listed(system(), wanted), back=to)


@routes.post("/ui/orders/confirmed")
def confirmed() -> Response:
    person = caller("workflows:operate")
    order, ids = _order(), _ids()
    refused = [said for one in ids if (said := _give(order, person.tenant, one))]
    return leads_to(back(url_for("ui.instances")), _told(order, len(ids) - len(refused), refused))


def _give(order: str, tenant: str, instance_id: str) -> str | None:
    """Why it was refused; none: it was done."""
    try:
        ORDERS[order](system(), tenant=tenant, instance_id=instance_id)
    except (Conflict, NotFound) as refused:
        return str(refused)
    return None


def _told(order: str, done: int, refused: list[str]) -> Told:
    said = [f"{done} {'instance is' if done == 1 else 'instances are'} {DONE[order]}."] if done else []
    if refused:
        more = len(refused) - REFUSALS
        said += [f"Nothing was changed in {len(refused)}:", "; ".join(refused[:REFUSALS]) + "."]
        said += [f"And {more} more."] if more > 0 else []
    return Told(text=" ".join(said), mood="good" if not refused else "wait" if done else "bad")


def _order() -> str:
    order = request.form.get("order", "")
    if order not in ORDERS:
        raise BadRequest(f"there is no order {order!r}; known: {', '.join(ORDERS)}")
    return order


def _ids() -> list[str]:
    ids = list(dict.fromkeys(trace_of(one) for one in request.form.getlist("id")))
    if len(ids) > MOST:
        raise BadRequest(f"{len(ids)} instances at once are too many; at most {MOST}")
    return ids
