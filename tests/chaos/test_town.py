"""The town on the bus of a chaos run: it hears what is published, and its answers, sent several times, decide once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator import engine
from orchestrator.settings import Settings
from tests import flights
from tests.chaos.run import figures, town
from tests.chaos.run.arena import COPIES
from tests.chaos.run.options import Options
from tests.chaos.run.town import Town

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

SERVICES = 'services: {bus: {transport: event, topic: "chaos.{operation}"}}'
ASKS = """
id: asks
steps:
  - {id: announce, service: bus.announce}
  - {id: ask, service: bus.ask, pause: true, timeout: 1h}
"""


def test_an_event_that_asks_is_answered_several_times_and_decided_once(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(town, "SILENT", 0.0)
    monkeypatch.setattr(town, "REJECTED", 0.0)
    (tmp_path / "services.yaml").write_text(SERVICES)
    arena = SimpleNamespace(settings=settings, options=Options(seconds=1, seed=3), copies=tmp_path / COPIES)
    people = Town(arena)  # type: ignore[arg-type]
    system = flights.compose(Settings(**{**vars(settings), "services_file": str(tmp_path / "services.yaml")}))
    people.start()
    try:
        with flights.worker(system):
            engine.put_definition(system, tenant=settings.tenant, workflow_id="asks", text=ASKS)
            flights.until(lambda: people.is_listening, "the town")
            instances = [flights.start(system, "asks", {}) for _ in range(8)]
            shown = [flights.ended(system, one) for one in instances]
    finally:
        people.stop()
        system.close()
    assert {one["status"] for one in shown} == {"COMPLETED"}
    assert all(sum(entry["verb"] == "resolve" for entry in one["history"]) == 1 for one in shown)
    assert len(people.heard) == 2 * len(instances)
    sent = figures.copies(tmp_path / COPIES)[town.ANSWER]
    assert sent.total() == len(instances)
    assert max(sent) > 1
