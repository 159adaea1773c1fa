"""Guarded transitions: who loses a race changes nothing, whoever is late changes nothing, and the history has no gap."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from orchestrator import attempts, conclusions, engine
from orchestrator.errors import LostRace
from orchestrator.instance import Instance
from orchestrator.lane import Reply
from orchestrator.rows import Header
from orchestrator.store import definitions, due, transitions
from orchestrator.store.transitions import Birth
from orchestrator.sweep import sweep
from tests import flights
from tests.services import LEASE, Airport, holding, is_gapless, states_of, verbs

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

ONE = "id: one\nsteps: [{id: work, service: keyed.work}, {id: after, service: far.after}]"
DONE = Reply(outcome="done", output={"n": 1})


def snapshot(airport: Airport) -> list[Any]:
    return [
        airport.query(f"SELECT * FROM {table} ORDER BY 1, 2") for table in ("instance", "step", "history")
    ]  # fmt: skip


def conclude(airport: Airport, instance: str, attempt: attempts.Attempt, reply: Reply = DONE) -> bool:
    """What a leg does with its attempt's reply; whether that changed anything."""

    def verb(one: Instance) -> bool:
        conclusions.conclude(airport.system, one, attempt, reply)
        return bool(one.entries)

    return bool(airport.change(instance, verb))


def test_of_many_who_claim_at_once_one_has_it(tower: Airport) -> None:
    instance = tower.fly(ONE)
    with ThreadPoolExecutor(6) as pool:
        with holding(tower, instance) as others:
            claims = [pool.submit(tower.claim, instance, "work", worker=f"w{n}") for n in range(6)]
            others(6)
        found = [one for claim in claims if (one := claim.result(20))]
    assert [one.attempt for one in found] == [1]
    assert verbs(tower.status(instance), "work") == ["ready", "claim"]


def test_the_result_of_an_attempt_that_was_taken_over_changes_nothing(tower: Airport) -> None:
    instance = tower.fly(ONE)
    stale = tower.claim(instance, "work", worker="stopped")
    assert stale is not None
    tower.clock.advance(6)
    assert sweep(tower.system) == 1
    fresh = tower.claim(instance, "work", worker="taker")
    assert fresh is not None
    assert (fresh.key, fresh.attempt, fresh.tries) == (stale.key, 2, 1), "same key, and no retry used up"
    before = snapshot(tower)
    for reply in (DONE, Reply(outcome="rejected"), Reply(outcome="uncertain"), Reply(outcome="refused")):
        assert not conclude(tower, instance, stale, reply)
    assert snapshot(tower) == before
    assert conclude(tower, instance, fresh)
    before = snapshot(tower)
    for late in (stale, fresh):
        assert not conclude(tower, instance, late)
    assert snapshot(tower) == before
    assert states_of(tower.status(instance)) == {"work": "SUCCEEDED", "after": "READY"}


def test_a_row_that_moves_under_somebodys_lock_is_noticed_and_everything_is_rolled_back(tower: Airport) -> None:
    """Somebody writes a state without the instance's lock, between the reading and the writing of a transition."""
    first, second = tower.fly(ONE), tower.start("one")
    before: list[Any] = []

    def verb(one: Instance) -> None:
        attempts.claim(one, "work", "do", worker="w", lease=5, limit=60)
        if one.header.id == second:
            with tower.system.database.transaction() as connection:
                connection.execute(
                    text("UPDATE step SET attempt = 7 WHERE instance_id = CAST(:id AS uuid)"), {"id": second}
                )
            before.extend(snapshot(tower))

    with pytest.raises(LostRace):
        transitions.transition(tower.system.database, tower.system.plans, [first, second], verb)
    assert snapshot(tower) == before
    assert states_of(tower.status(first)) == {"work": "READY"}


def test_a_verb_that_raises_for_one_leaves_all_of_its_batch_as_they_were(tower: Airport) -> None:
    first, second = tower.fly(ONE), tower.start("one")
    before = snapshot(tower)

    def verb(one: Instance) -> None:
        attempts.claim(one, "work", "do", worker="w", lease=5, limit=60)
        if one.header.id == second:
            raise RuntimeError("bad")

    with pytest.raises(RuntimeError):
        transitions.transition(tower.system.database, tower.system.plans, [first, second], verb)
    assert snapshot(tower) == before


