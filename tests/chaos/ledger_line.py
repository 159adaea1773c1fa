"""A line of a service's ledger, as the checker reads it, whoever writes it."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any


def line(number: int, what: str, *, lane: str, operation: str, key: str, attempt: int, content: bytes) -> bytes:
    """`what`: call, effect or ask. `key`: `trace:step[:iteration]:gN:do`, and shorter where no step has made it."""
    trace, _, rest = key.partition(":")
    told = {
        "n": number, "at": time.time(), "what": what, "lane": lane, "operation": operation, "key": key,
        "attempt": attempt, "trace": trace, "step": rest.partition(":")[0], "phase": key.rpartition(":")[2],
        "body": hashlib.sha256(content).hexdigest(), "agency": _agency(content),
    }  # fmt: skip
    return json.dumps(told).encode() + b"\n"


def _agency(content: bytes) -> Any:
    """Whose instance it is, by its payload; questions have no body, and an event may have another."""
    payload = json.loads(content or b"{}").get("payload")
    return payload.get("agency") if isinstance(payload, dict) else None
