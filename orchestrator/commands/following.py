"""Following an instance: its transitions as they happen, and how they read on the console."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestrator import states, views
from orchestrator.lines import line
from orchestrator.store import instances
from orchestrator.system import System
from orchestrator.tokens import Wait

PAGE = 500
SOONEST, LATEST = 0.03, 0.5  # seconds between two looks: longer the longer nothing has happened

Entry = Mapping[str, Any]


def follow(
    system: System, *, tenant: str, trace: str, until: Callable[[str], bool], check: Callable[[], None] = lambda: None
) -> Iterator[Entry]:
    """Every transition (`views.entry`), its descendants' too, in order, until the instance's status is one to stop at.

    `check` is called at every look and may raise. Raises NotFound.
    """
    seen: dict[str, int] = {}
    pause = SOONEST
    while True:
        status = _status(system, tenant, trace)  # asked first: all that led to it is in the history by then
        pause = min(LATEST, pause * 1.2)
        for entry in _news(system, tenant, trace, seen):
            yield entry
            pause = SOONEST
        if until(status):
            return
        check()
        time.sleep(pause)


def is_over(status: str) -> bool:
    return states.is_terminal(status)


def is_parked(status: str) -> bool:
    """It goes on only when somebody or something from outside says so."""
    return status in (states.WAITING, states.STUCK, states.SUSPENDED)


def step_line(system: System, entry: Entry) -> str | None:
    """`[trace] step START` and so on; None for what is not a step's, or is nobody's concern."""
    trace = entry["instanceId"]
    if entry["step"] is None:
        return None
    said = line(entry, callback_url(system, trace, entry) if entry["verb"] == "park" else None)
    return f"[{trace}] {' '.join(said.splitlines())}" if said else None  # a service's error may have lines


def callback_url(system: System, trace: str, entry: Entry) -> str:
    """Where the answer to a waiting step goes, with the token that opens it."""
    wait = Wait(trace=trace, step=entry["step"], phase=entry["phase"], generation=entry["generation"])
    return system.tokens.url(system.settings.base_url, wait)


def _status(system: System, tenant: str, trace: str) -> str:
    with system.database.transaction() as connection:
        found = instances.find(connection, tenant, trace)
    return str(found["status"]) if found else ""


def _news(system: System, tenant: str, trace: str, seen: dict[str, int]) -> Iterator[Entry]:
    """What was not `seen` yet, which is noted there."""
    while True:
        with system.database.transaction() as connection:
            found = instances.family_news(connection, tenant, trace, seen=seen, limit=PAGE)
        for entry in map(views.entry, found):
            seen[entry["instanceId"]] = entry["seq"]
            yield entry
        if len(found) < PAGE:
            return