def test_two_waves_over_the_same_instances_in_opposite_order_never_wait_for_each_other_in_a_circle(
    tower: Airport,
) -> None:
    workflow = tower.define(ONE)
    ids = [tower.start(workflow) for _ in range(12)]
    meet = threading.Barrier(4)

    def claim_all(order: int) -> int:
        wave = ids[::order]
        meet.wait(20)
        found = transitions.transition(
            tower.system.database, tower.system.plans, wave,
            lambda one: attempts.claim(one, "work", "do", worker="w", lease=5, limit=60),
        )  # fmt: skip
        return sum(one is not None for one in found.values())

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(claim_all, (1, -1, 1, -1))) == 12
    for instance in ids:
        assert verbs(tower.status(instance), "work") == ["ready", "claim"]


def test_the_last_two_branches_that_end_at_once_open_the_join_once(tower: Airport) -> None:
    instance = tower.fly("""
id: last-two
steps:
  - id: both
    branches: {one: [{id: x, service: keyed.x}], two: [{id: y, service: far.y}]}
  - {id: after, service: keyed.after}
""")
    claimed = [tower.claim(instance, step) for step in ("x", "y")]
    with ThreadPoolExecutor(2) as pool:
        with holding(tower, instance) as others:
            landing = [pool.submit(conclude, tower, instance, one) for one in claimed if one]
            others(2)
        assert [one.result(20) for one in landing] == [True, True]
    shown = tower.status(instance)
    assert verbs(shown, "both") == ["open", "succeed"]
    assert verbs(shown, "after") == ["ready"]
    assert is_gapless(shown)


def test_one_tenant_cannot_move_anothers_instance(tower: Airport) -> None:
    instance = tower.fly(ONE)
    before = snapshot(tower)
    assert tower.change(instance, lambda one: one.mark(suspended_at=one.now), tenant="elsewhere") is None
    assert snapshot(tower) == before


def test_with_skip_locked_what_somebody_holds_is_left_alone(tower: Airport) -> None:
    held, free = tower.fly(ONE), tower.start("one")
    with holding(tower, held):
        found = transitions.transition(
            tower.system.database, tower.system.plans, [held, free], lambda one: one.header.id, skip_locked=True
        )
    assert list(found) == [free]


def test_no_database_transaction_is_open_while_a_lane_is_called(airport: Airport) -> None:
    release = airport.service.hold("work")
    airport.fly("id: no-transaction\nsteps: [{id: work, service: keyed.work}]")
    airport.service.came("work")
    open_ones = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
    )
    flights.until(lambda: airport.query(open_ones)[0][0] == 0, "no open transaction")
    release.set()


# -- leases


def test_a_lost_lease_is_taken_over_by_another_worker_with_the_same_key_and_no_retry_used_up(airport: Airport) -> None:
    """The first call hangs until its lease has run out; retries are not allowed at all."""
    release = airport.service.hold("work")
    instance = airport.fly("id: taken-over\nsteps: [{id: work, service: keyed.work, retry: {max: 0}}]")
    airport.service.came("work")
    airport.clock.advance(100)
    shown = airport.ended(instance)
    release.set()
    assert shown["status"] == "COMPLETED"
    calls = airport.service.calls("work")
    assert [one.attempt for one in calls] == [1, 2]
    assert len({(one.key, one.content) for one in calls}) == 1
    assert airport.service.done(instance) == ["work:g1:do"]
    assert verbs(shown, "work") == ["ready", "claim", "lose", "claim", "succeed"]


def test_a_lost_attempt_on_a_lane_that_can_be_asked_is_asked_first(airport: Airport) -> None:
    release = airport.service.hold("work")
    instance = airport.fly("id: asked-after-loss\nsteps: [{id: work, service: asked.work}]")
    airport.service.came("work")
    airport.clock.advance(100)
    assert airport.ended(instance)["status"] == "COMPLETED"
    release.set()
    assert [one.method for one in airport.service.seen if one.operation == "work"][:2] == ["POST", "GET"]


def test_a_lost_attempt_on_a_lane_that_can_do_neither_is_for_a_person_to_settle(airport: Airport) -> None:
    release = airport.service.hold("work")
    instance = airport.fly("id: lost-blind\nsteps: [{id: work, service: blind.work}]")
    airport.service.came("work")
    airport.clock.advance(100)
    assert airport.reached(instance, "STUCK")["reason"] == "uncertain"
    release.set()
    assert len(airport.service.calls("work")) == 1


