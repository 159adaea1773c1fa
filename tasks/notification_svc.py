"""notificationSvc: writes letters into a folder, one for an idempotency key."""

from __future__ import annotations

import hashlib
from typing import Any

from orchestrator.lane import Call
from tasks.ledger import folder, member, write_once


def send(call: Call) -> Any:
    """{result: "sent", letter: file name}. The input's `message` is the text where it has one, and its `points` a list."""
    return _letter(call, "There is news about your application.")


def notify(call: Call) -> Any:
    return _letter(call, "Your application has been decided.")


def receipt(call: Call) -> Any:
    return _letter(call, "Thank you. Your payment was received and your permit is up to date.")


def askForDocs(call: Call) -> Any:  # noqa: N802  # operations are named as definitions write them
    missing = member(call, "missing")
    listed = ", ".join(str(name) for name in missing) if isinstance(missing, list) else ""
    return _letter(call, f"Your application is incomplete. Please send what is missing: {listed}".rstrip(": ") + ".")


def reject(call: Call) -> Any:
    return _letter(call, "Your application was rejected.")


def _letter(call: Call, text: str) -> Any:
    to = member(call, "applicant", "to") or "applicant"
    said = member(call, "message") or text
    points = member(call, "points")
    listed = "".join(f"\n- {point}" for point in points) if isinstance(points, list) else ""
    name = f"{call.trace}-{hashlib.sha256(call.key.encode()).hexdigest()[:12]}.txt"
    write_once(folder("letters", call.tenant) / name, f"Dear {to},\n\n{said}{listed}\n\n(reference {call.trace})\n")
    return {"result": "sent", "letter": name}
