"""Admission, decided in pure code: what a gate takes, and what outcomes do to a breaker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator import admission
from orchestrator.admission import Admission, Gate, LaneState
from orchestrator.lane import Breaker, Lane, Rate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BREAKER = Breaker(failures=3, pause=10.0)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def gate(state: LaneState | None = None, *, now: float = 0.0, flying: int = 0, concurrency: int | None = None,
         rate: Rate | None = None) -> Gate:  # fmt: skip
    lane = Lane(name="x", transport="http", concurrency=concurrency, rate=rate)
    return Gate(lane, state or LaneState(name="x"), at(now), flying=flying)


def failed(times: int, state: LaneState | None = None, *, now: float = 0.0, begun: float | None = None) -> LaneState:
    state = state or LaneState(name="x")
    for _ in range(times):
        state = admission.failed(state, BREAKER, at(now), at(now if begun is None else begun))
    return state


def test_concurrency_admits_until_it_is_used_up_and_again_when_a_call_ends() -> None:
    one = gate(concurrency=2, flying=1)
    assert one.refusal() is None
    one.begin(10.0)
    assert one.refusal() == "concurrency"
    one.end()
    assert one.refusal() is None


@pytest.mark.parametrize(("count", "period", "burst"), [(100, 1.0, 10), (5, 1.0, 1), (30, 60.0, 3)])
def test_a_rate_admits_a_tenth_at_once_and_then_one_by_one(count: int, period: float, burst: int) -> None:
    one = gate(rate=Rate(count=count, period=period))
    taken = 0
    while one.refusal() is None:
        one.begin(10.0)
        taken += 1
    assert taken == burst
    assert one.seconds_to_next() == pytest.approx(period / count)
    later = gate(one.state, now=period / count, rate=one.lane.rate)
    assert later.room(100) == 1


def test_over_a_period_a_rate_admits_no_more_than_it_says_and_a_burst() -> None:
    rate, state, taken = Rate(count=50, period=10.0), LaneState(name="x"), 0
    for tick in range(1000):
        one = gate(state, now=tick / 100, rate=rate)
        while one.refusal() is None:
            one.begin(1.0)
            taken += 1
        state = one.state
    assert 50 <= taken <= 55


@pytest.mark.parametrize("spent", range(12))
def test_the_room_of_a_gate_is_what_it_then_admits(spent: int) -> None:
    one = gate(rate=Rate(count=100, period=1.0), concurrency=7, flying=spent % 3)
    for _ in range(spent):
        if one.refusal() is None:
            one.begin(1.0)
    room, taken = one.room(100), 0
    while one.refusal() is None:
        one.begin(1.0)
        taken += 1
    assert room == taken


def test_a_held_lane_takes_nothing_whatever_its_breaker_says() -> None:
    assert gate(LaneState(name="x", held_at=NOW, opened_at=NOW, open_until=NOW)).refusal() == "held"


def test_a_breaker_opens_after_its_failures_in_a_row_and_not_before() -> None:
    assert failed(2).opened_at is None
    opened = failed(3)
    assert opened.open_until == at(10)
    assert gate(opened, now=9.9).refusal() == "breaker"
    assert gate(opened, now=10).refusal() is None


def test_an_answer_in_between_begins_the_count_anew() -> None:
    assert failed(2, admission.answered(failed(2), NOW)).opened_at is None


def test_after_the_pause_one_probe_at_a_time_is_let_through() -> None:
    one = gate(failed(3), now=11)
    assert one.room(100) == 1
    one.begin(15.0)
    assert one.refusal() == "breaker"
    assert gate(one.state, now=25.9).refusal() == "breaker"
    assert gate(one.state, now=26).refusal() is None, "a probe that was lost may not shut the lane for ever"


def test_a_probe_that_is_answered_closes_the_breaker() -> None:
    closed = admission.answered(failed(3), at(11))
    assert (closed.opened_at, closed.failures) == (None, 0)


def test_each_probe_that_fails_doubles_the_pause_up_to_ten_times() -> None:
    state, now, pauses = failed(3), 0.0, []
    for _ in range(6):
        assert state.open_until is not None
        pauses.append((state.open_until - at(now)).total_seconds())
        now = (state.open_until - NOW).total_seconds()
        state = failed(1, state, now=now)
    assert pauses == [10, 20, 40, 80, 100, 100]


def test_what_was_sent_before_the_breaker_opened_neither_closes_it_nor_opens_it_further() -> None:
    opened = failed(3, now=5.0)
    assert admission.answered(opened, at(4)) == opened
    assert failed(1, opened, now=6.0, begun=4.0) == opened


def test_a_probe_with_nothing_to_send_leaves_its_place_to_the_next() -> None:
    one = gate(failed(3), now=11)
    one.begin(15.0)
    assert gate(admission.unsent(one.state, at(11)), now=11).refusal() is None


def test_a_lane_without_a_gate_takes_everything_and_notes_nothing() -> None:
    free = Admission({})
    assert (free.refusal("x"), free.begin("x", 1.0), free.changed()) == (None, None, [])


def test_only_what_has_changed_is_written() -> None:
    both = Admission({"x": gate(rate=Rate(count=1, period=1.0)), "y": gate(concurrency=2)})
    both.begin("y", 1.0)
    assert both.changed() == []
    both.begin("x", 1.0)
    assert [state.name for state in both.changed()] == ["x"]


@pytest.mark.parametrize("rate", [Rate(count=100, period=1.0), Rate(count=5, period=1.0)])
def test_a_rate_that_was_raised_admits_at_once_what_the_old_one_would_keep_for_an_hour(rate: Rate) -> None:
    slow = gate(rate=Rate(count=1, period=3600.0))
    slow.begin(1.0)
    assert gate(slow.state, rate=slow.lane.rate).refusal() == "rate"
    assert gate(slow.state, rate=rate).room(100) == rate.burst


def test_calls_of_who_did_not_know_that_the_breaker_is_open_do_not_prolong_the_pause() -> None:
    opened = failed(3)
    assert failed(50, opened, now=0.5) == opened
    assert failed(1, opened, now=10).open_until == at(30), "the probe does"
