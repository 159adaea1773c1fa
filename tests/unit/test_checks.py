from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.commands import checks

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (0, "ok       clock: the database's agrees with this host's"),
        (-4, "ok       clock: the database's agrees with this host's"),
        (90, "bad      clock: the database's is 90 s ahead of this host's: let both keep time by NTP"),
        (-90, "bad      clock: the database's is 90 s behind this host's: let both keep time by NTP"),
    ],
)
def test_clocks_may_differ_by_seconds(ahead: float, said: str) -> None:
    assert str(checks.clocks(NOW + timedelta(seconds=ahead), NOW)) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (2, "ok       consumers: 2 on queue payments"),
        (0, "bad      consumers: queue payments has none: start `orchestrator worker`"),
        (None, "bad      consumers: there is no queue payments: start `orchestrator worker`"),
    ],
)
def test_a_queue_that_nobody_serves_is_bad(count: int | None, said: str) -> None:
    assert str(checks.consumers("payments", count)) == said


def test_an_error_of_many_lines_is_told_in_one() -> None:
    assert str(checks.bad("services", "one\n  two", "mend")) == "bad      services: one two: mend"
