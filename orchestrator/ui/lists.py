"""The operator's pages of many instances: the overview, and the list with its filters."""

from __future__ import annotations

from flask import render_template, request

from orchestrator import boards
from orchestrator.api.auth import caller
from orchestrator.api.context import system
from orchestrator.ui.blueprint import routes

PAGE = 50  # instances
DEPARTURES, TROUBLED, WAITS = 12, 6, 6  # rows of the overview
FILTERS = ("q", "status", "workflow", "lane", "key", "since", "late", "stuck", "version", "cursor")


@routes.get("/ui", strict_slashes=False)
def overview() -> str:
    tenant = caller("workflows:read").tenant
    return render_template(
        "overview.html",
        board=boards.overview(system(), tenant=tenant),
        newest=boards.listed(system(), boards.search(tenant, {}, limit=DEPARTURES)).items,
        stuck=boards.listed(system(), boards.search(tenant, {"stuck": "1"}, limit=TROUBLED)),
        late=boards.listed(system(), boards.search(tenant, {"late": "1"}, limit=TROUBLED)),
        inbox=boards.inbox(system(), tenant=tenant, limit=WAITS),
    )


@routes.get("/ui/instances")
def instances() -> str:
    tenant = caller("workflows:read").tenant
    asked = {name: value for name in FILTERS if (value := request.args.get(name, "").strip())}
    return render_template(
        "instances.html",
        page=boards.listed(system(), boards.search(tenant, asked, limit=PAGE)),
        asked=asked,
        workflows=boards.definitions(system(), tenant=tenant),
        lanes=sorted(system().lanes),
    )
