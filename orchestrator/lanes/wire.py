"""What an attempt says on the wire, whatever carries it: one content, one set of headers, one trace context."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from orchestrator.lane import Call


def content(call: Call) -> dict[str, Any]:
    """`{trace, step, payload, input, callbackUrl}`, for a compensation also the undone step's `result`.

    The same at every attempt of a generation: nothing of the attempt is in it.
    """
    said = {
        "trace": call.trace, "step": call.step, "payload": call.payload, "input": call.input,
        "callbackUrl": call.callback_url,
    }  # fmt: skip
    return said | {"result": call.result} if call.undo else said


def headers(call: Call) -> dict[str, str]:
    return {
        "Idempotency-Key": quote(call.key, safe=":-_.~[]"),
        "X-Attempt": str(call.attempt),
        "traceparent": traceparent(call),
    }


def traceparent(call: Call) -> str:
    """W3C trace context. The span is made from the attempt, so that a repeated send of it is the same span."""
    span = hashlib.sha256(f"{call.key}:{call.attempt}".encode()).hexdigest()[:16]
    return f"00-{call.trace}-{span}-01"


def named(template: str | None, operation: str) -> str:
    """A `task` or `topic` with its `{operation}`."""
    return (template or "").replace("{operation}", operation)
