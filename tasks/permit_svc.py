"""permitSvc: the city's register of permits. Numbers P-1 to P-999999 have been issued; some were revoked."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from orchestrator.lane import Call
from orchestrator.lanes.local import Rejected
from tasks.ledger import Ledger, member

ISSUED = re.compile(r"P-[1-9]\d{0,5}")

REGISTER = Ledger(
    name="permits",
    schema="""
CREATE TABLE permits (
  tenant TEXT NOT NULL,
  number TEXT NOT NULL,
  holder TEXT,
  renewals INTEGER NOT NULL DEFAULT 0,
  expires TEXT NOT NULL,
  PRIMARY KEY (tenant, number)
);
CREATE TABLE revoked (number TEXT PRIMARY KEY, reason TEXT NOT NULL);
INSERT INTO revoked VALUES
  ('P-1313', 'rented to more guests than the permit allows'),
  ('P-6660', 'no insurance since 2022');
""",
)


def update(call: Call) -> Any:
    """{result: {permitNo, renewals, expires}}. Rejected where the register has no such valid permit."""
    number = member(call, "permitNo")
    if number is None:
        number = f"N-{call.trace[:12]}"  # a first permit: the register gives it a number of its own
    elif not isinstance(number, str) or not ISSUED.fullmatch(number):
        raise Rejected(f"the register has no permit {number!r}: numbers look like P-1001")
    return REGISTER.once(call, lambda db: _renew(db, call, number))


def _renew(db: sqlite3.Connection, call: Call, number: str) -> Any:
    revoked = db.execute("SELECT reason FROM revoked WHERE number = ?", (number,)).fetchone()
    if revoked:
        raise Rejected(f"permit {number} was revoked: {revoked['reason']}")
    holder = member(call, "applicant")
    row = db.execute(
        "INSERT INTO permits (tenant, number, holder, renewals, expires) VALUES (?, ?, ?, 1, date('now', '+1 year')) "
        "ON CONFLICT DO UPDATE SET renewals = renewals + 1, expires = date(expires, '+1 year'), "
        "holder = coalesce(excluded.holder, holder) RETURNING renewals, expires",
        (call.tenant, number, holder if isinstance(holder, str) else None),
    ).fetchone()
    return {"result": {"permitNo": number, "renewals": row["renewals"], "expires": row["expires"]}}
