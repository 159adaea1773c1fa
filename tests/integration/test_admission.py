"""Admission to lanes: limits that hold across workers, breakers, and lanes that an operator holds. Time is moved, not slept."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import pytest
from sqlalchemy import text

from orchestrator import dispatch as dispatching
from orchestrator import engine, gates, lane_orders, restoring, sweep, turns
from orchestrator.dispatch import dispatch, let_in
from orchestrator.errors import BadRequest, NotFound
from orchestrator.lane import DEFAULT_QUEUE
from orchestrator.store import lanes
from orchestrator.system import System
from tests import flights, servers, services
from tests.integration.test_dispatch import drained
from tests.services import LEASE, Airport, Answer, Seen

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

LANES = """
services:
  free: {{transport: http, url: "{url}/keyed", idempotency: key, timeout: 30s, breaker: none}}
  narrow: {{transport: http, url: "{url}/keyed", idempotency: key, timeout: 30s, breaker: none, concurrency: 3}}
  paced: {{transport: http, url: "{url}/keyed", idempotency: key, timeout: 30s, breaker: none, rate: 20/m}}
  asked: {{transport: http, url: "{url}/asked", idempotency: query, timeout: 30s, breaker: none}}
  frail: {{transport: http, url: "{url}/keyed", idempotency: key, timeout: 30s, breaker: {{failures: 3, pause: 30s}}}}
"""
PAUSE = 30.0  # seconds, of `frail`


def one_step(lane: str, more: str = "") -> str:
    return f"id: on-{lane}\nsteps:\n  - {{id: only, service: {lane}.only, retry: {{max: 9, backoff: 1s, jitter: false}}{more}}}\n"


@pytest.fixture(scope="module")
def shared(
    postgres_server: str,
    database_template: str,
    broker_places: servers.BrokerPlaces,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Airport]:
    folder = tmp_path_factory.mktemp("admission")
    with services.airport(postgres_server, database_template, broker_places, folder, registered=LANES) as found:
        yield found


@pytest.fixture
def tower(shared: Airport) -> Airport:
    """No worker: the test dispatches, and runs each leg, itself."""
    shared.clear()
    return shared


def start_some(tower: Airport, text: str, count: int, tenant: str = flights.TENANT, **payload: str) -> list[str]:
    workflow = text.split("\n", maxsplit=1)[0].removeprefix("id: ")
    engine.put_definition(tower.system, tenant=tenant, workflow_id=workflow, text=text)
    return [
        engine.start(tower.system, tenant=tenant, workflow_id=workflow, payload=payload).instance_id
        for _ in range(count)
    ]


def sent(tower: Airport) -> list[str]:
    """Dispatch everything that can be; the instances that messages now carry, which are taken from the queue."""
    while dispatch(tower.system) or let_in(tower.system):
        pass
    return [member for wave in drained(tower, DEFAULT_QUEUE) for member in wave]


def waits(tower: Airport) -> Counter[str]:
    """Why steps are kept waiting."""
    return Counter(row[0] for row in tower.query("SELECT deferred FROM step WHERE deferred IS NOT NULL"))


def attempts(tower: Airport, instance: str, step: str = "only") -> int:
    shown = tower.step(instance, step)
    assert shown is not None
    found: int = shown["attempt"]
    return found


PASSING = "id: passing\nsteps:\n  - {id: other, service: free.other}\n"


class Meter:
    """Counts the calls that are in flight at once; each lasts until as many as may be are, or the last ones are in."""

    def __init__(self, wanted: int, total: int) -> None:
        self._changed = threading.Condition()
        self._wanted, self._total = wanted, total
        self._flying = self._seen = self.most = 0

    def __call__(self, _: Seen) -> None:
        with self._changed:
            self._seen += 1
            self._flying += 1
            self.most = max(self.most, self._flying)
            self._changed.notify_all()
            is_full = self._changed.wait_for(self._is_full, timeout=services.HELD)
            self._flying -= 1
        assert is_full

    def _is_full(self) -> bool:
        return self._flying >= self._wanted or self._seen > self._total - self._wanted or self.most > self._wanted


# -- concurrency


def test_no_more_than_a_lanes_concurrency_is_in_flight_across_workers_and_no_slot_stays_unused(tower: Airport) -> None:
    meter = Meter(wanted=3, total=37)
    held = [tower.service.hold("only") for _ in range(3)]
    tower.service.always("only", Answer(then=meter))
    with ExitStack() as workers:
        for _ in range(2):
            workers.enter_context(flights.worker_process(tower.system))
        started = start_some(tower, one_step("narrow"), 40)
        tower.service.came("only", 3)
        for passed in start_some(tower, PASSING, 10):
            tower.ended(passed)  # the dispatchers have gone round meanwhile, and others are not held up
        assert len(tower.service.calls("only")) == 3
        for event in held:
            event.set()
        for instance in started:
            assert tower.ended(instance)["status"] == "COMPLETED"
    assert meter.most == 3
    assert tower.service.doubles() == {}
    assert {attempts(tower, instance) for instance in started} == {1}


def test_a_backlog_is_sent_for_only_as_there_is_room_and_each_step_once(tower: Airport) -> None:
    started = start_some(tower, one_step("narrow"), 30)
    messages: list[str] = []
    while now := sent(tower):
        assert len(now) <= 3
        assert sent(tower) == [], "there is no room before one of them has ended"
        messages += now
        for instance in now:
            tower.run(instance, "only")
    assert sorted(messages) == sorted(started)
    assert waits(tower) == {}


def test_a_claim_is_refused_that_the_dispatcher_did_not_foresee(tower: Airport) -> None:
    """As when another worker's dispatcher, with other configuration, has sent too much."""
    started = start_some(tower, one_step("narrow"), 4)
    held = [tower.service.hold("only") for _ in range(3)]
    with ThreadPoolExecutor(4) as pool:
        flights_ = [pool.submit(tower.run, instance, "only") for instance in started[:3]]
        tower.service.came("only", 3)
        tower.run(started[3], "only")
        assert (waits(tower), attempts(tower, started[3])) == ({"concurrency": 1}, 0)
        for event in held:
            event.set()
        for one in flights_:
            one.result()
    assert sent(tower) == [started[3]]
    tower.run(started[3], "only")
    assert tower.status(started[3])["status"] == "COMPLETED"
    assert [one["verb"] for one in tower.status(started[3])["history"]].count("claim") == 1


