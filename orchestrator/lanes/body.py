"""Reads what a lane replied into JSON that every later part can hold: Postgres, CEL and the pages."""

from __future__ import annotations

import json
import math
from typing import Any

from orchestrator.errors import Json

LARGEST = 1_000_000  # bytes
DEEPEST = 64  # objects and lists inside each other
LONGEST_WAIT = 86_400.0  # seconds that a lane may ask to be left alone
ERROR_LENGTH = 2_000  # characters of an error text that are kept


class Unreadable(ValueError):  # as errors.py names its own
    """The reply is not JSON that can be kept; the message says what is wrong with it."""


def read(raw: bytes) -> Json:
    """JSON from the bytes of a reply. Raises Unreadable."""
    if len(raw) > LARGEST:
        raise Unreadable(f"the reply is larger than {LARGEST} bytes")
    try:
        value = json.loads(raw.decode("utf-8-sig"), parse_constant=_no_constant)
    except RecursionError as error:
        raise Unreadable(f"the reply is nested deeper than {DEEPEST}") from error
    except ValueError as error:
        raise Unreadable(f"the reply is not JSON: {error}") from error
    check(value)
    return value


def written(value: Any) -> Json:
    """The JSON form of a Python value, as another process would read it. Raises Unreadable."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        return read(text.encode())
    except RecursionError as error:
        raise Unreadable(f"the reply is nested deeper than {DEEPEST}") from error
    except Unreadable:
        raise
    except (TypeError, ValueError) as error:
        raise Unreadable(f"the reply is not JSON: {error}") from error


def check(value: Json) -> None:
    """Refuse what JSON allows and Postgres or CEL do not. Without recursion: replies come from others."""
    left = [(value, 1)]
    while left:
        item, depth = left.pop()
        if depth > DEEPEST:
            raise Unreadable(f"the reply is nested deeper than {DEEPEST}")
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, float) and not math.isfinite(item):
            raise Unreadable("the reply holds a number that is too large")  # 1e999 is infinite to Python
        elif isinstance(item, dict):
            left += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list):
            left += [(part, depth + 1) for part in item]


def _check_text(text: str) -> None:
    """Postgres' jsonb holds neither NUL nor half of a surrogate pair."""
    if "\0" in text:
        raise Unreadable("the reply holds a NUL character, which Postgres cannot keep")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Unreadable("the reply holds half of a surrogate pair, which is not Unicode text")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def wait(seconds: Any) -> float | None:
    """Seconds that a lane asks to be left alone, bounded; none where what it said is no such number."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        return None
    return float(min(seconds, LONGEST_WAIT))


def printable(text: str) -> str:
    """An error text that Postgres can keep and a line can show, cut to ERROR_LENGTH characters."""
    clean = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= ERROR_LENGTH else clean[:ERROR_LENGTH] + " …"


def described(error: BaseException) -> str:
    """`ValueError: message`, also where the error's own text cannot be made."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # the text is made by whoever wrote the error's class
        text = "(its text cannot be shown)"
    name = type(error).__name__
    return printable(f"{name}: {text}" if text else name)
