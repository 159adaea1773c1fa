"""The lanes: where each leads, and what waits for it or is in flight."""

from __future__ import annotations

from flask import render_template

from orchestrator import boards
from orchestrator.api.auth import caller
from orchestrator.api.context import system
from orchestrator.ui.blueprint import routes


@routes.get("/ui/lanes")
def lanes() -> str:
    return render_template("lanes.html", lanes=boards.lanes(system(), tenant=caller("workflows:read").tenant))