def test_the_slots_of_a_worker_that_was_killed_are_free_when_its_lease_ends(tower: Airport) -> None:
    held = [tower.service.hold("only") for _ in range(3)]
    with flights.worker_process(tower.system) as killed:
        started = start_some(tower, one_step("narrow"), 5)
        tower.service.came("only", 3)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert lane(tower, "narrow")["inFlight"] == 3
    assert let_in(tower.system) == 0
    tower.clock.advance(LEASE + 1)
    assert lane(tower, "narrow")["inFlight"] == 0
    assert let_in(tower.system) == 2
    for event in held:
        event.set()
    sweep.sweep(tower.system)
    for instance in started:
        tower.run(instance, "only")
    assert {tower.status(instance)["status"] for instance in started} == {"COMPLETED"}
    assert tower.service.doubles() == {}


def test_tenants_take_turns_at_a_lane_that_has_little_room(tower: Airport) -> None:
    start_some(tower, one_step("narrow"), 20, tenant="busy")
    calm = start_some(tower, one_step("narrow"), 1, tenant="calm")
    assert calm[0] in sent(tower)


# -- rate


def test_a_rate_admits_as_time_goes_by_and_no_faster(tower: Airport) -> None:
    started, messages = start_some(tower, one_step("paced"), 6), []
    for passed, expected in ((0.0, 2), (1.0, 0), (2.1, 1), (3.0, 1), (60.0, 2)):
        tower.clock.advance(passed)
        now = sent(tower)
        assert len(now) == expected, f"after {passed} s more"
        for instance in now:
            tower.run(instance, "only")
        messages += now
    assert sorted(messages) == sorted(started)
    assert len(tower.service.calls("only")) == 6


