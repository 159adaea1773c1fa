"""licenceSvc: the trade office. It looks at forms, and keeps the book of licences that it has granted."""

from __future__ import annotations

import sqlite3
from typing import Any

from orchestrator.lane import Call
from orchestrator.lanes.local import Rejected
from tasks import voids
from tasks.ledger import Ledger, member

TRADES = frozenset({"bakery", "bar", "barber", "bookshop", "restaurant", "workshop"})

BOOK = Ledger(
    name="licences",
    schema=voids.SCHEMA
    + """
CREATE TABLE licences (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant TEXT NOT NULL,
  trace TEXT NOT NULL,
  business TEXT NOT NULL,
  conditions TEXT NOT NULL,              -- one a line
  revoked TEXT,                          -- when; empty while it is valid
  UNIQUE (tenant, trace)
);
""",
)


def checkForm(call: Call) -> Any:  # noqa: N802  # operations are named as definitions write them
    """{result: {complete, faults: [text, …]}}. It has no effect."""
    business, trade = member(call, "business"), member(call, "trade")
    faults = [] if isinstance(business, str) and business.strip() else ["the business has no name"]
    if trade not in TRADES:
        faults.append(f"{trade!r} is not one of the trades that need a licence: {', '.join(sorted(TRADES))}")
    return {"result": {"complete": not faults, "faults": faults}}


def grant(call: Call) -> Any:
    """{result: {licence, conditions}}; `conditions` of the input are texts."""
    business, conditions = member(call, "business"), member(call, "conditions")
    if not isinstance(business, str) or not business.strip():
        raise Rejected("a licence is granted to a `business` with a name")
    if conditions is None:
        conditions = []
    if not isinstance(conditions, list) or not all(isinstance(one, str) for one in conditions):
        raise Rejected("`conditions` must be a list of texts")
    return BOOK.once(call, lambda db: _grant(db, call, business, conditions))


def revoke(call: Call) -> Any:
    """{result: {revoked: [licence, …]}}: those of the instance that are valid; an empty list where none is."""
    return BOOK.once(call, lambda db: _revoke(db, call))


def _grant(db: sqlite3.Connection, call: Call, business: str, conditions: list[str]) -> Any:
    voids.check(db, call)
    row = db.execute(
        "INSERT INTO licences (tenant, trace, business, conditions) VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET conditions = excluded.conditions, revoked = NULL RETURNING id",
        (call.tenant, call.trace, business, "\n".join(conditions)),
    ).fetchone()
    return {"result": {"licence": f"L-{row['id']}", "conditions": conditions}}


def _revoke(db: sqlite3.Connection, call: Call) -> Any:
    voids.note(db, call)
    rows = db.execute(
        "UPDATE licences SET revoked = datetime('now') WHERE tenant = ? AND trace = ? AND revoked IS NULL RETURNING id",
        (call.tenant, call.trace),
    ).fetchall()
    return {"result": {"revoked": [f"L-{row['id']}" for row in rows]}}
