"""citizenPortal: what a citizen is asked for, with the URL at which the answer goes."""

from __future__ import annotations

from typing import Any

from orchestrator.lane import Call
from orchestrator.lanes.local import LATER, Rejected
from tasks import inbox
from tasks.ledger import member


def askForDocuments(call: Call) -> Any:  # noqa: N802  # operations are named as definitions write them
    """The answer is expected as {documents: [name or {name, …}, …]}. `missing` of the input are kinds."""
    missing = member(call, "missing")
    if not isinstance(missing, list) or not missing:
        raise Rejected("`missing` must be a list of what the citizen is to send")
    inbox.put(call, "citizen")
    return LATER
