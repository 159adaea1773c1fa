"""Orders to several instances at once: chosen by boxes or by a filter, shown again to be confirmed, then given.

What is confirmed is what was shown: the page that asks holds the ids, so that an instance which comes to match in the
meantime is not ordered about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import render_template, request, url_for
from werkzeug.wrappers import Response

from orchestrator import boards, orders
from orchestrator.api.auth import caller
from orchestrator.api.context import system
from orchestrator.errors import BadRequest
from orchestrator.orders import MOST, ORDERS, Outcome
from orchestrator.queries import trace_of
from orchestrator.store.filters import Filter
from orchestrator.ui.blueprint import ROWS, back, routes
from orchestrator.ui.choosing import Asked, asked_in, chosen_by
from orchestrator.ui.flash import Told, leads_to

REFUSALS = 5  # that are told one by one
DONE = {"retry": "being tried again", "suspend": "suspended", "resume": "resumed", "cancel": "cancelled"}


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What an order would be about."""

    ids: list[str]
    following: dict[str, Any] | None = None  # what chooses those that are left, where that was too many for one order


@routes.post("/ui/orders")
def confirm() -> Response | str:
    """What would be ordered, of the instances whose boxes are ticked; nothing is done yet."""
    person, ids, to = caller("workflows:operate"), _ids(), back(url_for("ui.instances"))
    if not ids:
        return leads_to(to, Told(text="Choose the instances first, by the boxes before them.", mood="bad"))
    return _asking(person.tenant, _order(request.form.get("order")), Chosen(ids=ids), to)


@routes.get("/ui/orders/<order>")
def confirm_all(order: str) -> Response | str:
    """The same, of all that a filter chooses."""
    person, asked = caller("workflows:operate"), asked_in(request.args)
    fields: dict[str, Any] = {name: asked[name] for name in asked if name != "cursor"}
    to = url_for("ui.instances", **fields)
    chosen = _all(person.tenant, _order(order), asked)
    if not chosen.ids:
        return leads_to(to, Told(text="Nothing matches any more, so that there is nothing to order.", mood="bad"))
    return _asking(person.tenant, order, chosen, to)


def _all(tenant: str, order: str, asked: Asked) -> Chosen:
    found = orders.order(system(), order, chosen_by(tenant, asked, limit=MOST), dry_run=True)
    ids = [one["instanceId"] for one in found.items]
    return Chosen(ids=ids, following=asked | {"cursor": found.cursor} if found.cursor else None)


def _asking(tenant: str, order: str, chosen: Chosen, to: str) -> str:
    shown = tuple(chosen.ids[:ROWS])
    following = url_for("ui.confirm_all", order=order, **chosen.following) if chosen.following else None
    page = boards.listed(system(), Filter(tenant=tenant, ids=shown, limit=ROWS))
    return render_template("confirm.html", order=order, ids=chosen.ids, page=page, back=to, following=following)


@routes.post("/ui/orders/confirmed")
def confirmed() -> Response:
    person, ids = caller("workflows:operate"), _ids()
    order, to = _order(request.form.get("order")), back(url_for("ui.instances"))
    found = orders.order(system(), order, Filter(tenant=person.tenant, ids=tuple(ids), limit=MOST))
    return leads_to(to, _told(order, found))


def _told(order: str, found: Outcome) -> Told:
    done, refused = found.done, [one["message"] for one in found.refused]
    said = [f"{done} {'instance is' if done == 1 else 'instances are'} {DONE[order]}."] if done else []
    if refused:
        more = len(refused) - REFUSALS
        said += [f"Nothing was changed in {len(refused)}:", "; ".join(refused[:REFUSALS]) + "."]
        said += [f"And {more} more."] if more > 0 else []
    return Told(
        text=" ".join(said) or "None of them is here.", mood="good" if not refused else "wait" if done else "bad"
    )


def _order(order: str | None) -> str:
    if order is None or order not in ORDERS:
        raise BadRequest(f"there is no order {order or ''!r}; known: {', '.join(ORDERS)}")
    return order


def _ids() -> list[str]:
    """From a box each, or all in one field."""
    ids = list(dict.fromkeys(trace_of(one) for field in request.form.getlist("id") for one in field.split()))
    if len(ids) > MOST:
        raise BadRequest(f"{len(ids)} instances at once are too many; at most {MOST}")
    return ids
