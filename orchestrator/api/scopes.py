"""Which scope each call needs: one table, asked before a request is read. docs/reference/rest.md shows it."""

from __future__ import annotations

from collections.abc import Mapping

# Nobody has to be known: what says nothing of any tenant, and what a callback token can open. The latter ask for
# `workflows:decide` themselves where there is no such token.
OPEN = frozenset(
    {
        "operations.healthz",
        "operations.readyz",
        "description",
        "swagger.swagger",
        "swagger.static",
        "swagger.oauth2-redirect",
        "ui.static",
        "ui.graph_css",
        "front",
        "callbacks.decide",
        "ui.callback",
        "ui.decide_callback",
        "sign_in.page",
        "sign_in.sign_in",
        "sign_in.sign_out",
    }
)
NEEDED: Mapping[str, str] = {
    "workflows.start": "workflows:start",
    "workflows.list_instances": "workflows:read",
    "workflows.bulk": "workflows:operate",
    "workflows.status": "workflows:read",
    "workflows.history": "workflows:read",
    "workflows.logs": "workflows:read",
    "workflows.cancel": "workflows:operate",
    "workflows.retry": "workflows:operate",
    "workflows.suspend": "workflows:operate",
    "workflows.resume": "workflows:operate",
    "workflows.resolve": "workflows:operate",
    "definitions.put_definition": "definitions:write",
    "definitions.validate": "definitions:read",
    "definitions.list_definitions": "definitions:read",
    "definitions.get_definition": "definitions:read",
    "lanes.list_lanes": "lanes:read",
    "lanes.hold": "lanes:operate",
    "lanes.release": "lanes:operate",
    "ui.order_lane": "lanes:operate",
    "operations.metrics": "metrics:read",
    "ui.overview": "workflows:read",
    "ui.instances": "workflows:read",
    "ui.instance": "workflows:read",
    "ui.inbox": "workflows:read",
    "ui.wait": "workflows:read",
    "ui.lanes": "workflows:read",
    "ui.search": "workflows:read",
    "ui.where": "workflows:read",
    "ui.events": "workflows:read",
    "ui.decide": "workflows:decide",
    "ui.order": "workflows:operate",
    "ui.resolve": "workflows:operate",
    "ui.confirm": "workflows:operate",
    "ui.confirm_all": "workflows:operate",
    "ui.confirmed": "workflows:operate",
    "ui.workflows": "definitions:read",
    "ui.workflow": "definitions:read",
    "ui.start": "workflows:start",
}
