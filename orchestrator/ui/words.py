"""How the pages say things: states in plain words, times, what is allowed next, and JSON cut to a readable length."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator import states
from orchestrator.milestones import plain

__all__ = ["plain"]  # the templates call it

INSTANCE_WORDS = {
    "RUNNING": "Running",
    "WAITING": "Waiting",
    "COMPENSATING": "Being undone",
    "SUSPENDED": "Suspended",
    "STUCK": "Stuck",
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
    "UNKNOWN": "Unknown whether done",
    "COMPENSATING": "Being undone",
    "COMPENSATED": "Undone",
    "STUCK": "Undo failed",
}
REASON_WORDS = {
    "uncertain": "nobody knows whether a step was done",
    "undo_failed": "a compensation did not succeed",
    "quarantined": "a step ended its worker again and again",
}
# For who asks where it is: no word of how it works.
CLERK_WORDS = {
    "RUNNING": "In progress",
    "WAITING": "In progress",
    "COMPENSATING": "Being taken back",
    "SUSPENDED": "On hold",
    "STUCK": "Held up: we are looking into it",
    "COMPLETED": "Finished",
    "COMPENSATED": "Ended without success; what had been done was taken back",
    "FAILED": "Ended without success",
    "CANCELLED": "Cancelled",
}
STANDING_WORDS = {
    "done": "Done",
    "now": "Now serving",
    "next": "Still to come",
    "skipped": "Not needed",
    "failed": "Did not succeed",
    "held": "Held up: we are looking into it",
    "undone": "Taken back",
    "dropped": "Not reached",
}
ACTION_WORDS = {
    "fail": "the step fails, and what was done is undone",
    "skip": "the step is skipped",
    "retry": "it is asked again",
}
MOODS = {
    "COMPLETED": "good", "SUCCEEDED": "good", "done": "good",
    "FAILED": "bad", "COMPENSATED": "bad", "STUCK": "bad", "UNKNOWN": "bad", "failed": "bad", "held": "bad",
    "WAITING": "wait", "SUSPENDED": "wait", "RETRYING": "wait", "undone": "wait",
    "RUNNING": "busy", "READY": "busy", "COMPENSATING": "busy", "now": "busy",
}  # fmt: skip
# Beside the words: a state is told by its shape, too.
MARKS = {
    "COMPLETED": "✓", "SUCCEEDED": "✓", "done": "✓", "FAILED": "✕", "failed": "✕", "COMPENSATED": "↺", "undone": "↺",
    "STUCK": "!", "UNKNOWN": "?", "held": "!", "WAITING": "◔", "RETRYING": "↻", "SUSPENDED": "‖", "RUNNING": "▸",
    "now": "▸", "READY": "▹", "COMPENSATING": "↶", "CANCELLED": "⊘", "SKIPPED": "»", "skipped": "»",
}  # fmt: skip
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def state_words(state: str | None, words: Mapping[str, str]) -> str:
    """A state that has no words here is shown as it is, not hidden."""
    return words.get(state or "", state or "")


def mood(state: str | None, *, of_step: bool = False) -> str:
    """The CSS class of a state; the words beside it say the same, so that colour alone tells nothing.

    An instance that was undone has failed; a step that was undone is as it should be then.
    """
    return "quiet" if of_step and state == states.COMPENSATED else MOODS.get(state or "", "quiet")


def mark(state: str | None) -> str:
    return MARKS.get(state or "", "•")


def iso(moment: str | datetime) -> str:
    return moment if isinstance(moment, str) else moment.isoformat()


def when(moment: str | datetime | None) -> str:
    """`2026-11-21T21:08:03.123456+00:00` as `2026-11-21 21:08:03 UTC`."""
    if not moment:
        return ""
    found = datetime.fromisoformat(iso(moment))
    zone = "UTC" if not found.utcoffset() else found.strftime("%z")
    return f"{found:%Y-%m-%d %H:%M:%S} {zone}"


def briefly(moment: str | datetime | None) -> str:
    """`21 Nov 21:08`, in UTC, as the foot of every page says."""
    return f"{datetime.fromisoformat(iso(moment)).astimezone(UTC):%d %b %H:%M}" if moment else ""


def lasting(seconds: float | None) -> str:
    """`2 d 4 h`, `1 h 5 min`, `40 s`, `0.12 s`: the two largest units that are not zero."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"
    left, said = round(seconds), list[str]()
    for size, unit in UNITS:
        count, left = divmod(left, size)
        if count:
            said.append(f"{count} {unit}")
    return " ".join(said[:2])


def remaining(moment: str | datetime | None, now: datetime) -> str:
    """`in 1 d 22 h`, `5 min ago`."""
    if not moment:
        return ""
    seconds = (datetime.fromisoformat(iso(moment)) - now).total_seconds()
    return f"in {lasting(seconds)}" if seconds >= 0 else f"{lasting(-seconds)} ago"


def outlook(found: Mapping[str, Any] | None) -> str:
    """What `boards.outlook` says, as the end of a sentence that begins `When nobody decides in time`."""
    if found is None:
        return ""
    if found["kind"] == "decide":
        return f"it counts as {found['decision']}"
    if found["kind"] != "escalate":
        return ACTION_WORDS[found["kind"]]
    then = f", which has {lasting(found['timeout'])}; after that {outlook(found['then'])}" if found["then"] else ""
    return f"it goes to {found['to']}{then}"


def possible_orders(instance: Mapping[str, Any]) -> list[str]:
    """What an operator may order of an instance as it stands; the engine has the last word."""
    status = instance["status"]
    waits_to_retry = any(one["status"] == states.RETRYING for one in instance["steps"])
    offered = {
        "retry": status in (states.FAILED, states.COMPENSATED, states.STUCK) or waits_to_retry,
        "resume": status == states.SUSPENDED,
        "suspend": not states.is_terminal(status) and status != states.SUSPENDED,
        "cancel": not states.is_terminal(status) and status != states.COMPENSATING and not instance["cancelRequested"],
    }
    return [name for name, fits in offered.items() if fits]


def readable(value: Any, limit: int = 300) -> str:
    """Text as it is, anything else as JSON; cut after `limit` characters. None is empty."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit} more characters)"


def scalar(value: Any) -> str:
    """A JSON value that has no parts, as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "nothing" if value is None else str(value)


def outline(value: Any, entries: int = 80, characters: int = 200) -> tuple[Any, bool]:
    """A JSON value cut to so many members and items in all, each text to so many characters; and whether it was cut."""
    return _Outline(entries, characters).of(value)


CUT = object()


class _Outline:
    def __init__(self, entries: int, characters: int) -> None:
        self._left, self._characters, self._cut = entries, characters, False

    def of(self, value: Any) -> tuple[Any, bool]:
        return self._of(value), self._cut

    def _of(self, value: Any) -> Any:
        """`CUT` for what has parts of which none is left: as empty it would say something else."""
        kept: Any
        if isinstance(value, dict):
            parts = ((key, self._of(one)) for key, one in value.items() if self._takes())
            kept = {self._text(key): one for key, one in parts if one is not CUT}
        elif isinstance(value, list):
            kept = [part for one in value if self._takes() and (part := self._of(one)) is not CUT]
        else:
            return self._text(value) if isinstance(value, str) else value
        return kept if kept or not value else CUT

    def _takes(self) -> bool:
        self._left -= 1
        self._cut = self._cut or self._left < 0
        return self._left >= 0

    def _text(self, text: str) -> str:
        if len(text) <= self._characters:
            return text
        self._cut = True
        return f"{text[: self._characters]} …"
