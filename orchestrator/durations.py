"""Durations as people write them: `500ms`, `10s`, `5m`, `48h`, `2d`, or ISO 8601 (`PT48H`)."""

from __future__ import annotations

import re
from datetime import timedelta

import isodate

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SHORT = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
LONGEST = 10 * 365 * 86400.0


def seconds(text: str) -> float:
    """Seconds in a duration. Raises ValueError saying what a duration looks like."""
    short = SHORT.fullmatch(text.strip())
    value = float(short[1]) * UNITS[short[2]] if short else _iso(text)
    if not 0 < value <= LONGEST:
        raise ValueError(f"{text!r} is not between 1ms and ten years")
    return value


def _iso(text: str) -> float:
    try:
        parsed = isodate.parse_duration(text)
    except (isodate.ISO8601Error, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a duration such as 500ms, 10s, 5m, 48h, 2d or PT48H") from error
    if not isinstance(parsed, timedelta):
        raise ValueError(f"{text!r} has months or years, whose length varies: write days")  # noqa: TRY004
    return parsed.total_seconds()
