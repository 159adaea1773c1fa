"""The database is destroyed in mid-flight and restored to an earlier point: what the services' ledger has is not repeated.

Flights wait at the restore point, and go on beyond it: that is what the restored database knows nothing of. The ledger
is the service's own, and survives.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator import callbacks, engine
from orchestrator.servers.stack import environment
from orchestrator.settings import Settings
from orchestrator.store.database import upgrade
from tests import flights, services
from tests.chaos.backup import Vault, vault
from tests.clock import Clock
from tests.services import LOST_AFTER, Airport, states_of
from tests.tower import run

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.timeout(300)]

FLIGHT = """
id: flight
steps:
  - {id: before, service: keyed.before}
  - {id: hold, pause: true}
  - {id: byKey, service: keyed.byKey, compensate: keyed.undo}
  - {id: asked, service: asked.asked}
  - {id: free, service: safe.free}
  - {id: blind, service: blind.blind}
  - {id: last, service: keyed.last}
"""
PARENT = "id: parent\nsteps: [{id: hold, pause: true}, {id: child, workflow: inner}]"
INNER = "id: inner\nsteps: [{id: inside, service: keyed.inside}]"


class Field:
    """An airport on a database that can be destroyed, with a worker process that can be killed."""

    def __init__(self, vault: Vault, airport: Airport) -> None:
        self.vault, self.airport = vault, airport
        self._worker = ExitStack()

    def go(self) -> None:
        self._worker.enter_context(flights.worker_process(self.airport.system))

    def stop(self) -> None:
        self._worker.close()

    def lose_and_restore(self) -> None:
        self.stop()
        self.vault.destroy()
        self.vault.restore("earlier")
        self.airport.system.database.engine.dispose()  # its connections went with the server

    def tell(self) -> subprocess.CompletedProcess[str]:
        """What the runbook has the operator do, before workers start, and with nobody else connected."""
        self.airport.system.database.engine.dispose()
        return run("db", "restored", **environment(self.airport.system.settings))

    def approve(self, *instances: str) -> None:
        for instance in instances:
            callbacks.decide(
                self.airport.system, trace=instance, step="hold", token=None, tenant=flights.TENANT, decision="approved"
            )

    def waiting(self, workflow: str) -> str:
        instance = self.airport.start(workflow)
        self.airport.step_is(instance, "hold", "WAITING")
        return instance


@pytest.fixture
def field(broker_url: str, tmp_path: Path) -> Iterator[Field]:
    with vault() as found, services.serving() as service:
        lanes = tmp_path / "services.yaml"
        lanes.write_text(services.LANES.format(url=service.url).replace("30s", "1s"))
        upgrade(found.url)
        settings = Settings(
            database_url=found.url, broker_url=broker_url, services_file=str(lanes), auth="local", lease=3.0,
            sweep_every=0.1, republish_after=1.0, workflows_dir=str(tmp_path),
        )  # fmt: skip
        with services.composed(settings) as system:
            field = Field(found, Airport(system=system, service=service, clock=Clock(found.url)))
            for text in (INNER, FLIGHT, PARENT):
                field.airport.define(text)
            try:
                yield field
            finally:
                field.stop()


def beyond(field: Field) -> tuple[str, str, str]:
    """Three flights wait at the point that is restored to; then one goes to its end, one is lost in its call, and one
    has started a sub-workflow; the database is destroyed, and comes back as it was at the point."""
    airport = field.airport
    field.go()
    field.vault.back_up()
    ended, lost, parent = field.waiting("flight"), field.waiting("flight"), field.waiting("parent")
    field.vault.point("earlier")
    field.approve(ended, parent)
    airport.ended(ended)
    airport.ended(parent)
    airport.service.tell("byKey", LOST_AFTER)
    field.approve(lost)
    airport.service.came("byKey", 2)
    field.lose_and_restore()
    assert [states_of(airport.status(one))["hold"] for one in (ended, lost, parent)] == ["WAITING"] * 3
    return ended, lost, parent


def test_a_restore_to_an_earlier_point_repeats_no_effect_that_the_ledger_has(field: Field) -> None:
    airport = field.airport
    ended, lost, parent = beyond(field)
    told = field.tell()
    assert (told.returncode, told.stderr) == (0, ""), told.stderr
    assert "3 instances had not ended" in told.stdout
    field.go()
    field.approve(ended, lost, parent)
    for one in (ended, lost):
        airport.step_is(one, "blind", "UNKNOWN")
        done = f"{one}:blind:g1:do" in airport.service.effects  # what a person looks up at the service
        airport.order(engine.resolve, one, step="blind", verdict="succeeded" if done else "retry")
        assert airport.ended(one)["status"] == "COMPLETED"
    airport.step_is(parent, "child", "UNKNOWN")
    assert {key.split(":")[1] for key in airport.service.doubles()} <= {"free"}, "which has no effect, as its lane says"
    assert sum(key.split(":")[1] == "inside" for key in airport.service.effects) == 1
    wanted = ["before:g1:do", "byKey:g1:do", "asked:g1:do", "blind:g1:do", "last:g1:do"]
    for one in (ended, lost):
        assert [key for key in airport.service.done(one) if not key.startswith("free")] == wanted


def test_a_restore_that_nobody_was_told_of_doubles_what_only_a_person_could_have_known(field: Field) -> None:
    """Why the runbook has that line: without it a query lane is not asked, and a blind one called again."""
    airport = field.airport
    ended, _, parent = beyond(field)
    field.go()
    field.approve(ended, parent)
    airport.ended(ended)
    airport.ended(parent)
    doubled = {key.split(":")[1] for key in airport.service.doubles()}
    assert {"asked", "blind"} <= doubled
    assert not doubled & {"before", "byKey", "last"}, "keys are honoured, told or not"
    inside = [key for key in airport.service.effects if key.split(":")[1] == "inside"]
    assert len(inside) == 2, "the second sub-workflow is another instance, with keys of its own"


def test_a_start_that_was_lost_with_the_database_is_another_instance_when_it_is_repeated(field: Field) -> None:
    """Not promised: what was started after the point is not known, and neither is its Idempotency-Key."""
    field.vault.back_up()
    field.vault.point("earlier")
    first = field.airport.start("flight", idempotency_key="order-7")
    field.lose_and_restore()
    field.tell()
    again = field.airport.start("flight", idempotency_key="order-7")
    assert again != first
