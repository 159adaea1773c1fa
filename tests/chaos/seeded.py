"""A scene in which a bug is planted in the engine and really executed, and what the checker says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos import checker
from tests.services import Airport

Plant = Callable[[pytest.MonkeyPatch], None]

SEQUENCE = """
id: sequence
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua, retry: {backoff: 1ms}}
  - {id: b, service: keyed.b, compensate: keyed.ub}
"""


@dataclass(frozen=True, kw_only=True)
class Scene:
    airport: Airport
    ledger: Path

    def kinds(self) -> set[str]:
        return checker.check(self.airport.system.database.url, self.ledger).kinds


def nothing(_: pytest.MonkeyPatch) -> None:
    """No bug."""
