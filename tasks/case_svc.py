"""caseSvc: the benefit office's files. A case has documents, and in the end an award or none; one an instance."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from orchestrator.lane import Call
from orchestrator.lanes.local import Rejected
from tasks import voids
from tasks.ledger import Ledger, member

WANTED = ("identity", "income", "rent")  # kinds; a document is of the kind that its name begins with
HIGHEST = 2000  # dollars a month

FILES = Ledger(
    name="cases",
    schema=voids.SCHEMA
    + """
CREATE TABLE cases (
  tenant TEXT, trace TEXT, applicant TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('open', 'closed', 'awarded')),
  monthly INTEGER,                       -- dollars
  PRIMARY KEY (tenant, trace)
);
CREATE TABLE documents (tenant TEXT, trace TEXT, name TEXT, PRIMARY KEY (tenant, trace, name));
""",
)


def open(call: Call) -> Any:  # noqa: A001  # operations are named as definitions write them
    """{result: {complete, missing}} of a new case with the documents of the application."""
    applicant, names = member(call, "applicant"), _names(member(call, "documents"))
    if not isinstance(applicant, str) or not applicant.strip():
        raise Rejected("a case is of an `applicant` with a name")
    return FILES.once(call, lambda db: _open(db, call, applicant, names))


def add(call: Call) -> Any:
    """{result: {complete, missing}} once the `documents` are in the case.

    Without a list of documents all that is `asked` counts as seen: a clerk had the originals at the counter.
    """
    asked = _names(member(call, "asked"))
    sent = call.input.get("documents") if isinstance(call.input, dict) else None
    names = _names(sent) if sent is not None else [f"{kind} (seen at the counter)" for kind in asked]
    return FILES.once(call, lambda db: _add(db, call, names))


def look(call: Call) -> Any:
    """{result: {complete, missing: [kind, …]}} of a case. It has no effect."""
    with FILES.transaction() as db:
        return _missing(db, call)


def award(call: Call) -> Any:
    """{result: {monthly}}, in dollars. Rejected where the case is not complete."""
    monthly = member(call, "monthly")
    if isinstance(monthly, bool) or not isinstance(monthly, int) or not 0 < monthly <= HIGHEST:
        raise Rejected(f"cannot award {monthly!r}: a benefit is whole dollars a month, from 1 to {HIGHEST}")
    return FILES.once(call, lambda db: _award(db, call, monthly))


def close(call: Call) -> Any:
    """{result: {closed}}: whether there was a case to close; what was awarded ends with it."""
    return FILES.once(call, lambda db: _close(db, call))


def _names(documents: Any) -> list[str]:
    given = [] if documents is None else documents
    if not isinstance(given, list):
        raise Rejected("documents must be a list of names, or of {name, …}")
    names = [one.get("name") if isinstance(one, dict) else one for one in given]
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise Rejected("every document needs a name")
    return [str(name) for name in names]


def _open(db: sqlite3.Connection, call: Call, applicant: str, names: Sequence[str]) -> Any:
    voids.check(db, call)
    db.execute(
        "INSERT INTO cases (tenant, trace, applicant, state) VALUES (?, ?, ?, 'open') "
        "ON CONFLICT DO UPDATE SET state = 'open'",
        (call.tenant, call.trace, applicant),
    )
    return _add(db, call, names)


def _add(db: sqlite3.Connection, call: Call, names: Sequence[str]) -> Any:
    _case(db, call)
    db.executemany(
        "INSERT INTO documents VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(call.tenant, call.trace, name) for name in names],
    )
    return _missing(db, call)


def _missing(db: sqlite3.Connection, call: Call) -> Any:
    _case(db, call)
    found = db.execute("SELECT name FROM documents WHERE tenant = ? AND trace = ?", (call.tenant, call.trace))
    names = [str(row["name"]) for row in found]
    missing = [kind for kind in WANTED if not any(name.startswith(kind) for name in names)]
    return {"result": {"complete": not missing, "missing": missing}}


def _award(db: sqlite3.Connection, call: Call, monthly: int) -> Any:
    missing = _missing(db, call)["result"]["missing"]
    if missing:
        raise Rejected(f"nothing is awarded while documents are missing: {', '.join(missing)}")
    db.execute(
        "UPDATE cases SET state = 'awarded', monthly = ? WHERE tenant = ? AND trace = ?",
        (monthly, call.tenant, call.trace),
    )
    return {"result": {"monthly": monthly}}


def _close(db: sqlite3.Connection, call: Call) -> Any:
    voids.note(db, call)
    closed = db.execute(
        "UPDATE cases SET state = 'closed', monthly = NULL WHERE tenant = ? AND trace = ? AND state <> 'closed'",
        (call.tenant, call.trace),
    ).rowcount
    return {"result": {"closed": closed == 1}}


def _case(db: sqlite3.Connection, call: Call) -> None:
    found = db.execute("SELECT state FROM cases WHERE tenant = ? AND trace = ?", (call.tenant, call.trace)).fetchone()
    if found is None or found["state"] == "closed":
        raise Rejected("the office has no open case for this application")
