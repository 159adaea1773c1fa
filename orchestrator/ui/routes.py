"""/ui with all its pages: importing them hangs their routes on the blueprint."""

from __future__ import annotations

from orchestrator.ui import decisions, events, instance, lanes, lists, orders, where, workflows
from orchestrator.ui.blueprint import routes

__all__ = ["decisions", "events", "instance", "lanes", "lists", "orders", "routes", "where", "workflows"]
