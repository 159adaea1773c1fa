"""Every instance has ended, or is visibly parked: for a reason that a person can see, and with what that waits for."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.checker import table
from tests.chaos.checker.case import Case
from tests.chaos.checker.database import Step
from tests.chaos.checker.ledger import kind_of
from tests.chaos.checker.report import Violation


def ended(case: Case) -> Iterator[Violation]:
    why = _why_not(case)
    if why:
        yield case.violation("not-ended", f"it is {case.header.status} ({case.header.reason}): {why}")


def doubted(case: Case) -> Iterator[Violation]:
    """Only where a service can neither be asked nor told again a person has to say what was done. (A lane that forgets
    its keys is none of those whose calls are in the ledger.)"""
    for event in case.events:
        entry = event.entry
        if (event.verb, entry.reason) == ("doubt", "uncertain") and kind_of(entry.service) in ("keyed", "safe"):
            text = f"entry {entry.seq}: {entry.step} {entry.phase} was called uncertain, and {entry.service} may be called again"
            yield case.violation("doubt-needless", text)


def _why_not(case: Case) -> str | None:
    match case.header.status:
        case status if status in table.TERMINAL:
            return _still(case, table.ACTIVE)
        case "SUSPENDED":
            return None if case.header.suspended_at else "nobody has suspended it"
        case "STUCK":
            return _why_not_stuck(case)
        case "WAITING":
            return _why_not_waiting(case)
    return _why_not_held(case)


def _still(case: Case, states: tuple[str, ...]) -> str | None:
    found = sorted(f"{row.step} {row.phase} is {row.state}" for row in case.rows.values() if row.state in states)
    return ", ".join(found) or None


def _why_not_stuck(case: Case) -> str | None:
    wanted = {"undo_failed": "STUCK", "uncertain": "UNKNOWN", "quarantined": "UNKNOWN"}.get(case.header.reason or "")
    if wanted is None:
        return "that is no reason"
    if not any(row.state == wanted for row in case.rows.values()):
        return f"no step of it is {wanted}"
    return None


def _why_not_waiting(case: Case) -> str | None:
    waiting = [row for row in case.rows.values() if row.state == "WAITING"]
    if not waiting:
        return "none of its steps waits"
    late = [row.step for row in waiting if row.due_at is not None and row.due_at < case.world.now]
    if late:
        return f"what {', '.join(sorted(late))} waits for is past due"
    return next((text for row in waiting if (text := _waits_in_vain(case, row))), None)


def _waits_in_vain(case: Case, row: Step) -> str | None:
    node = case.node(row.step)
    if node is None or node.kind != "workflow":
        return None
    children = [one for one in case.world.children.get(case.header.id, ()) if one.parent_step == row.step]
    if all(child.status in table.TERMINAL for child in children):
        return f"{row.step} waits for a sub-workflow that {'has ended' if children else 'is not there'}"
    return None


def _why_not_held(case: Case) -> str | None:
    """What is left may be held back by an operator who has shut its lane."""
    moving = [
        row for row in case.rows.values() if row.state in ("READY", "RETRYING", "RUNNING") and "+" not in row.step
    ]
    leaves = [row for row in moving if not ((node := case.node(row.step)) and node.is_block and row.state == "RUNNING")]
    if leaves and all(row.deferred == "held" for row in leaves):
        return None
    return _still(case, ("READY", "RETRYING", "RUNNING")) or "nothing of it can go on"
