"""An undo that arrives before the call that it undoes: it is noted, and what comes late is not done any more."""

from __future__ import annotations

import re
import sqlite3

from orchestrator.lane import Call
from orchestrator.lanes.local import Rejected

SCHEMA = "CREATE TABLE voids (step TEXT PRIMARY KEY, generation INTEGER NOT NULL);"
KEY = re.compile(r"(?P<step>.+):g(?P<generation>\d+):(?:do|undo)")


def parts(call: Call) -> tuple[str, int]:
    """What the do and the undo of a step share, in an iteration too; and the generation."""
    found = KEY.fullmatch(call.key)
    return (found["step"], int(found["generation"])) if found else (call.key, 0)


def note(db: sqlite3.Connection, call: Call) -> None:
    """To be called by an undo, in its transaction. A step that does the same in the normal course notes nothing."""
    if call.undo:
        db.execute(
            "INSERT INTO voids VALUES (?, ?) ON CONFLICT DO UPDATE "
            "SET generation = max(generation, excluded.generation)",
            parts(call),
        )


def check(db: sqlite3.Connection, call: Call) -> None:
    """To be called by what can be undone, in its transaction. Raises Rejected."""
    found = db.execute("SELECT 1 FROM voids WHERE step = ? AND generation >= ?", parts(call)).fetchone()
    if found:
        raise Rejected("this was undone before it arrived: it will not be done")
