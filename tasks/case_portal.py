"""casePortal: people of the benefit office decide. The reviewer gets the case first, the head of the office after."""

from __future__ import annotations

from typing import Any

from orchestrator.lane import Call
from orchestrator.lanes.local import LATER
from tasks import inbox


def review(call: Call) -> Any:
    inbox.put(call, "case-reviewer")
    return LATER


def head(call: Call) -> Any:
    inbox.put(call, "head-of-office")
    return LATER