def test_a_claim_beyond_the_rate_is_refused_and_spends_no_attempt(tower: Airport) -> None:
    started = start_some(tower, one_step("paced"), 3)
    for instance in started:
        tower.run(instance, "only")
    assert len(tower.service.calls("only")) == 2
    assert (waits(tower), attempts(tower, started[2])) == ({"rate": 1}, 0)


# -- the breaker


def broken(tower: Airport) -> str:
    """An instance that has failed three times, so that the breaker of `frail` is open."""
    [instance] = start_some(tower, one_step("frail"), 1)
    tower.service.tell("only", *[services.BROKEN] * 3)
    for _ in range(3):
        tower.run(instance, "only")
        tower.clock.advance(10)
    assert len(tower.service.calls("only")) == 3
    return instance


def standing(tower: Airport) -> str:
    found: str = lane(tower, "frail")["breaker"]["state"]
    return found


def lane(tower: Airport, name: str) -> lane_orders.Shown:
    return next(one for one in lane_orders.listed(tower.system) if one["name"] == name)


def test_an_open_breaker_keeps_steps_waiting_and_they_spend_no_attempt(tower: Airport) -> None:
    failed = broken(tower)
    others = start_some(tower, one_step("frail"), 5)
    assert sent(tower) == []
    for instance in (failed, *others):
        tower.run(instance, "only")
    assert len(tower.service.calls("only")) == 3
    assert waits(tower) == {"breaker": 6}
    assert attempts(tower, failed) == 3
    assert {attempts(tower, instance) for instance in others} == {0}
    assert standing(tower) == "open"


def test_after_the_pause_one_probe_is_let_through_and_its_answer_lets_in_all(tower: Airport) -> None:
    broken(tower)
    start_some(tower, one_step("frail"), 5)
    assert sent(tower) == []
    tower.clock.advance(PAUSE)
    [probe] = sent(tower)
    assert standing(tower) == "probing"
    tower.run(probe, "only")
    assert standing(tower) == "closed"
    assert len(sent(tower)) == 5


def test_a_probe_that_fails_shuts_the_lane_for_twice_the_pause(tower: Airport) -> None:
    broken(tower)
    start_some(tower, one_step("frail"), 5)
    tower.service.tell("only", services.REFUSED)
    tower.clock.advance(PAUSE)
    [probe] = sent(tower)
    tower.run(probe, "only")
    tower.clock.advance(2 * PAUSE - 1)
    assert sent(tower) == []
    tower.clock.advance(1)
    assert len(sent(tower)) == 1


def test_while_a_probe_is_under_way_no_second_one_is_sent(tower: Airport) -> None:
    broken(tower)
    [other, probed] = start_some(tower, one_step("frail"), 2)
    tower.clock.advance(PAUSE)
    answer = tower.service.hold("only")
    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(tower.run, probed, "only")
        tower.service.came("only", 4)
        tower.run(other, "only")
        assert (waits(tower)["breaker"], len(tower.service.calls("only"))) == (1, 4)
        answer.set()
        probe.result()
    tower.run(other, "only")
    assert tower.status(other)["status"] == "COMPLETED"


def test_a_rejection_is_an_answer_and_opens_no_breaker(tower: Airport) -> None:
    tower.service.always("only", services.REJECTED)
    for instance in start_some(tower, one_step("frail"), 5):
        tower.run(instance, "only")
    assert len(tower.service.calls("only")) == 5
    assert standing(tower) == "closed"


def test_failures_that_an_answer_interrupts_open_no_breaker(tower: Airport) -> None:
    tower.service.tell("only", *[services.BROKEN, services.BROKEN, services.DONE] * 3)
    for instance in start_some(tower, one_step("frail"), 9):
        tower.run(instance, "only")
    assert len(tower.service.calls("only")) == 9


