"""What has ended long ago goes, as whole families; nothing else does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator import engine, retention
from orchestrator.errors import NotFound
from orchestrator.store.retention import Old
from tests.services import Airport

pytestmark = pytest.mark.integration

FEE = "id: fee\nsteps: [{id: charge, service: keyed.charge}]"
DAY = 86400.0


def done(tower: Airport, key: str | None = None) -> str:
    instance = tower.start(tower.define(FEE), {}, idempotency_key=key)
    tower.run(instance, "charge")
    return instance


def is_there(tower: Airport, instance: str) -> bool:
    try:
        tower.status(instance)
    except NotFound:
        return False
    return True


def test_what_ended_longer_ago_goes_with_its_history_and_its_key(tower: Airport) -> None:
    old, running = done(tower, "once"), tower.fly(FEE)
    tower.clock.advance(2 * DAY)
    young = done(tower)
    assert retention.count(tower.system, Old(older_than=DAY)) == 1
    assert retention.purge(tower.system, Old(older_than=DAY)) == 1
    assert [is_there(tower, one) for one in (old, running, young)] == [False, True, True]
    assert tower.query("SELECT count(*) FROM history WHERE instance_id = CAST(:id AS uuid)", id=old)[0][0] == 0
    assert done(tower, "once") != old


def test_conditions_narrow_what_goes(tower: Airport) -> None:
    completed, cancelled = done(tower), tower.fly(FEE)
    tower.order(engine.cancel, cancelled)
    tower.clock.advance(DAY)
    assert retention.purge(tower.system, Old(older_than=1, tenant="elsewhere")) == 0
    assert retention.purge(tower.system, Old(older_than=1, workflow_id="other")) == 0
    assert retention.purge(tower.system, Old(older_than=1, statuses=["CANCELLED"])) == 1
    assert [is_there(tower, one) for one in (completed, cancelled)] == [True, False]


def test_a_family_goes_when_all_of_it_has_ended(tower: Airport) -> None:
    root, child = done(tower), tower.fly(FEE)
    tower.query(
        "UPDATE instance SET parent_id = CAST(:root AS uuid), root_id = CAST(:root AS uuid), parent_step = 'sub',"
        " parent_generation = 1 WHERE id = CAST(:child AS uuid) RETURNING 1", root=root, child=child,
    )  # fmt: skip
    tower.clock.advance(2 * DAY)
    assert retention.purge(tower.system, Old(older_than=DAY)) == 0
    tower.run(child, "charge")
    assert retention.purge(tower.system, Old(older_than=DAY)) == 1
    assert not is_there(tower, root)
    assert not is_there(tower, child)


def test_an_end_that_is_still_to_be_told_keeps_its_instance(tower: Airport) -> None:
    instance = done(tower)
    tower.query(
        "UPDATE instance SET completion_url = 'https://x' WHERE id = CAST(:id AS uuid) RETURNING 1", id=instance
    )
    tower.clock.advance(2 * DAY)
    assert retention.purge(tower.system, Old(older_than=DAY)) == 0
    tower.query("UPDATE instance SET completion_life = life WHERE id = CAST(:id AS uuid) RETURNING 1", id=instance)
    assert retention.purge(tower.system, Old(older_than=DAY)) == 1


def test_more_than_a_batch_goes(tower: Airport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for _ in range(5):
        done(tower)
    tower.clock.advance(DAY)
    assert retention.purge(tower.system, Old(older_than=1)) == 5


def test_a_worker_deletes_only_what_the_setting_says(tower: Airport) -> None:
    instance = done(tower)
    tower.clock.advance(2 * DAY)
    assert retention.keep(tower.system) == 0
    assert retention.keep(replace(tower.system, settings=replace(tower.system.settings, retention=3 * DAY))) == 0
    assert is_there(tower, instance)
    assert retention.keep(replace(tower.system, settings=replace(tower.system.settings, retention=DAY))) == 1
