"""The runbook has an entry for all that parks an instance, and for every number that one may be woken by."""

from __future__ import annotations

import re
from typing import get_args

from orchestrator import states
from orchestrator.admission import Refusal
from tests.unit.test_docs import CODE, DOCS, commands, page, program

RUNBOOK = (DOCS / "runbook.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^### (.+)$", RUNBOOK, re.MULTILINE)
PARKED = {states.WAITING, states.SUSPENDED, states.STUCK}  # an instance that only somebody else can move on
ROW = re.compile(r"^\| (`.+`) \| ([A-Z, ]+) \|", re.MULTILINE)


def parking_reasons() -> set[str]:
    """Those that the reference gives to STUCK and UNKNOWN."""
    rows = [(CODE.findall(names), states.split(", ")) for names, states in ROW.findall(page("reasons.md"))]
    return {name for names, of in rows for name in names if {"STUCK", "UNKNOWN"} & set(of)}


def headed(word: str) -> bool:
    return any(re.search(rf"\b{word}\b", heading) for heading in HEADINGS)


def test_every_state_that_parks_an_instance_has_an_entry() -> None:
    assert [state for state in sorted(PARKED | {states.UNKNOWN}) if not headed(state)] == []
    assert set(states.INSTANCE_STATES) - states.TERMINAL >= PARKED


def test_every_reason_that_parks_an_instance_has_an_entry() -> None:
    found = parking_reasons()
    assert found >= {"uncertain", "quarantined", "undo_failed"}, "the search for reasons has gone blind"
    assert [reason for reason in sorted(found | set(get_args(Refusal))) if not headed(reason)] == []


def test_every_metric_has_an_entry() -> None:
    names = set(re.findall(r"^\| `(orchestrator_\w+)`", page("metrics.md"), re.MULTILINE))
    assert "orchestrator_oldest_step_seconds" in names
    assert [name for name in sorted(names) if name not in RUNBOOK] == []


def test_every_alert_that_is_advised_has_an_entry() -> None:
    advised = (DOCS / "how-to" / "watch-and-operate.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| `(orchestrator_[^`]+)` \|", advised, re.MULTILINE)
    assert len(found) >= 3
    names = [re.findall(r"orchestrator_\w+", alert)[0] for alert in found]
    assert [name for name in names if name not in RUNBOOK] == []


def test_every_command_that_it_names_exists() -> None:
    known = {name for name, _ in commands(program())}
    named = set(re.findall(r"orchestrator ((?:db )?[a-z-]+)", RUNBOOK))
    assert sorted(named - known) == []
