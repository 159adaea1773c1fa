"""validationSvc: reviews the data of an application. It has no effect."""

from __future__ import annotations

from typing import Any

from orchestrator.lane import Call
from orchestrator.lanes.local import Rejected
from tasks.ledger import member


def validate(call: Call) -> Any:
    """{result: "ok", missing: [name, …]}. Rejected where what is there cannot be right."""
    applicant, plans = member(call, "applicant"), member(call, "plans")
    if applicant is not None and not (isinstance(applicant, str) and applicant.strip()):
        raise Rejected("`applicant` must be a person's name")
    if plans is not None and not isinstance(plans, dict | list | str):
        raise Rejected("`plans` must be the plans, or their names")
    return {"result": "ok", "missing": [name for name in ("applicant", "plans") if not member(call, name)]}
