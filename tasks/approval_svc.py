"""approvalSvc: a reviewer approves plans by callback; the backup reviewer gets what the first one left."""

from __future__ import annotations

from typing import Any

from orchestrator.lane import Call
from orchestrator.lanes.local import LATER
from tasks import inbox


def approve(call: Call) -> Any:
    inbox.put(call, "reviewer")
    return LATER


def backup(call: Call) -> Any:
    inbox.put(call, "backup-reviewer")
    return LATER
