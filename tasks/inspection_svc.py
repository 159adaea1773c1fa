"""inspectionSvc: appointments with the city's inspectors, and what they find on the spot.

What they find is read off the premises that they are told of: {address, zone, exits, extinguishers, sinks}.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from orchestrator.lane import Call
from orchestrator.lanes.local import Rejected
from tasks import voids
from tasks.ledger import Ledger, member

ZONES = {"commercial": True, "mixed": True, "residential": False}  # may a business open there?

DIARY = Ledger(
    name="inspections",
    schema=voids.SCHEMA
    + """
CREATE TABLE appointments (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant TEXT NOT NULL,
  trace TEXT NOT NULL,
  step TEXT NOT NULL,                    -- that booked it, and whose undo releases it
  address TEXT NOT NULL,
  released TEXT                          -- when; empty while it stands
);
CREATE INDEX appointments_step ON appointments (tenant, trace, step);
""",
)


def book(call: Call) -> Any:
    """{result: {appointment, address}}; the same key is answered with the first appointment."""
    address = _address(call)
    return DIARY.once(call, lambda db: _book(db, call, address))


def release(call: Call) -> Any:
    """{result: {released: [appointment, …]}}: those of the step that stand; an empty list where none does."""
    return DIARY.once(call, lambda db: _release(db, call))


def fire(call: Call) -> Any:
    """{result: {passed, conditions, faults}}: is there a second way out, and something to put a fire out with?"""
    _address(call)
    faults = [] if _count(call, "exits") >= 2 else ["there is no second way out"]
    conditions = [] if _count(call, "extinguishers") else ["fit a fire extinguisher within 30 days"]
    return _found(conditions, faults)


def health(call: Call) -> Any:
    """{result: {passed, conditions, faults}}: can hands and food be washed apart?"""
    _address(call)
    sinks = _count(call, "sinks")
    faults = [] if sinks else ["there is nothing to wash hands in"]
    return _found(["fit a second sink within 60 days"] if sinks == 1 else [], faults)


def zoning(call: Call) -> Any:
    """{result: {passed, conditions, faults}}. Rejected where the plan has no such zone: nobody could say."""
    _address(call)
    zone = member(call, "zone")
    if not isinstance(zone, str) or zone not in ZONES:
        raise Rejected(f"the zoning plan has no zone {zone!r}; it has {', '.join(ZONES)}")
    return _found([], [] if ZONES[zone] else ["no business may open in a residential zone"])


def street(call: Call) -> Any:
    """{result: {passed, conditions, faults}}: can a fire engine still get through?"""
    _address(call)
    blocked = member(call, "blocksHydrant")
    if blocked is not None and not isinstance(blocked, bool):
        raise Rejected("`blocksHydrant` must be true or false")
    return _found([], ["a hydrant would be blocked"] if blocked else [])


def _address(call: Call) -> str:
    address = member(call, "address")
    if not isinstance(address, str) or not address.strip():
        raise Rejected("an inspector needs an `address` to go to")
    return address


def _count(call: Call, what: str) -> int:
    number = member(call, what)
    if number is None:
        return 0
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise Rejected(f"`{what}` must be a number of them, from 0 on")
    return number


def _found(conditions: Sequence[str], faults: Sequence[str]) -> Any:
    return {"result": {"passed": not faults, "conditions": list(conditions), "faults": list(faults)}}


def _book(db: sqlite3.Connection, call: Call, address: str) -> Any:
    voids.check(db, call)
    entry = db.execute(
        "INSERT INTO appointments (tenant, trace, step, address) VALUES (?, ?, ?, ?)",
        (call.tenant, call.trace, voids.parts(call)[0], address),
    ).lastrowid
    return {"result": {"appointment": f"in-{entry}", "address": address}}


def _release(db: sqlite3.Connection, call: Call) -> Any:
    voids.note(db, call)
    rows = db.execute(
        "UPDATE appointments SET released = datetime('now') "
        "WHERE tenant = ? AND trace = ? AND step = ? AND released IS NULL RETURNING id",
        (call.tenant, call.trace, voids.parts(call)[0]),
    ).fetchall()
    return {"result": {"released": [f"in-{row['id']}" for row in rows]}}
