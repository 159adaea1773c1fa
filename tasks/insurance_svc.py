"""insuranceSvc: is there a proof of insurance? It has no effect."""

from __future__ import annotations

from typing import Any

from orchestrator.lane import Call
from tasks.checks import look_for


def check(call: Call) -> Any:
    return look_for(call, "insurance")
