"""The sweep: what time alone has made due, ten at once, one bad instance among good ones, and nothing twice."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator import engine, escalation
from orchestrator.instance import Instance
from orchestrator.rows import Row
from orchestrator.sweep import hand_over, sweep
from tests.services import REJECTED, Airport, holding, is_gapless, states_of, verbs

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

WAIT = """
id: waits
deadline: 10d
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: wait, pause: true, timeout: 1h, onTimeout: skip}
  - {id: hold, pause: true}
"""


# Everybody else who is connected to this database
CUT_OFF = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()
"""


def waiting(airport: Airport, count: int) -> list[str]:
    workflow = airport.define(WAIT)
    ids = [airport.start(workflow) for _ in range(count)]
    for instance in ids:
        airport.run(instance, "a")
        assert states_of(airport.status(instance))["wait"] == "WAITING"
    return ids


def test_a_sweep_with_nothing_due_moves_nothing(tower: Airport) -> None:
    waiting(tower, 1)
    assert sweep(tower.system) == 0


def test_a_sweep_goes_round_until_nothing_is_due_and_says_how_many_it_moved(tower: Airport) -> None:
    ids = waiting(tower, 5)
    tower.clock.advance(3601)
    assert sweep(tower.system) == 5
    assert sweep(tower.system) == 0
    for instance in ids:
        assert verbs(tower.status(instance), "wait")[-1] == "skip"


def test_ten_sweeps_at_once_move_everything_once(tower: Airport) -> None:
    ids = waiting(tower, 12)
    tower.clock.advance(3601)
    with ThreadPoolExecutor(10) as pool:
        moved = sum(pool.map(lambda _: sweep(tower.system), range(10)))
    moved += sweep(tower.system)  # what one sweep held, the others skipped
    assert moved == 12
    for instance in ids:
        shown = tower.status(instance)
        assert verbs(shown, "wait").count("skip") == 1
        assert is_gapless(shown)