def test_a_step_that_was_never_sent_times_out_all_the_same(tower: Airport) -> None:
    broken(tower)
    [instance] = start_some(tower, one_step("frail", ", timeout: 5s, onTimeout: skip").replace("on-frail", "late"), 1)
    assert sent(tower) == []
    tower.clock.advance(6)
    assert sent(tower) == [instance]
    tower.run(instance, "only")
    shown = tower.step(instance, "only")
    assert shown is not None
    assert (shown["status"], shown["reason"]) == ("SKIPPED", "timeout")
    assert len(tower.service.calls("only", instance)) == 0


NARROW_IN_TIME = "id: hurried\nsteps:\n  - {id: only, service: frail.only, timeout: 100ms, retry: {max: 0}}\n"


def test_what_a_definition_cuts_short_opens_the_breaker_for_nobody(tower: Airport) -> None:
    started = start_some(tower, NARROW_IN_TIME, 4)
    for instance in started:
        answer = tower.service.hold("only")
        tower.run(instance, "only")
        answer.set()
    assert {tower.status(instance)["status"] for instance in started} == {"FAILED"}
    assert len(tower.service.calls("only")) == 4
    assert (standing(tower), lane(tower, "frail")["breaker"]["failures"]) == ("closed", 0)


def test_an_input_that_cannot_be_sent_is_no_answer_and_closes_no_breaker(tower: Airport) -> None:
    broken(tower)
    text = 'id: large\nsteps:\n  - {id: only, service: frail.only, input: {much: "${payload.much + payload.much}"}}\n'
    [instance] = start_some(tower, text, 1, much="x" * 600_000)
    tower.clock.advance(PAUSE)
    tower.run(instance, "only")
    assert tower.status(instance)["status"] == "FAILED"
    assert standing(tower) == "probing"
    [other] = start_some(tower, one_step("frail"), 1)
    tower.run(other, "only")
    assert standing(tower) == "closed"


def test_a_breaker_that_is_configured_no_more_is_closed_by_the_first_call_whatever_it_says(tower: Airport) -> None:
    [instance] = start_some(tower, one_step("free"), 1)
    tower.query("INSERT INTO lane (name, failures, openings, opened_at, open_until) "
                "SELECT 'free', 3, 1, clock_now(), clock_now() RETURNING name")  # fmt: skip
    tower.system.watch.forget()
    tower.service.tell("only", services.BROKEN)
    tower.run(instance, "only")
    assert lane(tower, "free")["breaker"] is None


# -- lanes that an operator holds


def hold(tower: Airport, name: str) -> lane_orders.Shown:
    return lane_orders.hold(tower.system, name, by="ada", why="migration")


def test_nothing_begins_on_a_lane_that_is_held_until_it_is_released(tower: Airport) -> None:
    shown = hold(tower, "free")
    assert shown["held"] | {"since": None} == {"since": None, "by": "ada", "why": "migration"}
    started = start_some(tower, one_step("free"), 5)
    assert sent(tower) == []
    assert waits(tower) == {"held": 5}
    assert lane(tower, "free")["deferred"] == 5
    lane_orders.release(tower.system, "free", by="ada")
    assert sorted(sent(tower)) == sorted(started)
    assert waits(tower) == {}


def test_what_waits_for_its_turn_is_told_that_the_lane_is_held(tower: Airport) -> None:
    start_some(tower, one_step("narrow"), 5)
    first = sent(tower)
    assert waits(tower) == {"concurrency": 2}
    hold(tower, "narrow")
    assert sent(tower) == []
    assert waits(tower) == {"held": 2}
    for instance in first:
        tower.run(instance, "only")
    assert waits(tower) == {"held": 5}
    lane_orders.release(tower.system, "narrow", by="ada")
    assert len(sent(tower)) == 3
    assert waits(tower) == {"concurrency": 2}


FUSED = "id: fused\nsteps:\n  - {id: first, service: free.first}\n  - {id: second, service: frail.second}\n"


