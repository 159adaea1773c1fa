"""What a leg promises when the database, the machine or its own process fails it; and how its messages are made up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from celery.signals import before_task_publish
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from orchestrator import attempts, calls, engine, legs
from orchestrator.dispatch import dispatch
from orchestrator.instance import Instance
from orchestrator.lane import limit_of
from orchestrator.legs import Landed
from orchestrator.store import due, transitions
from orchestrator.sweep import sweep
from tests import services
from tests.integration.test_dispatch import drained, published, start_some
from tests.services import DONE, LATER, LOST_AFTER, REJECTED, Airport, Answer, is_gapless, states_of, verbs

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

TWO = """
id: two
steps:
  - {id: a, service: keyed.a}
  - {id: b, service: keyed.b}
"""
FRESH = """
SELECT count(*) FROM step WHERE state = 'RUNNING' AND lease_until > clock_now() + interval '3s'
  AND limit_until > clock_now() + interval '33s'
"""


def version_of(airport: Airport, instance: str) -> str:
    [(version,)] = airport.query(services.VERSION.text, id=instance)
    found: str = version.hex
    return found


def run_wave(airport: Airport, wave: Sequence[str], start: str, version: str | None = None) -> Landed:
    """What a worker does with a message that carries several instances."""
    version = version or version_of(airport, wave[0])
    return legs.run(airport.system, wave, version=version, start=start, covered=frozenset())


def end_of(airport: Airport, instance: str) -> str:
    shown = airport.status(instance)
    assert is_gapless(shown)
    return str(shown["status"])


# -- a database that goes away


class Cable:
    """The way to Postgres, which breaks at chosen transactions, counted from 1."""

    def __init__(self, airport: Airport, monkeypatch: pytest.MonkeyPatch) -> None:
        self._url, self._open = airport.system.database.url, airport.system.database.transaction
        self._turns, self._cut = count(1), dict[int, bool]()
        self.after: Callable[[int], None] = lambda _: None  # told the number of each that has ended
        monkeypatch.setattr(airport.system.database, "transaction", self.transaction)

    def cut(self, *turns: int, landed: bool) -> None:
        """`landed`: the commit is done, and only the answer to it is lost."""
        self._cut = dict.fromkeys(turns, landed)

    @contextmanager
    def transaction(self, tenant: str | None = None) -> Iterator[Connection]:
        turn = next(self._turns)
        landed = self._cut.get(turn)
        try:
            with self._open(tenant) as connection:
                yield connection
                if landed is False:
                    self._end_backend(connection)
        finally:
            self.after(turn)
        if landed:
            raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))

    def _end_backend(self, connection: Connection) -> None:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with psycopg.connect(self._url) as other:
            other.execute("SELECT pg_terminate_backend(%s, 1000)", [pid])


@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize("turns", [(1,), (2,), (3,), (2, 3, 4)])
def test_a_leg_whose_commit_is_not_answered_goes_on_and_sends_each_step_once(
    tower: Airport, monkeypatch: pytest.MonkeyPatch, turns: tuple[int, ...], landed: bool
) -> None:
    """The first transaction claims a, the second records it and claims b, the third records that."""
    instance = tower.fly(TWO)
    tower.system.plans(version := version_of(tower, instance))
    with monkeypatch.context() as patched:
        Cable(tower, patched).cut(*turns, landed=landed)
        run_wave(tower, [instance], "a", version)
    assert end_of(tower, instance) == "COMPLETED"
    assert [(one.operation, one.attempt) for one in tower.service.seen] == [("a", 1), ("b", 1)]
    assert verbs(tower.status(instance), "b") == ["ready", "claim", "succeed"]


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_leg_that_was_stopped_in_a_transaction_for_longer_than_postgres_bears_goes_on(
    tower: Airport, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    instance, turns, write = tower.fly(TWO), count(1), transitions.write
    version = version_of(tower, instance)

    def stopped(connection: Connection, instances: Sequence[Instance]) -> None:
        if next(turns) == turn:
            services.cut_off(tower.system, connection)
        write(connection, instances)

    monkeypatch.setattr(transitions, "write", stopped)
    run_wave(tower, [instance], "a", version)
    assert end_of(tower, instance) == "COMPLETED"
    assert [(one.operation, one.attempt) for one in tower.service.seen] == [("a", 1), ("b", 1)]


def test_a_wave_goes_on_after_a_commit_that_was_not_answered(tower: Airport, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = start_some(tower, 3, TWO)
    tower.system.plans(version := version_of(tower, wave[0]))
    with monkeypatch.context() as patched:
        Cable(tower, patched).cut(1, 3, landed=True)
        run_wave(tower, wave, "a", version)
    assert [end_of(tower, instance) for instance in wave] == ["COMPLETED"] * 3
    assert len(tower.service.seen) == 6


def test_a_claim_that_did_not_land_is_not_mistaken_for_that_of_another_leg_of_the_process(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that came twice: the other thread claims the same attempt under the same name while this one waits."""
    instance = tower.fly(TWO)
    tower.system.plans(version := version_of(tower, instance))

    def other(turn: int) -> None:
        if turn == 1:
            assert tower.claim(instance, "a", worker=tower.system.worker) is not None

    with monkeypatch.context() as patched:
        cable = Cable(tower, patched)
        cable.cut(1, landed=False)
        cable.after = other
        run_wave(tower, [instance], "a", version)
    assert tower.service.seen == [], "it is the other's to send"


