"""Values on their way into CEL and out of it. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.errors import Json

MAX_RESULT = 1_000_000  # characters of text, and values, that an evaluation may give


def as_doubles(value: Any, *, huge_only: bool) -> Any:
    """Whole numbers as doubles: all of them that a double holds exactly, or only those that CEL cannot hold."""
    if isinstance(value, Mapping):
        return {key: as_doubles(item, huge_only=huge_only) for key, item in value.items()}
    if isinstance(value, list):
        return [as_doubles(item, huge_only=huge_only) for item in value]
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return float(value) if (abs(value) >= 2**63 if huge_only else abs(value) <= 2**53) else value


def moment(value: Any) -> datetime:
    """A CEL time, or an ISO 8601 text with its offset, in UTC. Raises ValueError, OverflowError."""
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("neither a time nor a text")
    if found.tzinfo is None:
        raise ValueError("it has no offset from UTC")
    return found.astimezone(UTC)


class Plain:
    """CEL values → JSON, stopping at a budget: `payload.list.map(x, payload.text)` is a bomb otherwise."""

    def __init__(self, *, whole: bool) -> None:
        self.whole = whole  # whole doubles become whole numbers again
        self.left = MAX_RESULT

    def json(self, wrapped: Any) -> Json:
        value = wrapped.value() if hasattr(wrapped, "value") else wrapped
        self.left -= len(value) if isinstance(value, (str, bytes, bytearray)) else 1
        if self.left < 0:
            raise ValueError(f"the result is larger than {MAX_RESULT} characters")
        if isinstance(value, dict):
            return {self._key(key): self.json(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.json(item) for item in value]
        return self._scalar(value)

    @staticmethod
    def _key(key: Any) -> str:
        return key if isinstance(key, str) else json.dumps(key)

    def _scalar(self, value: Any) -> Json:
        if isinstance(value, float):
            if not math.isfinite(value):
                raise ValueError("the result is not a finite number")
            return int(value) if self.whole and value.is_integer() and abs(value) <= 2**53 else value
        if value is None or isinstance(value, (bool, int, str)):
            return value
        raise ValueError(f"the result is {_kind(value)}, which JSON has not: use string(…)")


def _kind(value: Any) -> str:
    kinds = {"datetime": "a time", "timedelta": "a duration", "bytearray": "bytes", "bytes": "bytes"}
    return kinds.get(type(value).__name__, "a type")
