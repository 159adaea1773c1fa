"""What people send: whether it can be kept, and whether it fits the definition's `input` schema. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from orchestrator import fitting
from orchestrator.errors import BadRequest, InvalidPayload, Problem, TooLarge

MAX_DEPTH = 100
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # an escape, and not the six characters that look like one


def check_payload(payload: Any, schema: dict[str, Any] | None, limit: int) -> None:
    """Raises BadRequest (not an object, or not to be kept), TooLarge, or InvalidPayload with every path that fails."""
    if not isinstance(payload, dict):
        raise BadRequest('the payload must be a JSON object, as in {"permitNo": "P-1"}')
    check_storable(payload, "the payload", limit)
    if schema is not None:
        _check_schema(payload, schema)


def check_storable(value: Any, what: str, limit: int) -> None:
    """Raises BadRequest when Postgres' jsonb or JSON itself cannot keep `value`; TooLarge beyond `limit` bytes."""
    if _depth(value) > MAX_DEPTH:
        raise BadRequest(f"{what} is nested more than {MAX_DEPTH} deep")
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except (ValueError, TypeError) as error:  # NaN, half of a surrogate pair
        raise BadRequest(f"{what} cannot be kept as JSON: {error}") from error
    if NUL.search(text):
        raise BadRequest(f"{what} holds a NUL character, which Postgres cannot keep")
    if size > limit:
        raise TooLarge(f"{what} has {size} bytes; at most {limit} are kept. Send a reference to it instead")


def _depth(value: Any) -> int:
    deepest, left = 0, [(value, 1)]
    while left:
        item, depth = left.pop()
        deepest = max(deepest, depth)
        if depth > MAX_DEPTH:
            return depth
        if isinstance(item, dict | list | tuple):
            left += [(part, depth + 1) for part in (item.values() if isinstance(item, dict) else item)]
    return deepest


def _check_schema(payload: dict[str, Any], schema: dict[str, Any]) -> None:
    try:
        found = [f"payload{fault}" for fault in fitting.faults(payload, schema)]
    except fitting.Unjudged as error:
        found = [f"payload: it cannot be checked against the workflow's `input`: {error}"]
    if found:
        raise InvalidPayload([Problem(message=one) for one in found])
