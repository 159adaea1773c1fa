"""How the pages say things: states in plain words, times, and JSON cut to a readable length."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

INSTANCE_WORDS = {
    "RUNNING": "Running",
    "WAITING": "Waiting",
    "COMPENSATING": "Being undone",
    "SUSPENDED": "Suspended",
    "STUCK": "Stuck: needs a person",
    "COMPLETED": "Completed",
    "COMPENSATED": "Failed and undone",
    "FAILED": "Failed",
    "CANCELLED": "Cancelled",
}
STEP_WORDS = {
    "READY": "Ready to begin",
    "RUNNING": "Running",
    "WAITING": "Waiting",
    "RETRYING": "Will be retried",
    "SUCCEEDED": "Done",
    "SKIPPED": "Skipped",
    "FAILED": "Failed",
    "UNKNOWN": "Unknown whether done: needs a person",
    "COMPENSATING": "Being undone",
    "COMPENSATED": "Undone",
    "STUCK": "Undo failed: needs a person",
}
REASON_WORDS = {
    "uncertain": "nobody knows whether a step was done",
    "undo_failed": "a compensation did not succeed",
    "quarantined": "a step ended its worker again and again",
}
MOODS = {
    "COMPLETED": "good",
    "SUCCEEDED": "good",
    "FAILED": "bad",
    "COMPENSATED": "bad",
    "STUCK": "bad",
    "UNKNOWN": "bad",
    "WAITING": "wait",
    "SUSPENDED": "wait",
    "RETRYING": "wait",
}


def state_words(state: str | None, words: dict[str, str]) -> str:
    """A state that has no words here is shown as it is, not hidden."""
    return words.get(state or "", state or "")


def mood(state: str | None) -> str:
    """The CSS class of a state; the words beside it say the same, so that colour alone tells nothing."""
    return MOODS.get(state or "", "plain")


def when(text: str | None) -> str:
    """`2026-11-21T21:08:03.123456+00:00` as `2026-11-21 21:08:03 UTC`."""
    if not text:
        return ""
    moment = datetime.fromisoformat(text)
    zone = "UTC" if not moment.utcoffset() else moment.strftime("%z")
    return f"{moment:%Y-%m-%d %H:%M:%S} {zone}"


def readable(value: Any, limit: int = 300) -> str:
    """Text as it is, anything else as JSON; cut after `limit` characters. None is empty."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit} more characters)"
