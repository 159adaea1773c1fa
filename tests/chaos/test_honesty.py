"""The chaos run's own verdict: what it is to report is reported, and a run that has shown nothing says so."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from kombu import Connection

from orchestrator.bootstrap import _queue
from orchestrator.lane import SWEEP_QUEUE
from orchestrator.lanes.exchanges import EVENTS
from orchestrator.servers.ports import LOOPBACK, free_port
from orchestrator.settings import Settings
from orchestrator.system import System
from tests import flights
from tests.chaos.run import faults_network, faults_servers, figures, stillness
from tests.chaos.run.arena import BEATS, COPIES, WEBS, _member
from tests.chaos.run.broker import Valkey
from tests.chaos.run.ending import Ending
from tests.chaos.run.entry import kind_of
from tests.chaos.run.fire import Fire
from tests.chaos.run.options import Options
from tests.chaos.run.stillness import Bound, Course

pytestmark = [pytest.mark.chaos]

# -- liveness: the last fault has ended at 100

BOUND = Bound(since=100.0, start=10.0, still=20.0, turn=0.0)


def course(name: str, *entries: float, ended: float | None = None, status: str = "RUNNING", **more: object) -> Course:
    known: dict[str, object] = {"began": 90.0, "workflow": "sequence", "status": status}
    return Course(instance=name, entries=entries, ended=ended, **{**known, **more})  # type: ignore[arg-type]


MOVING = [course(f"moving-{number}", *(100.0 + second for second in range(60))) for number in range(5)]


def idle(*courses: Course, bound: Bound = BOUND, until: float = 160.0) -> list[str]:
    return [text.partition(" (")[0] for text in stillness.idle([*MOVING, *courses], bound, until)]


def test_one_that_idles_among_moving_ones_is_reported_by_name() -> None:
    assert idle(course("idle")) == ["idle"]
    assert idle(course("rests", 101.0, 102.0)) == ["rests"]
    assert idle() == []


def test_one_that_has_gone_on_by_itself_at_last_was_idle_before() -> None:
    assert idle(course("late", 101.0, 145.0, ended=145.0)) == ["late"]
    assert idle(course("first", 131.0, ended=131.0)) == ["first"]
    assert idle(course("in time", 129.0, ended=129.0)) == []


def test_a_violation_says_what_stood_still_for_how_long() -> None:
    (told,) = Ending(took=1.0, courses=(*MOVING, course("idle", 112.0)), bound=BOUND, until=160.0).idle
    assert told == "idle (sequence, RUNNING) wrote no history for 48.0 s, and 20.0 s are allowed"


def test_what_is_parked_or_has_ended_may_rest_and_what_was_recalled_had_ended() -> None:
    assert idle(course("parked", 101.0, status="STUCK"), course("parked before", status="STUCK")) == []
    assert idle(course("ended", 101.0, ended=101.0, status="COMPLETED")) == []
    assert idle(course("recalled", 150.0, 151.0, ended=151.0, woken=[150.0])) == []


def test_one_that_was_started_late_is_judged_from_its_start_on() -> None:
    assert idle(course("young", began=150.0)) == []
    assert idle(course("old enough", began=150.0), until=171.0)[-1:] == ["old enough"]


def test_a_turn_is_granted_where_half_of_the_backlog_took_long_and_never_for_an_idle_minority() -> None:
    slow = [course(f"slow-{at}", *range(101, 110 + at), ended=110.0 + at) for at in range(40)]
    assert stillness.turn(slow, since=100.0, start=10.0, rate=1.0) == 2 * (129 - 110)
    quick = [course(f"quick-{at}", 105.0, ended=105.0) for at in range(40)]
    assert stillness.turn([*quick, *(course(f"idle-{at}") for at in range(30))], 100.0, 10.0, 1.0) == 0
    assert stillness.turn([course("alone")], 100.0, 10.0, 1.0) == 1, "no more than it needs at the least rate"
    assert stillness.turn([], 100.0, 10.0, 1.0) == 0


PARENT = "id: parent\nsteps: [{id: inner, workflow: child}]"
CHILD = "id: child\nsteps: [{id: a, pause: true}]"


@pytest.mark.integration
def test_courses_are_read_from_the_history_and_a_parent_moves_with_its_child(worker: System) -> None:
    flights.define(worker, CHILD)
    flights.define(worker, PARENT)
    with psycopg.connect(worker.settings.database_url or "", autocommit=True) as connection:
        before = stillness.moment(connection)
        gone = flights.start(worker, "child", {})
        parent = flights.start(worker, "parent", {})
        flights.reached(worker, parent, "WAITING")
        child = flights.until(lambda: _child_of(connection, parent), "the child waits")
        courses = {one.instance.replace("-", ""): one for one in stillness.read(connection, before)}
        assert set(courses) == {gone, parent, child}
        assert set(courses[child].entries) < set(courses[parent].entries)
        assert before <= courses[child].began <= min(courses[child].entries)
        later = stillness.read(connection, stillness.moment(connection))
        assert [one.entries for one in later] == [[], [], []], "none has moved since"


def _child_of(connection: psycopg.Connection[tuple[object, ...]], parent: str) -> str | None:
    found = connection.execute(
        "SELECT replace(id::text, '-', '') FROM instance WHERE parent_id = %s AND status = 'WAITING'", [parent]
    ).fetchone()
    return str(found[0]) if found else None


# -- faults are counted when they were done, and end for themselves


def fire_of(relays: object, **arena: object) -> Fire:
    arena = {"relays": relays, "booted_within": 1.0, "options": Options(seconds=1, seed=1), **arena}
    return Fire(arena=SimpleNamespace(**arena), chance=random.Random(1), say=lambda _: None)  # type: ignore[arg-type]


class Relays:
    """Notes the orders."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, ...]] = []

    def order(self, what: str, *links: str, **_: float) -> None:
        self.orders.append((what, *links))