@pytest.mark.parametrize("when", ["in doubt before", "doubted after a restore"])
def test_a_step_that_has_to_be_asked_for_waits_at_a_lane_that_is_held_though_its_time_is_up(
    tower: Airport, when: str
) -> None:
    (instance,) = start_some(tower, one_step("asked", ", timeout: 90s"), 1)
    if when == "in doubt before":
        tower.service.tell("only", services.LOST_AFTER)
        tower.run(instance, "only")
    else:
        restoring.doubt_open_instances(tower.system)
    hold(tower, "asked")
    asked = len(tower.service.seen)
    tower.clock.advance(5)
    assert sent(tower) == [], "it is put aside, and where its time did not run, it runs now"
    tower.clock.advance(120)
    for _ in range(2):
        for member in sent(tower):
            tower.run(member, "only")
    assert waits(tower) == {"held": 1}
    assert sent(tower) == [], "nor is it let go again and again"
    assert len(tower.service.seen) == asked, "a lane that is held is not asked either"
    lane_orders.release(tower.system, "asked", by="ann")
    for member in sent(tower):
        tower.run(member, "only")
    assert len(tower.service.seen) == asked + 1
    assert tower.status(instance)["status"] == ("COMPLETED" if when == "in doubt before" else "FAILED")


def test_a_suspect_that_its_lane_refuses_is_not_in_the_hands_of_the_process(tower: Airport) -> None:
    refused, other = start_some(tower, one_step("narrow"), 1) + start_some(tower, one_step("free"), 1)
    for instance in (refused, other):
        assert tower.claim(instance, "only", worker="killed")
    tower.clock.advance(LEASE + 1)
    sweep.sweep(tower.system)
    hold(tower, "narrow")
    for instance in (refused, other):
        tower.run(instance, "only")
    assert tower.status(other)["status"] == "COMPLETED"
    assert waits(tower) == {"held": 1}


def test_a_suspect_whose_claim_cannot_be_committed_is_not_in_the_hands_of_the_process(tower: Airport) -> None:
    broken, other = start_some(tower, one_step("free"), 2)
    for instance in (broken, other):
        assert tower.claim(instance, "only", worker="killed")
    tower.clock.advance(LEASE + 1)
    sweep.sweep(tower.system)
    with tower.system.database.transaction() as connection:
        connection.execute(text("ALTER TABLE step ADD CONSTRAINT nobody CHECK (state <> 'RUNNING') NOT VALID"))
    tower.run(broken, "only")
    with tower.system.database.transaction() as connection:
        connection.execute(text("ALTER TABLE step DROP CONSTRAINT nobody"))
    tower.run(other, "only")
    assert [tower.status(one)["status"] for one in (broken, other)] == ["RUNNING", "COMPLETED"]


def test_the_next_step_of_a_leg_that_is_refused_is_left_to_the_dispatcher(tower: Airport) -> None:
    hold(tower, "frail")
    [instance] = start_some(tower, FUSED, 1)
    tower.run(instance, "first")
    assert tower.service.done(instance) == ["first:g1:do"]
    second = tower.step(instance, "second")
    assert second is not None
    assert (second["status"], second["attempt"], waits(tower)) == ("READY", 0, {"held": 1})
    lane_orders.release(tower.system, "frail", by="ada")
    assert sent(tower) == [instance]
    tower.run(instance, "second")
    assert tower.status(instance)["status"] == "COMPLETED"


UNDONE = """id: undone
steps:
  - {id: first, service: frail.first, compensate: frail.undo}
  - {id: second, service: free.second}
"""


def test_a_compensation_waits_for_its_lane_too(tower: Airport) -> None:
    [instance] = start_some(tower, UNDONE, 1)
    tower.service.tell("second", services.REJECTED)
    tower.run(instance, "first")
    hold(tower, "frail")
    assert sent(tower) == []
    assert waits(tower) == {"held": 1}
    assert tower.status(instance)["status"] == "COMPENSATING"
    lane_orders.release(tower.system, "frail", by="ada")
    assert sent(tower) == [instance]
    tower.run(instance, "first", "undo")
    assert tower.status(instance)["status"] == "COMPENSATED"


