"""zoningPortal: a person decides. The zoning officer, or the deputy, gets the callback URL into an inbox."""

from __future__ import annotations

from typing import Any

from orchestrator.lane import Call
from orchestrator.lanes.local import LATER
from tasks import inbox


def approve(call: Call) -> Any:
    inbox.put(call, "zoning-officer")
    return LATER


def backup(call: Call) -> Any:
    inbox.put(call, "zoning-deputy")
    return LATER