def extend(airport: Airport, worker: str) -> int:
    with airport.system.database.transaction() as connection:
        return due.extend_leases(connection, worker=worker, lease=LEASE)


def test_leases_are_extended_only_while_they_stand_and_only_within_the_attempts_own_limit(tower: Airport) -> None:
    instance = tower.fly(ONE)
    lease = "SELECT lease_until, limit_until FROM step WHERE step = 'work'"
    assert tower.claim(instance, "work", worker="mine") is not None
    [(before, limit)] = tower.query(lease)
    tower.clock.advance(3)
    assert extend(tower, "mine") == 1
    [(after, _)] = tower.query(lease)
    assert after > before
    tower.clock.advance(6)
    assert extend(tower, "mine") == 0, "it has run out"
    assert sweep(tower.system) == 1
    assert tower.claim(instance, "work", worker="another") is not None
    assert extend(tower, "mine") == 0, "it is another's"
    tower.clock.advance((limit - before).total_seconds() + 60)
    assert sweep(tower.system) == 1, "a hung call is not kept alive"


def test_extending_leases_waits_for_nobody(tower: Airport) -> None:
    """A wave that is being recorded holds some rows and asks for others: a circle of the two would end one of them."""
    ids = [tower.fly(ONE), tower.start("one")]
    for instance in ids:
        tower.claim(instance, "work", worker="w")
    with tower.system.database.transaction() as holder:
        holder.execute(
            text("SELECT 1 FROM step WHERE instance_id = CAST(:id AS uuid) FOR NO KEY UPDATE"), {"id": ids[0]}
        )
        with tower.system.database.transaction() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '2s'"))
            assert due.extend_leases(connection, worker="w", lease=5) == 1


def test_a_process_that_was_stopped_and_woken_does_not_send_what_another_has_taken_over(tower: Airport) -> None:
    instance = tower.fly(ONE)
    stale = tower.claim(instance, "work", worker="stopped")
    assert stale is not None
    assert holds(tower, stale)
    tower.clock.advance(6)
    assert not holds(tower, stale)
    sweep(tower.system)
    fresh = tower.claim(instance, "work", worker="taker")
    assert fresh is not None
    assert holds(tower, fresh)
    assert not holds(tower, stale)


def holds(airport: Airport, attempt: attempts.Attempt) -> bool:
    with airport.system.database.transaction() as connection:
        return due.renew(connection, attempt, lease=5, limit=60)


def test_a_step_that_loses_every_worker_is_put_aside_and_can_be_tried_again(tower: Airport) -> None:
    instance = tower.fly(ONE)
    for _ in range(tower.system.settings.losses):
        assert tower.claim(instance, "work") is not None
        tower.clock.advance(6)
        assert sweep(tower.system) == 1
    shown = tower.status(instance)
    assert (shown["status"], shown["reason"]) == ("STUCK", "quarantined")
    assert tower.claim(instance, "work") is None
    tower.clock.advance(60)
    tower.order(engine.retry, instance)
    again = tower.claim(instance, "work")
    assert again is not None
    assert again.key.endswith(":g1:do"), "nobody knows whether it was done: it keeps its key"
    conclude(tower, instance, again)
    assert states_of(tower.status(instance))["work"] == "SUCCEEDED"


# -- births


def test_of_several_births_only_the_one_whose_key_is_taken_is_left_out(tower: Airport) -> None:
    tower.define(ONE)
    known = tower.start("one", idempotency_key="k1")
    with tower.system.database.transaction() as connection:
        version = definitions.find(connection, flights.TENANT, "one")
        assert version is not None
        plan = tower.system.plans(version.id)
        now = connection.execute(text("SELECT clock_now()")).scalar_one()
        births = [
            Birth(header=header(f"{n:032x}", version), payload={}, idempotency_key=key, request_digest="d")
            for n, key in enumerate(("k1", "k2", None), start=1)
        ]
        begun = transitions.begin(connection, plan, births, now)
    assert [one.header.id for one in begun] == [f"{2:032x}", f"{3:032x}"]
    assert {row[0].hex for row in tower.query("SELECT id FROM instance")} == {known, f"{2:032x}", f"{3:032x}"}
    assert tower.query("SELECT count(*) FROM step")[0][0] == 3, "none without its first step"


def header(instance: str, version: definitions.Version) -> Header:
    return Header(
        id=instance, tenant=version.tenant, workflow_id=version.workflow_id, version_id=version.id,
        version=version.version,
    )  # fmt: skip