def test_a_leg_that_learns_of_its_claim_only_after_the_lease_sends_nothing(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = tower.fly(TWO)
    tower.system.plans(version := version_of(tower, instance))
    with monkeypatch.context() as patched:
        cable = Cable(tower, patched)
        cable.cut(1, landed=True)
        cable.after = lambda turn: tower.clock.advance(6) if turn == 1 else None
        run_wave(tower, [instance], "a", version)
    assert tower.service.seen == []
    assert sweep(tower.system) == 1
    run_wave(tower, [instance], "a")
    assert tower.service.done(instance) == ["a:g1:do", "b:g1:do"]


# -- a wave


def test_a_member_that_cannot_be_claimed_does_not_keep_the_others_from_it(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = start_some(tower, 5, TWO)
    claim, bad = attempts.claim, wave[2]

    def claimed(instance: Instance, *given: Any, **more: Any) -> Any:
        if instance.header.id == bad:
            raise RuntimeError("a bug of ours")
        return claim(instance, *given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(attempts, "claim", claimed)
        run_wave(tower, wave, "a")
    assert [end_of(tower, one) for one in wave] == [*["COMPLETED"] * 2, "RUNNING", *["COMPLETED"] * 2]
    run_wave(tower, [bad], "a")
    assert end_of(tower, bad) == "COMPLETED"
    assert not tower.service.doubles()


def test_a_member_whose_result_cannot_be_recorded_does_not_cost_the_others_theirs(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = start_some(tower, 8, TWO)
    succeed, bad = attempts.succeed, wave[0]

    def succeeded(instance: Instance, *given: Any) -> None:
        if instance.header.id == bad:
            raise RuntimeError("a bug of ours")
        succeed(instance, *given)

    with monkeypatch.context() as patched:
        patched.setattr(attempts, "succeed", succeeded)
        run_wave(tower, wave, "a")
    assert [end_of(tower, one) for one in wave] == ["RUNNING", *["COMPLETED"] * 7]
    tower.clock.advance(6)
    assert sweep(tower.system) == 1, "its lease runs out, like that of a worker that died"
    run_wave(tower, [bad], "a")
    assert end_of(tower, bad) == "COMPLETED"
    assert not tower.service.doubles()


def test_a_message_of_another_version_does_nothing(tower: Airport) -> None:
    [old] = start_some(tower, 1, TWO)
    [new] = start_some(tower, 1, TWO.replace("keyed.b", "keyed.c"))
    before = tower.status(old)
    landed = run_wave(tower, [old, new], "a", version_of(tower, new))
    assert tower.status(old) == before
    assert landed == Landed(survivors=(), failed=())
    assert end_of(tower, new) == "COMPLETED"
    assert {one.key.partition(":")[0] for one in tower.service.seen} == {new}


def test_what_a_leg_has_no_time_to_begin_is_ready_and_promised_to_nobody(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = start_some(tower, legs.IN_FLIGHT + 4, TWO)
    assert dispatch(tower.system) == len(wave)
    assert published(tower) == set(wave)
    late = [0.0]
    tower.service.always("a", Answer(then=lambda _: late.__setitem__(0, 21.0)))
    with monkeypatch.context() as patched:
        patched.setattr(legs, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + late[0], sleep=time.sleep))
        run_wave(tower, wave, "a")
    assert published(tower) == set(), "another message will carry all of it"
    states = [states_of(tower.status(one)) for one in wave]
    assert states.count({"a": "SUCCEEDED", "b": "READY"}) == legs.IN_FLIGHT
    assert states.count({"a": "READY"}) == 4
    assert tower.service.calls("b") == []
    assert dispatch(tower.system) == len(wave)


# -- a process that is stopped between its claim and the send


def stopped(
    airport: Airport, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None], *, seconds: float = 6.0
) -> Cable:
    """The leg is stopped when its first claim has been committed: for three seconds by its own clock."""
    asleep = [0.0]
    monkeypatch.setattr(calls, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + asleep[0]))
    cable = Cable(airport, monkeypatch)

    def sleep(turn: int) -> None:
        if turn == 1:
            airport.clock.advance(seconds)
            meanwhile()
            asleep[0] = 3.0

    cable.after = sleep
    return cable


def test_a_leg_that_was_stopped_does_not_send_what_another_has_taken_over(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = tower.fly(TWO)
    tower.system.plans(version := version_of(tower, instance))

    def take_over() -> None:
        assert sweep(tower.system) == 1
        assert tower.claim(instance, "a", worker="taker") is not None

    with monkeypatch.context() as patched:
        stopped(tower, patched, take_over)
        run_wave(tower, [instance], "a", version)
    assert tower.service.seen == []
    assert tower.query("SELECT state, worker, attempt FROM step") == [("RUNNING", "taker", 2)]


def test_a_leg_that_was_stopped_beyond_its_lease_hands_back_what_nobody_has_taken_yet(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = tower.fly(TWO)
    tower.system.plans(version := version_of(tower, instance))
    with monkeypatch.context() as patched:
        stopped(tower, patched, lambda: None)
        run_wave(tower, [instance], "a", version)
    assert tower.service.seen == []
    tower.clock.advance(10)
    assert dispatch(tower.system) == 1
    run_wave(tower, [instance], "a")
    assert end_of(tower, instance) == "COMPLETED"
    assert tower.service.done(instance) == ["a:g1:do", "b:g1:do"]


def test_a_leg_that_was_stopped_while_it_claimed_counts_from_before_the_claim(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease began with the claim, and the claim is committed only after the stop."""
    instance = tower.fly(TWO)
    tower.system.plans(version := version_of(tower, instance))
    claim, asleep = attempts.claim, [0.0]

    def claimed(*given: Any, **more: Any) -> Any:
        found = claim(*given, **more)
        tower.clock.advance(6)
        asleep[0] = 3.0
        return found

    with monkeypatch.context() as patched:
        clock = SimpleNamespace(monotonic=lambda: time.monotonic() + asleep[0], sleep=time.sleep)
        patched.setattr(legs, "time", clock)
        patched.setattr(calls, "time", clock)
        patched.setattr(attempts, "claim", claimed)
        run_wave(tower, [instance], "a", version)
    assert tower.service.seen == []


def test_a_leg_that_was_stopped_within_its_lease_takes_a_whole_one_and_sends(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = tower.fly(TWO)
    tower.system.plans(version := version_of(tower, instance))
    at_send: list[int] = []
    tower.service.always("a", Answer(then=lambda _: at_send.append(tower.query(FRESH)[0][0])))
    with monkeypatch.context() as patched:
        stopped(tower, patched, lambda: None, seconds=4.0)
        run_wave(tower, [instance], "a", version)
    assert at_send == [1], "the call may take its lane's whole timeout"


def test_a_call_that_took_a_whole_lease_before_its_send_is_hung_no_sooner_than_its_limit(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = tower.fly(TWO)
    tower.system.plans(version := version_of(tower, instance))
    more: list[float] = []

    def look(_: Any) -> None:
        [call] = tower.system.hands.calls()
        more.append(call.until - call.since - limit_of(tower.system.lanes["keyed"]))

    tower.service.always("a", Answer(then=look))
    with monkeypatch.context() as patched:
        stopped(tower, patched, lambda: None, seconds=4.0)
        run_wave(tower, [instance], "a", version)
    assert len(more) == 1
    assert more[0] > 0.0
    assert tower.service.done(instance) == ["a:g1:do", "b:g1:do"]


def test_a_leg_that_cannot_look_up_its_lease_sends_nothing_yet(tower: Airport, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = tower.fly(TWO)
    tower.system.plans(version := version_of(tower, instance))
    with monkeypatch.context() as patched:
        stopped(tower, patched, lambda: None, seconds=0.0).cut(2, landed=False)
        run_wave(tower, [instance], "a", version)
    assert tower.service.seen == []
    tower.clock.advance(2)
    assert dispatch(tower.system) == 1, "nothing was sent, so nothing is in doubt"
    run_wave(tower, [instance], "a")
    assert [one.attempt for one in tower.service.seen] == [2, 1]
    assert end_of(tower, instance) == "COMPLETED"


# -- a lost attempt that comes back


@contextmanager
def lost_in_flight(airport: Airport, text: str, answer: Answer = DONE, *, losses: int = 0) -> Iterator[str]:
    """An instance whose step `pay` is being called by a leg that counts as lost; the answer comes at the end of the block.
    `losses`: workers that it has lost before."""
    release = airport.service.hold("pay", answer)
    instance = airport.fly(text)
    for _ in range(losses):
        assert airport.claim(instance, "pay", worker="killed") is not None
        airport.clock.advance(6)
        assert sweep(airport.system) == 1
    with ThreadPoolExecutor(1) as pool:
        leg = pool.submit(run_wave, airport, [instance], "pay")
        try:
            airport.service.came("pay")
            airport.clock.advance(6)
            assert sweep(airport.system) == 1
            yield instance
        finally:
            release.set()
        leg.result(20)


@pytest.mark.parametrize(("answer", "status"), [(DONE, "COMPLETED"), (REJECTED, "FAILED"), (LOST_AFTER, "STUCK"),
                                                (LATER, "WAITING")])  # fmt: skip
def test_the_late_answer_of_a_lost_attempt_settles_what_nobody_knew_if_it_is_certain(
    tower: Airport, answer: Answer, status: str
) -> None:
    with lost_in_flight(tower, "id: late\nsteps: [{id: pay, service: blind.pay}]", answer) as instance:
        assert end_of(tower, instance) == "STUCK"
        assert states_of(tower.status(instance)) == {"pay": "UNKNOWN"}
    assert end_of(tower, instance) == status
    assert len(tower.service.calls("pay")) == 1


@pytest.mark.parametrize(("answer", "status"), [(DONE, "COMPLETED"), (REJECTED, "STUCK")])
def test_a_late_rejection_says_nothing_about_the_attempts_before(tower: Airport, answer: Answer, status: str) -> None:
    text = "id: thrice\nsteps: [{id: pay, service: keyed.pay, compensate: keyed.unpay}]"
    with lost_in_flight(tower, text, answer, losses=tower.system.settings.losses - 1) as instance:
        assert tower.status(instance)["reason"] == "quarantined"
    assert end_of(tower, instance) == status


def test_a_lane_that_can_be_asked_is_not_asked_while_the_lost_attempt_may_still_be_in_flight(tower: Airport) -> None:
    """It would say that the key never came, and so it would be done twice."""
    with lost_in_flight(tower, "id: early\nsteps: [{id: pay, service: asked.pay}]") as instance:
        assert dispatch(tower.system) == 0
        run_wave(tower, [instance], "pay")
        assert len(tower.service.seen) == 1
    tower.clock.advance(70)
    assert dispatch(tower.system) == 1
    run_wave(tower, [instance], "pay")
    assert end_of(tower, instance) == "COMPLETED"
    assert [one.method for one in tower.service.seen] == ["POST", "GET"]
    assert not tower.service.doubles()


def test_a_lost_attempt_is_not_repeated_once_its_lane_may_have_forgotten_the_key(tower: Airport) -> None:
    instance = tower.fly("id: forgot\nsteps: [{id: pay, service: brief.pay}]")
    assert tower.claim(instance, "pay", worker="killed") is not None
    tower.clock.advance(6)
    assert sweep(tower.system) == 1
    tower.clock.advance(60)
    run_wave(tower, [instance], "pay")
    assert tower.service.seen == []
    assert states_of(tower.status(instance)) == {"pay": "UNKNOWN"}


def test_nothing_is_undone_before_every_lost_attempt_is_surely_over(tower: Airport) -> None:
    """The later attempts end sooner, but the first has longer to go."""
    instance = tower.fly("id: undone\nsteps: [{id: pay, service: keyed.pay, compensate: keyed.unpay}]")
    assert tower.claim(instance, "pay", worker="killed") is not None  # its limit is 60 s
    tower.clock.advance(6)
    assert sweep(tower.system) == 1
    tower.change(instance, lambda one: attempts.claim(one, "pay", "do", worker="killed", lease=5.0, limit=10.0))
    tower.clock.advance(6)
    assert sweep(tower.system) == 1
    tower.service.tell("pay", REJECTED)
    run_wave(tower, [instance], "pay")
    assert end_of(tower, instance) == "COMPENSATING"
    tower.clock.advance(40)
    assert dispatch(tower.system) == 0
    tower.run(instance, "pay", "undo")
    assert tower.service.calls("unpay") == []
    tower.clock.advance(10)
    assert dispatch(tower.system) == 1
    tower.run(instance, "pay", "undo")
    assert tower.service.done(instance) == ["pay:g1:undo"]


# -- leases and limits


def leased(airport: Airport) -> tuple[Any, Any]:
    [(lease, limit)] = airport.query("SELECT lease_until, limit_until FROM step")
    return lease, limit


def test_no_lease_outlasts_its_attempts_own_limit(tower: Airport) -> None:
    instance = tower.fly(TWO)
    tower.change(instance, lambda one: attempts.claim(one, "a", "do", worker="w", lease=60.0, limit=8.0))
    lease, limit = leased(tower)
    assert lease == limit
    tower.clock.advance(3)
    with tower.system.database.transaction() as connection:
        assert due.extend_leases(connection, worker="w", lease=60) == 1
    assert leased(tower) == (limit, limit)
    tower.clock.advance(6)
    with tower.system.database.transaction() as connection:
        assert due.extend_leases(connection, worker="w", lease=60) == 0
    assert sweep(tower.system) == 1, "a call that hangs is not kept alive"


# -- messages


def test_nothing_is_sent_before_others_can_see_that_it_was(tower: Airport) -> None:
    """Sent within the transaction, a message could be there and the mark gone, or the claim come before the mark."""
    start_some(tower, 3, TWO)
    seen: list[int] = []

    def look(**_: Any) -> None:
        seen.append(len(published(tower)))

    before_task_publish.connect(look, weak=False)
    try:
        assert dispatch(tower.system) == 3
    finally:
        before_task_publish.disconnect(look)
    assert seen == [3, 3, 3]


def sizes(airport: Airport) -> set[int]:
    while dispatch(airport.system):
        pass
    return {len(wave) for wave in drained(airport)}


@pytest.mark.parametrize(("lane", "together"), [("keyed", True), ("safe", True), ("blind", False), ("asked", False)])
def test_only_what_may_simply_be_repeated_shares_a_message(tower: Airport, lane: str, together: bool) -> None:
    start_some(tower, 70, f"id: backlog\nsteps: [{{id: only, service: {lane}.only}}]")
    assert (max(sizes(tower)) > 1) is together


def test_after_a_lost_lease_a_step_goes_in_a_message_of_its_own(tower: Airport) -> None:
    """Whichever member of the wave it is that kills its worker, it shall not take the others along again."""
    wave = start_some(tower, 70, TWO)
    assert max(sizes(tower)) > 1
    for instance in wave:
        assert tower.claim(instance, "a", worker="killed") is not None
    tower.clock.advance(6)
    assert sweep(tower.system) == 70
    assert sizes(tower) == {1}


def test_a_step_goes_to_the_queue_that_its_lane_has_now(tower: Airport, tmp_path: Path) -> None:
    """Nobody serves the one that it had when the step became READY."""
    [instance] = start_some(tower, 1, "id: moved\nsteps: [{id: only, service: far.only}]")
    lanes = tmp_path / "services.yaml"
    lanes.write_text(Path(tower.system.settings.services_file).read_text().replace("queue: far", "queue: farther"))
    with services.composed(replace(tower.system.settings, services_file=str(lanes))) as renamed:
        assert dispatch(renamed) == 1
        moved = replace(tower, system=renamed)
        assert drained(moved, "farther") == [[instance]]
    assert drained(tower, "far") == []
    assert tower.query("SELECT queue FROM step") == [("farther",)], "where a lost message is looked for"


def test_a_definition_that_cannot_be_read_any_more_is_put_off_and_harms_no_other_tenant(tower: Airport) -> None:
    started = {}
    for tenant in ("broken", "sound"):
        engine.put_definition(tower.system, tenant=tenant, workflow_id="two", text=TWO)
        started[tenant] = engine.start(tower.system, tenant=tenant, workflow_id="two", payload={}).instance_id
    tower.query("UPDATE definition_version SET text = 'steps: [' WHERE tenant = 'broken' RETURNING 1")
    with services.composed(tower.system.settings) as restarted:
        while dispatch(restarted):
            pass
        assert drained(tower) == [[started["sound"]]]
        [(error,)] = tower.query("SELECT error FROM step WHERE tenant = 'broken'")
        assert error.startswith("cannot be dispatched: ")
        tower.query("UPDATE definition_version SET text = :text WHERE tenant = 'broken' RETURNING 1", text=TWO)
        tower.clock.advance(59)
        assert dispatch(restarted) == 0
        tower.clock.advance(2)
        assert dispatch(restarted) == 1
        assert drained(tower) == [[started["broken"]]]


def test_a_broker_that_fails_in_the_middle_of_a_round_costs_only_the_rest_of_it_another_round(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent stays marked; the rest is unmarked, and each is sent once."""
    started = start_some(tower, 3, TWO)
    send, turns = tower.system.app.amqp.send_task_message, count(1)

    def fail(*given: Any, **more: Any) -> Any:
        if next(turns) == 2:
            raise SystemError("the broker is away")
        return send(*given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(tower.system.app.amqp, "send_task_message", fail)
        with pytest.raises(SystemError):
            dispatch(tower.system)
    assert len(published(tower)) == 1
    assert dispatch(tower.system) == 2
    assert sorted(member for wave in drained(tower) for member in wave) == sorted(started)
