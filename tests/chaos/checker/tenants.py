"""No row, and no call, crosses from one tenant to another."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.checker.case import Case
from tests.chaos.checker.report import Violation


def kept_apart(case: Case) -> Iterator[Violation]:
    mine = case.header.tenant
    for what, other in _told(case):
        if other != mine:
            yield case.violation("tenant-crossed", f"it belongs to {mine}, and {what} to {other}")
    if any(row.version_id != case.header.version_id for row in case.rows.values()):
        yield case.violation("history-differs", "its steps are of another version of the definition")


def _told(case: Case) -> Iterator[tuple[str, str | None]]:
    yield "its definition", case.world.tenants.get(case.header.version_id)
    parent = case.world.headers.get(case.header.parent_id) if case.header.parent_id else None
    if parent is not None:
        yield "its parent", parent.tenant
    for row in case.rows.values():
        yield f"the row of {row.step} {row.phase}", row.tenant
    for entry in case.entries:
        yield f"entry {entry.seq}", entry.tenant
    for line in case.lines:
        if line.agency is not None:
            yield f"line {line.n} ({line.key.text})", line.agency
