"""How much there was: instances, calls and effects, and how often a service was called for one key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.chaos.checker.case import Case


class Figures:
    def __init__(self) -> None:
        self._statuses: Counter[str] = Counter()
        self._parked: Counter[str] = Counter()
        self._lines: Counter[str] = Counter()
        self._calls_a_key: Counter[int] = Counter()
        self._entries = 0

    def count(self, case: Case) -> None:
        self._statuses[case.header.status] += 1
        if not case.is_over:
            self._parked[f"{case.header.status} {case.header.reason or ''}".strip()] += 1
        self._lines.update(line.what if line.what != "effect" else f"effect {line.key.phase}" for line in case.lines)
        self._calls_a_key.update(Counter(line.key.text for line in case.lines if line.what == "call").values())
        self._entries += len(case.entries)

    def told(self, violations: Mapping[str, int]) -> dict[str, Any]:
        calls = self._calls_a_key
        return {
            "instances": sum(self._statuses.values()),
            "byStatus": dict(self._statuses.most_common()),
            "notTerminal": dict(self._parked.most_common()),
            "historyEntries": self._entries,
            "calls": self._lines["call"],
            "asks": self._lines["ask"],
            "effects": self._lines["effect do"] + self._lines["effect undo"],
            "undoEffects": self._lines["effect undo"],
            "keys": sum(calls.values()),
            "callsPerKey": {str(count): calls[count] for count in sorted(calls)},
            "mostCallsForAKey": max(calls, default=0),
            "keysCalledAgain": sum(keys for count, keys in calls.items() if count > 1),
            "repeatedCalls": sum((count - 1) * keys for count, keys in calls.items()),
            "violations": dict(violations),
        }
