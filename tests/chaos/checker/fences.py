"""No result is recorded by an attempt that somebody else has taken over."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.checker.case import Case
from tests.chaos.checker.report import Violation

BY_ANYBODY = ("lose", "doubt", "resolve", "reject")  # of what somebody holds: the sweep, a callback, a person


def fenced(case: Case) -> Iterator[Violation]:
    """Who has claimed a step is the only one who says what came of it."""
    for event in case.events:
        entry, before = event.entry, event.before
        if entry.step is None:
            continue
        if (entry.attempt or 0) < before.attempt:
            text = f"entry {entry.seq}, {entry.verb} of {entry.step}: attempt {entry.attempt} after {before.attempt}"
            yield case.violation("stale-write", text)
        elif before.is_held and entry.verb not in BY_ANYBODY and None not in (before.holder, entry.worker) \
                and entry.worker != before.holder:  # fmt: skip
            yield case.violation(
                "stale-write",
                f"entry {entry.seq}, {entry.verb} of {entry.step}: attempt {before.attempt} was claimed by "
                f"{before.holder}, and {entry.worker} records its result",
            )