def test_the_end_of_an_older_fault_does_not_end_a_newer_one_on_the_same_link() -> None:
    relays = Relays()
    fire = fire_of(relays)
    faults_network._order(fire, "cut", 1.0, "a", "b")
    faults_network._order(fire, "stall", 2.0, "b", "c")
    fire.put_out()  # in the order of time
    assert relays.orders[2:] == [("heal", "a"), ("heal", "b", "c")]


def test_a_cable_that_was_pulled_again_stays_out_until_the_second_time_is_over() -> None:
    plugged: list[None] = []
    far = SimpleNamespace(pull=lambda: None, plug=lambda: plugged.append(None))
    fire = fire_of(Relays(), faraway=far, workers=[SimpleNamespace(name="worker-4")])
    faults_network._pull(fire)
    faults_network._pull(fire)
    assert len(fire._planned) == 2
    fire.put_out()
    assert len(plugged) == 1


@pytest.mark.parametrize("is_there", [True, False])
def test_a_wipe_of_a_broker_that_was_away_is_not_counted(is_there: bool) -> None:
    broker = SimpleNamespace(name="valkey", wipe=lambda: is_there)
    fire = fire_of(Relays(), broker=broker)
    wipe = next(one for one in faults_servers.faults("valkey") if one.begin is faults_servers._wipe)
    fire.burn(0.05, [replace(wipe, every=0.001)])
    assert bool(fire.counts["broker wiped"]) is is_there


def test_a_wipe_says_whether_the_broker_has_obeyed(tmp_path: Path) -> None:
    """As far as it goes without a server: nobody listens there."""
    away = Valkey.__new__(Valkey)
    away.url = f"redis://{LOOPBACK}:{free_port()}/0"
    assert away.wipe() is False


# -- processes that were tampered with


def test_clocks_of_every_kind_of_process_are_off_and_whoever_publishes_repeats_itself(tmp_path: Path) -> None:
    given = Options(seconds=1, seed=1)
    made = {
        (what, number): _member(given, number, what, Settings(), tmp_path).env
        for what, count in (("worker", given.workers), ("beat", BEATS), ("web", WEBS), ("team", 1)) for number in range(1, count + 1)
    }  # fmt: skip
    for what in ("worker", "beat", "web"):
        clocks = {env["CHAOS_CLOCK"] for (kind, _), env in made.items() if kind == what}
        assert {"3600", "-3600"} <= clocks
    assert {env["CHAOS_COPIES"] for (kind, _), env in made.items() if kind != "web"} == {"5"}
    assert len({env["CHAOS_SEED"] for env in made.values()}) == len(made)


@pytest.mark.integration
def test_a_beat_whose_clock_is_off_sends_each_sweep_several_times(broker_url: str, tmp_path: Path) -> None:
    given = Settings(broker_url=broker_url, sweep_every=0.1)
    beat = _member(Options(seconds=1, seed=1), 1, "beat", given, tmp_path)
    copies, came = tmp_path / COPIES, Counter[str]()
    expires = set[float]()
    beat.start()
    try:
        with Connection(broker_url, heartbeat=0) as connection:
            queue = connection.SimpleQueue(_queue(SWEEP_QUEUE, broker_url))
            while max(came.values(), default=0) < 2 or len(came) < 20:
                message = queue.get(timeout=30)
                came[message.headers["id"]] += 1
                expires.add(datetime.fromisoformat(message.headers["expires"]).timestamp() - time.time())
                message.ack()
            queue.close()
    finally:
        beat.kill()
    assert all(3540 < one < 3660 for one in expires), "its clock is an hour ahead"
    told = figures.copies(copies)
    assert set(told) == {"sweep"}
    assert max(told["sweep"]) <= 5 < told["sweep"].total()


def test_messages_are_told_apart_by_what_they_are() -> None:
    assert kind_of({"headers": {"task": "orchestrator.leg"}, "exchange": ""}) == "leg"
    assert kind_of({"headers": {"task": "orchestrator.failed"}}) == "failed"
    assert kind_of({"exchange": EVENTS, "headers": None}) == "events"
    assert kind_of({"headers": {"task": "reports.make"}, "exchange": ""}) == "reports.make"
    assert kind_of({"headers": {}, "exchange": "celeryev"}) is None