def test_what_is_suspended_is_not_let_in(tower: Airport) -> None:
    hold(tower, "free")
    [instance] = start_some(tower, one_step("free"), 1)
    sent(tower)
    tower.order(engine.suspend, instance)
    lane_orders.release(tower.system, "free", by="ada")
    assert sent(tower) == []
    tower.order(engine.resume, instance)
    assert sent(tower) == [instance]


ESCALATED = """id: escalated
steps:
  - {id: first, service: free.first, compensate: free.undo}
  - {id: second, service: frail.second, timeout: 5s, onTimeout: escalate, escalate: {to: free.backup}}
"""


def test_what_was_escalated_in_an_earlier_life_asks_its_own_lane_in_the_next(tower: Airport) -> None:
    [instance] = start_some(tower, ESCALATED, 1)
    hold(tower, "frail")
    tower.run(instance, "first")
    tower.clock.advance(6)
    tower.run(instance, "second")
    tower.service.tell("backup", services.REJECTED)
    tower.run(instance, "second")
    tower.run(instance, "first", "undo")
    assert tower.status(instance)["status"] == "COMPENSATED"
    tower.order(engine.retry, instance)
    tower.run(instance, "first")
    assert (waits(tower), tower.service.calls("second")) == ({"held": 1}, [])


def test_whoever_waits_for_a_lane_has_his_turn_however_busy_the_others_are(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_some(tower, one_step("paced"), 5)
    for instance in sent(tower):
        tower.run(instance, "only")
    tower.clock.advance(60)
    start_some(tower, PASSING, 1)
    dispatcher, rounds = dispatching.Dispatcher(tower.system), 0

    def busy(system: System) -> int:
        """While it looks, somebody starts something else: there is always more to publish."""
        nonlocal rounds
        rounds += 1
        if waits(tower)["rate"] == 3 and rounds < 300:
            flights.start(system, "passing", {})
        return dispatch(system)

    monkeypatch.setattr(dispatching, "dispatch", busy)
    dispatcher._rounds()
    assert waits(tower)["rate"] < 3
    assert rounds < 300


def test_no_lane_is_waited_for_and_held_for_ever_by_who_was_stopped(tower: Airport) -> None:
    with tower.system.database.transaction() as connection:
        lanes.lock(connection, ["narrow"])
        bounds = [connection.execute(text(f"SHOW {name}")).scalar_one()
                  for name in ("lock_timeout", "idle_in_transaction_session_timeout")]  # fmt: skip
    assert bounds == ["10s", "10s"]


def test_a_lane_that_somebody_holds_on_to_does_not_keep_the_turns_of_the_others(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_some(tower, one_step("narrow"), 4)
    start_some(tower, one_step("paced"), 3)
    assert len(sent(tower)) == 5
    tower.query(
        "UPDATE step SET published_at = NULL, deferred = gate FROM (SELECT) t WHERE gate IS NOT NULL RETURNING 1"
    )
    monkeypatch.setattr(lanes, "LOCK", text(lanes.LOCK.text.replace("'lock_timeout', '10000'", "'lock_timeout', '50'")))
    with tower.system.database.transaction() as connection:
        lanes.lock(connection, ["narrow"])
        ready, _ = turns.let_in(tower.system)
    assert {row.service for row in ready} == {"paced.only"}


def test_who_is_suspended_after_he_was_let_in_keeps_no_room(tower: Airport) -> None:
    started = start_some(tower, one_step("narrow"), 6)
    first = sent(tower)
    for instance in first:
        tower.order(engine.suspend, instance)
        tower.run(instance, "only")
    assert sorted(sent(tower)) == sorted(set(started) - set(first))


@pytest.mark.parametrize("is_registered", [True, False])
def test_what_waits_for_a_limit_that_is_configured_no_more_is_let_go(tower: Airport, *, is_registered: bool) -> None:
    start_some(tower, one_step("narrow"), 9)
    first = sent(tower)
    changed = {name: lane for name, lane in tower.system.lanes.items() if name != "narrow"}
    if is_registered:
        changed["narrow"] = replace(tower.system.lanes["narrow"], concurrency=None)
    system = replace(tower.system, lanes={name: replace(lane, rate=None) if name == "paced" else lane
                                          for name, lane in changed.items()})  # fmt: skip
    assert not gates.are_any(system)
    while dispatch(system) or let_in(system):
        pass
    left = [member for wave in drained(tower, DEFAULT_QUEUE) for member in wave]
    assert (len(first), len(set(left) - set(first)), waits(tower)) == (3, 6, {})


@pytest.mark.parametrize(("concurrency", "more"), [(5, 2), (1, 0)])
def test_what_waits_for_a_limit_that_was_changed_goes_by_the_new_one(
    tower: Airport, concurrency: int, more: int
) -> None:
    start_some(tower, one_step("narrow"), 9)
    first = sent(tower)
    narrow = replace(tower.system.lanes["narrow"], concurrency=concurrency)
    system = replace(tower.system, lanes={**tower.system.lanes, "narrow": narrow})
    while dispatch(system) or let_in(system):
        pass
    now = [member for wave in drained(tower, DEFAULT_QUEUE) for member in wave]
    assert (len(first), len(now)) == (3, more)


def test_a_message_that_was_lost_on_its_way_to_a_lane_keeps_its_room_only_until_it_is_sent_again(
    tower: Airport,
) -> None:
    start_some(tower, one_step("narrow"), 5)
    lost = sent(tower)
    assert sent(tower) == []
    tower.clock.advance(tower.system.settings.republish_after + 1)
    assert sweep.republish(tower.system) == 3
    assert len(sent(tower)) == len(lost) == 3


CANCELLED = (
    "id: many\nsteps:\n  - {id: each, forEach: payload.all, as: one, steps: [{id: only, service: narrow.only}]}\n"
)


def test_iterations_take_turns_at_a_narrow_lane_and_end_with_a_cancel_that_leaves_room_to_others(
    tower: Airport,
) -> None:
    instance = tower.fly(CANCELLED, {"all": list(range(8))})
    [other] = start_some(tower, one_step("narrow"), 1)
    sent(tower)
    tower.run(instance, "each")
    assert len(sent(tower)) == 2
    tower.order(engine.cancel, instance)
    assert (tower.status(instance)["status"], waits(tower)) == ("CANCELLED", {})
    tower.run(other, "only")
    assert tower.status(other)["status"] == "COMPLETED"
    assert tower.query("SELECT 1 FROM step WHERE gate IS NOT NULL") == []


def test_a_running_worker_heeds_hold_and_release(tower: Airport) -> None:
    with flights.worker_process(tower.system):
        [before] = start_some(tower, one_step("free"), 1)
        tower.ended(before)
        hold(tower, "free")
        started = start_some(tower, one_step("free"), 3)
        flights.until(lambda: waits(tower) == {"held": 3}, "three that wait")
        lane_orders.release(tower.system, "free", by="ada")
        for instance in started:
            assert tower.ended(instance)["status"] == "COMPLETED"


def test_a_lane_that_is_not_registered_can_be_neither_held_nor_released(tower: Airport) -> None:
    for order in (lane_orders.hold, lane_orders.release):
        with pytest.raises(NotFound, match="did you mean 'narrow'"):
            order(tower.system, "narow", by="ada")
    with pytest.raises(BadRequest):
        lane_orders.hold(tower.system, "free", by="ada", why="x" * 501)


def test_a_lane_in_no_trouble_is_not_asked(tower: Airport) -> None:
    """A lane without limits costs a claim nothing: no lock, and nothing written."""
    [instance] = start_some(tower, one_step("free"), 1)
    assert sent(tower) == [instance]
    tower.run(instance, "only")
    assert tower.query("SELECT name FROM lane") == []
    assert tower.query("SELECT 1 FROM step WHERE gate IS NOT NULL") == []
