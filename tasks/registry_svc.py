"""registrySvc: the register of people who may not run a business. It has no effect."""

from __future__ import annotations

import re
from typing import Any

from orchestrator.lane import Call
from orchestrator.lanes.local import Rejected
from tasks.ledger import member

IDENTITY = re.compile(r"ID-\d{4}")
BARRED = {"ID-6660": "barred by the court until 2031"}


def check(call: Call) -> Any:
    """{result: {name, barred, why}} of the owner in the input: {name, idNo}."""
    name, identity = member(call, "name"), member(call, "idNo")
    if not isinstance(name, str) or not name.strip():
        raise Rejected("an owner needs a `name`")
    if not isinstance(identity, str) or not IDENTITY.fullmatch(identity):
        raise Rejected(f"{identity!r} is no number of an identity card: they look like ID-1042")
    return {"result": {"name": name, "barred": identity in BARRED, "why": BARRED.get(identity)}}
