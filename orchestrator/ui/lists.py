"""The operator's pages of many instances: the overview, and the list with its filters."""

from __future__ import annotations

from flask import render_template, request

from orchestrator import boards, queries
from orchestrator.api.auth import caller
from orchestrator.api.context import system
from orchestrator.store.filters import Filter
from orchestrator.ui.blueprint import routes
from orchestrator.ui.choosing import asked_in, chosen_by

PAGE = 50  # instances
DEPARTURES, TROUBLED, WAITS = 12, 6, 6  # rows of the overview


@routes.get("/ui", strict_slashes=False)
def overview() -> str:
    tenant = caller("workflows:read").tenant
    return render_template(
        "overview.html",
        board=boards.overview(system(), tenant=tenant),
        newest=boards.listed(system(), Filter(tenant=tenant, limit=DEPARTURES)).items,
        stuck=boards.listed(system(), Filter(tenant=tenant, stuck=True, limit=TROUBLED)),
        late=boards.listed(system(), Filter(tenant=tenant, late=True, limit=TROUBLED)),
        inbox=boards.inbox(system(), tenant=tenant, limit=WAITS),
    )


@routes.get("/ui/instances")
def instances() -> str:
    tenant = caller("workflows:read").tenant
    asked = asked_in(request.args)
    wanted = chosen_by(tenant, asked, limit=PAGE)
    return render_template(
        "instances.html",
        page=boards.listed(system(), wanted),
        asked=asked,
        filtered={} if wanted.is_empty else {name: asked[name] for name in asked if name != "cursor"},
        workflows=queries.list_definitions(system(), tenant=tenant),
        lanes=sorted(system().lanes),
    )
