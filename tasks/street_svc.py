"""streetSvc: the roads department. One closure an instance, which is reserved, signposted, closed and open again."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from typing import Any

from orchestrator.lane import Call
from orchestrator.lanes.local import Rejected
from tasks import voids
from tasks.ledger import Ledger, member

NEVER_CLOSED = {"Hospital Road": "ambulances need it"}

CLOSURES = Ledger(
    name="streets",
    schema=voids.SCHEMA
    + """
CREATE TABLE closures (
  tenant TEXT, trace TEXT, street TEXT NOT NULL,
  begins REAL NOT NULL, ends REAL NOT NULL,  -- seconds since 1970, so that they compare whatever their offset was
  state TEXT NOT NULL CHECK (state IN ('reserved', 'closed', 'open', 'free')),
  signs INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant, trace)
);
CREATE INDEX closures_street ON closures (tenant, street);
""",
)


def reserve(call: Call) -> Any:
    """{result: {street}}. Rejected where it is closed then already, or is never closed."""
    street = member(call, "street")
    if not isinstance(street, str) or not street.strip():
        raise Rejected("a `street` is needed, by its name")
    if street in NEVER_CLOSED:
        raise Rejected(f"{street} is never closed: {NEVER_CLOSED[street]}")
    begins, ends = _moment(call, "from"), _moment(call, "to")
    if begins >= ends:
        raise Rejected("the closure must end after it begins: `from` comes before `to`")
    return CLOSURES.once(call, lambda db: _reserve(db, call, street, (begins, ends)))


def free(call: Call) -> Any:
    """Gives the reservation back; nothing is wrong where there is none."""
    return CLOSURES.once(call, lambda db: _move(db, call, "free", ("reserved", "closed", "open")))


def putUpSigns(call: Call) -> Any:  # noqa: N802  # operations are named as definitions write them
    """{result: {signs: true}}: no stopping, from the day before on."""
    return CLOSURES.once(call, lambda db: _signs(db, call, up=True))


def takeDownSigns(call: Call) -> Any:  # noqa: N802
    return CLOSURES.once(call, lambda db: _signs(db, call, up=False))


def close(call: Call) -> Any:
    """{result: {street, state}}. Rejected where nothing was reserved."""
    return CLOSURES.once(call, lambda db: _closed(db, call))


def reopen(call: Call) -> Any:
    """{result: {street, state}}: open again, whether it still was closed or not."""
    return CLOSURES.once(call, lambda db: _move(db, call, "open", ("closed",)))


def _moment(call: Call, name: str) -> float:
    text = member(call, name)
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise Rejected(f"`{name}` must be a moment such as 2026-05-01T06:00:00+02:00, not {text!r}") from None
    if moment.tzinfo is None:
        raise Rejected(f"`{name}` does not say which zone it is in: add an offset such as +02:00")
    return moment.timestamp()


def _reserve(db: sqlite3.Connection, call: Call, street: str, time: tuple[float, float]) -> Any:
    voids.check(db, call)
    taken = db.execute(
        "SELECT trace FROM closures WHERE tenant = ? AND street = ? AND trace <> ? AND begins < ? AND ends > ? "
        "AND state IN ('reserved', 'closed')",
        (call.tenant, street, call.trace, time[1], time[0]),
    ).fetchone()
    if taken:
        raise Rejected(f"{street} is closed at that time already (reference {taken['trace']})")
    db.execute(
        "INSERT INTO closures (tenant, trace, street, begins, ends, state) VALUES (?, ?, ?, ?, ?, 'reserved') "
        "ON CONFLICT DO UPDATE SET state = 'reserved'",
        (call.tenant, call.trace, street, *time),
    )
    return {"result": {"street": street}}


def _closed(db: sqlite3.Connection, call: Call) -> Any:
    voids.check(db, call)
    answer = _move(db, call, "closed", ("reserved",))
    if answer["result"]["state"] != "closed":
        raise Rejected("no street is reserved for this application")
    return answer


def _move(db: sqlite3.Connection, call: Call, to: str, of: tuple[str, ...]) -> Any:
    voids.note(db, call)
    db.execute(
        "UPDATE closures SET state = ? WHERE tenant = ? AND trace = ? AND state IN (SELECT value FROM json_each(?))",
        (to, call.tenant, call.trace, json.dumps(of)),
    )
    found = db.execute("SELECT street, state FROM closures WHERE tenant = ? AND trace = ?", (call.tenant, call.trace))
    row = found.fetchone()
    return {"result": {"street": row["street"] if row else None, "state": row["state"] if row else None}}


def _signs(db: sqlite3.Connection, call: Call, *, up: bool) -> Any:
    db.execute("UPDATE closures SET signs = ? WHERE tenant = ? AND trace = ?", (int(up), call.tenant, call.trace))
    return {"result": {"signs": up}}
