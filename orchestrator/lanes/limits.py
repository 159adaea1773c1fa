"""What a lane's configuration says of its limits. Every function raises ValueError saying what was expected."""

from __future__ import annotations

import re
from typing import Any

from orchestrator import durations
from orchestrator.lane import Breaker, Rate

RATE = re.compile(r"([1-9][0-9]{0,5})/(s|m|h)")
MOST = 100_000


def concurrency(value: Any) -> int:
    return _whole(value, "a number of calls, such as 50")


def rate(value: Any) -> Rate:
    found = RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is not a rate such as 100/s, 30/m or 500/h")
    return Rate(count=int(found[1]), period=durations.UNITS[found[2]])


def breaker(value: Any) -> Breaker | None:
    """None: it is off."""
    if value == "none":
        return None
    if not isinstance(value, dict) or not value.keys() <= {"failures", "pause"}:
        raise ValueError(f"{value!r} is neither `none` nor a mapping such as {{failures: 10, pause: 30s}}")
    known = Breaker()
    return Breaker(
        failures=_whole(value.get("failures", known.failures), "`failures`: a number, such as 10"),
        pause=durations.seconds(str(value["pause"])) if "pause" in value else known.pause,
    )


def _whole(value: Any, expected: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        raise ValueError(f"{value!r} is not {expected}")
    return value