def test_what_is_due_of_one_kind_does_not_wait_until_all_of_another_has_been_moved(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.sweep.BATCH", 1)
    ids = waiting(tower, 4)
    other = tower.fly("id: other\ndeadline: 30m\nsteps: [{id: hold, pause: true}]")
    tower.run(other, "hold")
    tower.clock.advance(3601)
    assert sweep(tower.system) == 5
    (fallen,) = tower.query("SELECT time FROM history WHERE verb = 'fall'")[0]
    moved = tower.query("SELECT time FROM history WHERE verb = 'skip' ORDER BY time")
    assert len(moved) == len(ids)
    assert sum(time < fallen for (time,) in moved) == 1, "one batch of the waits, one of the deadlines, and so on"


def test_families_have_their_turn_while_very_much_is_due(tower: Airport, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr("orchestrator.sweep.BATCH", 1)
    monkeypatch.setattr("orchestrator.sweep.ROUNDS", 2)
    waiting(tower, 5)
    tower.clock.advance(3601)

    def carry(_: object) -> int:
        looks.append(tower.query("SELECT count(*) FROM step WHERE step = 'wait' AND state = 'WAITING'")[0][0])
        return 0

    monkeypatch.setattr("orchestrator.sweep.children.carry", carry)
    sweep(tower.system)
    assert looks == [3, 1, 0, 0]


def test_a_sweep_waits_for_nobody(tower: Airport) -> None:
    held, free = waiting(tower, 2)
    tower.clock.advance(3601)
    with holding(tower, held):
        assert sweep(tower.system) == 1
    assert verbs(tower.status(free), "wait")[-1] == "skip"
    assert sweep(tower.system) == 1, "it is free now"


def test_one_instance_that_cannot_be_swept_is_put_off_and_holds_up_no_other(
    tower: Airport, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ids = waiting(tower, 7)
    bad = ids[3]
    perform = escalation.time_out

    def time_out(instance: Instance, row: Row) -> None:
        if instance.header.id == bad:
            raise RuntimeError("a definition that nobody can read any more")
        perform(instance, row)

    monkeypatch.setattr(escalation, "time_out", time_out)
    tower.clock.advance(3601)
    with caplog.at_level(logging.ERROR):
        assert sweep(tower.system) == 6
        assert sweep(tower.system) == 0, "it is not tried again and again"
    assert [bad in record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [True]
    monkeypatch.undo()
    assert states_of(tower.status(bad))["wait"] == "WAITING"
    tower.clock.advance(61)
    assert sweep(tower.system) == 1
    assert verbs(tower.status(bad), "wait")[-1] == "skip"


def test_an_instance_whose_sweep_lost_the_database_is_looked_at_again_by_the_next_one(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    [instance] = waiting(tower, 1)
    perform = escalation.time_out

    def time_out(given: Instance, row: Row) -> None:
        perform(given, row)
        tower.query(CUT_OFF)

    monkeypatch.setattr(escalation, "time_out", time_out)
    tower.clock.advance(3601)
    assert sweep(tower.system) == 0
    monkeypatch.undo()
    tower.clock.advance(tower.system.settings.sweep_every)
    assert sweep(tower.system) == 1
    assert verbs(tower.status(instance), "wait")[-1] == "skip"


def test_a_deadline_of_the_whole_is_due_once(tower: Airport) -> None:
    [instance] = waiting(tower, 1)
    tower.clock.advance(3601)
    sweep(tower.system)
    tower.clock.advance(10 * 86400)
    assert sweep(tower.system) == 1
    assert sweep(tower.system) == 0
    shown = tower.status(instance)
    assert (shown["status"], shown["reason"]) == ("COMPENSATING", "deadline")
    assert verbs(shown).count("fall") == 1
    tower.run(instance, "a", "undo")
    assert tower.status(instance)["status"] == "COMPENSATED"


def test_a_deadline_of_the_whole_waits_for_what_nobody_knows(tower: Airport) -> None:
    instance = tower.fly("id: unknown-deadline\ndeadline: 1h\nsteps: [{id: pay, service: blind.pay}]")
    tower.claim(instance, "pay", worker="killed")
    tower.clock.advance(3601)
    sweep(tower.system)
    shown = tower.status(instance)
    assert (shown["status"], shown["reason"], shown["ended"]) == ("STUCK", "uncertain", None)
    tower.order(engine.resolve, instance, step="pay", verdict="failed")
    assert tower.status(instance)["status"] == "FAILED"


def test_what_has_ended_is_never_swept(tower: Airport) -> None:
    [instance] = waiting(tower, 1)
    tower.order(engine.cancel, instance)
    tower.run(instance, "a", "undo")
    before = tower.status(instance)
    assert before["status"] == "CANCELLED"
    tower.clock.advance(365 * 86400)
    assert sweep(tower.system) == 0
    assert tower.status(instance) == before


def test_every_instance_comes_to_its_end_though_its_messages_and_its_worker_are_lost_at_every_step(
    tower: Airport,
) -> None:
    """Each message is claimed by a worker that dies; the sweep and the next one bring it to its end."""
    instance = tower.fly("""
id: lost-everywhere
steps:
  - {id: a, service: keyed.work, compensate: keyed.undo}
  - id: both
    branches: {one: [{id: x, service: keyed.work}], two: [{id: y, service: asked.work, compensate: keyed.undo}]}
  - {id: last, service: keyed.refuse}
""")
    tower.service.always("refuse", REJECTED)
    for _ in range(40):
        active = tower.query(
            "SELECT step, phase FROM step WHERE instance_id = CAST(:id AS uuid) AND state IN ('READY', 'RETRYING')",
            id=instance,
        )
        if not active:
            break
        for step, phase in active:
            attempt = tower.claim(instance, step, phase, worker="dies")
            assert attempt is not None
        tower.clock.advance(61)  # the lost attempt itself can no longer be running either
        assert sweep(tower.system) >= 1
        for step, phase in active:
            tower.run(instance, step, phase)
    shown = tower.status(instance)
    assert shown["status"] == "COMPENSATED"
    assert not tower.service.doubles()
    assert [key for key in tower.service.done(instance) if "undo" in key] == ["y:g1:undo", "a:g1:undo"]
    assert is_gapless(shown)


@pytest.mark.parametrize(("seconds", "how", "losses"), [(0, "stopped", 0), (5, "lost", 1)])
def test_what_had_lost_its_lease_before_it_is_handed_over_counts_towards_quarantine(
    tower: Airport, seconds: int, how: str, losses: int
) -> None:
    """`LEASE` has passed: its call hung, and no sweep has come yet."""
    instance = tower.fly("id: one\nsteps: [{id: a, service: keyed.a}]")
    assert tower.claim(instance, "a", worker=tower.system.worker) is not None
    tower.clock.advance(seconds)
    assert hand_over(tower.system, within=0.0) == 1
    [(error, count)] = tower.query("SELECT error, losses FROM step")
    assert f"was {how} in attempt 1" in error
    assert count == losses
