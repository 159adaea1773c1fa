"""A local lane: it does what it does in the ledger's books, by the call's key."""

from __future__ import annotations

import os
from typing import Any

from orchestrator.lane import Call
from tests.chaos.crashpoints.posting import post

SERVICE = "CRASHPOINTS_SERVICE"  # in the environment: the ledger's URL


def write(call: Call) -> Any:
    post(os.environ[SERVICE], "keyed", call.operation, call.key, {"payload": call.payload})
    return {"result": {"wrote": True}}


def unwrite(call: Call) -> Any:
    return write(call)
