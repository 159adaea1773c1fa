"""achSvc: charges and refunds in an append-only ledger. Amounts are cents inside, dollars outside."""

from __future__ import annotations

import re
import sqlite3
from decimal import Decimal, InvalidOperation
from typing import Any

from orchestrator.lane import Call
from orchestrator.lanes.local import Rejected
from tasks.ledger import Ledger, Row, member

USUAL_FEE = 75  # dollars; what a renewal costs where the input names no amount
LARGEST = Decimal(1_000_000)
KEY = re.compile(r"(?P<charge>.+):g(?P<generation>\d+):(?:do|undo)")

LEDGER = Ledger(
    name="ach",
    schema="""
CREATE TABLE entries (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL CHECK (kind IN ('charge', 'refund')),
  tenant TEXT NOT NULL,
  trace TEXT NOT NULL,
  charge TEXT NOT NULL,                  -- the key without generation and phase
  cents INTEGER NOT NULL CHECK (cents > 0),
  refunds INTEGER UNIQUE REFERENCES entries (id),  -- a charge is refunded once
  recorded TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))
);
CREATE INDEX entries_charge ON entries (tenant, charge);
CREATE TABLE voids (tenant TEXT, charge TEXT, generation INTEGER, PRIMARY KEY (tenant, charge));
CREATE TRIGGER entries_stay BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER entries_last BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'append only'); END;
""",
)


def charge(call: Call) -> Any:
    """{result: {charge, amount, currency}}; the same key is answered with the first receipt."""
    cents = _cents(member(call, "amount", "fee"))
    return LEDGER.once(call, lambda db: _charge(db, call, cents))


def refund(call: Call) -> Any:
    """{result: {refunded: [charge, …], amount, currency}}: all of the step's charges not yet refunded.

    Where nothing was charged the answer is an empty list, and a charge of that generation or an
    earlier one which is still under way will be refused.
    """
    return LEDGER.once(call, lambda db: _refund(db, call))


def _cents(amount: Any) -> int:
    try:
        dollars = Decimal(str(USUAL_FEE if amount is None else amount))
    except InvalidOperation:
        dollars = Decimal(0)
    if isinstance(amount, bool) or not dollars.is_finite() or not 0 < dollars <= LARGEST:
        raise Rejected(f"cannot charge {amount!r}: the amount must be dollars, above 0 and up to {LARGEST}")
    if dollars * 100 % 1:
        raise Rejected(f"cannot charge {amount!r}: there are no parts of a cent")
    return int(dollars * 100)


def _parts(key: str) -> tuple[str, int]:
    """What the do and the undo of a step share, and the generation."""
    found = KEY.fullmatch(key)
    return (found["charge"], int(found["generation"])) if found else (key, 0)


def _charge(db: sqlite3.Connection, call: Call, cents: int) -> Any:
    name, generation = _parts(call.key)
    void = db.execute(
        "SELECT 1 FROM voids WHERE tenant = ? AND charge = ? AND generation >= ?", (call.tenant, name, generation)
    ).fetchone()
    if void:
        raise Rejected("this charge was refunded before it arrived: it will not be made")
    entry = db.execute(
        "INSERT INTO entries (kind, tenant, trace, charge, cents) VALUES ('charge', ?, ?, ?, ?)",
        (call.tenant, call.trace, name, cents),
    ).lastrowid
    return {"result": {"charge": f"ch-{entry}", **_money(cents)}}


def _refund(db: sqlite3.Connection, call: Call) -> Any:
    name, generation = _parts(call.key)
    db.execute(
        "INSERT INTO voids VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
        "SET generation = max(generation, excluded.generation)",
        (call.tenant, name, generation),
    )
    owed = _owed(db, call, name)
    for row in owed:
        db.execute(
            "INSERT INTO entries (kind, tenant, trace, charge, cents, refunds) VALUES ('refund', ?, ?, ?, ?, ?)",
            (call.tenant, call.trace, row["charge"], row["cents"], row["id"]),
        )
    return {"result": {"refunded": [f"ch-{row['id']}" for row in owed], **_money(sum(row["cents"] for row in owed))}}


def _owed(db: sqlite3.Connection, call: Call, name: str) -> list[Row]:
    """The step's own charges, and the one that the do-step's result names, unless refunded already."""
    receipt = call.result.get("charge") if isinstance(call.result, dict) else None
    return db.execute(
        "SELECT * FROM entries c WHERE kind = 'charge' AND tenant = ? AND (charge = ? OR 'ch-' || id = ?) "
        "AND NOT EXISTS (SELECT 1 FROM entries r WHERE r.refunds = c.id) ORDER BY id",
        (call.tenant, name, receipt),
    ).fetchall()


def _money(cents: int) -> dict[str, Any]:
    return {"amount": cents // 100 if cents % 100 == 0 else cents / 100, "currency": "USD"}
