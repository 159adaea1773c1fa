"""/api/lanes: the service lanes, for whoever runs the installation. They are no tenant's."""

from __future__ import annotations

from typing import Any

from flask_openapi.blueprint import APIBlueprint
from flask_openapi.models.tag import Tag

from orchestrator import lane_orders
from orchestrator.api import models as m
from orchestrator.api.auth import caller
from orchestrator.api.context import system

routes = APIBlueprint(
    "lanes",
    __name__,
    url_prefix="/api/lanes",
    abp_responses=m.COMMON,
    abp_tags=[Tag(name="lanes", description="Service lanes, for whoever runs the installation")],
)


@routes.get("", responses={200: m.PageAnswer})
def list_lanes() -> dict[str, Any]:
    """List the lanes: their limits, what is in flight and what waits, breakers, and which are held."""
    caller("lanes:read")
    return {"items": lane_orders.listed(system()), "cursor": None}


@routes.post("/<lane>/hold", responses={200: m.LaneAnswer, 404: m.NOT_FOUND, 415: m.MEDIA})
def hold(path: m.LanePath, body: m.HoldBody) -> dict[str, Any]:
    """Let nothing more begin on a lane; calls in flight go on."""
    return lane_orders.hold(system(), path.lane, by=caller("lanes:operate").subject, why=body.why)


@routes.post("/<lane>/release", responses={200: m.LaneAnswer, 404: m.NOT_FOUND})
def release(path: m.LanePath) -> dict[str, Any]:
    """Let a lane take steps again, whether an operator holds it or its breaker is open."""
    return lane_orders.release(system(), path.lane, by=caller("lanes:operate").subject)
