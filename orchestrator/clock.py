"""Time is Postgres time: it is read there once a transaction and passed on as an argument.

In SQL it is `clock_now()`, made by the first migration; tests replace that function to move
the clock of a whole database, so that no process has to sleep.
"""

from __future__ import annotations

from datetime import datetime, timedelta

CLOCK_NOW = "clock_now()"


def later(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)
