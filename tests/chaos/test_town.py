"""Who is beside the orchestrator in a chaos run, on the same broker: the town on the bus, and another team's Celery app.
What they answer, several times, decides once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import engine
from orchestrator.settings import Settings
from orchestrator.system import System
from tests import flights
from tests.chaos.run import figures, town
from tests.chaos.run.arena import COPIES, _member
from tests.chaos.run.options import Options
from tests.chaos.run.town import Town

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

SERVICES = """
services:
  bus: {transport: event, topic: "chaos.{operation}"}
  reports: {transport: celery, queue: reports, task: "reports.{operation}", idempotency: key}
"""
ASKS = """
id: asks
steps:
  - {id: announce, service: bus.announce}
  - {id: ask, service: bus.ask, pause: true, timeout: 1h}
"""


REPORTS = """
id: reports
steps: [{id: make, service: reports.make, timeout: 1h}]
"""


@pytest.fixture
def lanes(settings: Settings, tmp_path: Path) -> Iterator[System]:
    (tmp_path / "services.yaml").write_text(SERVICES)
    system = flights.compose(replace(settings, services_file=str(tmp_path / "services.yaml")))
    with flights.worker(system):
        yield system
    system.close()


def flown(system: System, workflow: str, text: str, count: int) -> list[dict[str, Any]]:
    """The histories of so many instances that have completed."""
    engine.put_definition(system, tenant=system.settings.tenant, workflow_id=workflow, text=text)
    shown = [flights.ended(system, one) for one in [flights.start(system, workflow, {}) for _ in range(count)]]
    assert {one["status"] for one in shown} == {"COMPLETED"}
    return shown


def decided(shown: dict[str, Any]) -> int:
    return sum(entry["verb"] == "resolve" for entry in shown["history"])


def test_an_event_that_asks_is_answered_several_times_and_decided_once(
    lanes: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(town, "SILENT", 0.0)
    monkeypatch.setattr(town, "REJECTED", 0.0)
    arena = SimpleNamespace(settings=lanes.settings, options=Options(seconds=1, seed=3), copies=tmp_path / COPIES)
    people = Town(arena)  # type: ignore[arg-type]
    people.start()
    try:
        flights.until(lambda: people.is_listening, "the town")
        shown = flown(lanes, "asks", ASKS, 8)
    finally:
        people.stop()
    assert [decided(one) for one in shown] == [1] * 8
    assert len(people.heard) == 2 * 8
    sent = figures.copies(tmp_path / COPIES)[town.ANSWER]
    assert sent.total() == 8
    assert max(sent) > 1


def test_the_answer_of_another_teams_task_comes_several_times_and_counts_once(lanes: System, tmp_path: Path) -> None:
    team = _member(Options(seconds=1, seed=1), 1, "team", lanes.settings, tmp_path)
    team.start()
    try:
        shown = flown(lanes, "reports", REPORTS, 8)
        flights.until(
            lambda: figures.copies(tmp_path / COPIES).get("landed", Counter()).total() == 8, "an answer to each"
        )
        flights.until(lambda: max(figures.copies(tmp_path / COPIES)["landed"]) > 1, "one that was sent again")
    finally:
        team.kill()
    assert [decided(one) for one in shown] == [1] * 8
    assert all(one["history"][-2]["result"]["report"].startswith(one["traceId"]) for one in shown)
