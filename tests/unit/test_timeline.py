"""The bars of the timeline: which moments they join, and that they stay within the axis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.ui import timeline

BEGIN = datetime(2026, 11, 21, 8, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def entry(seconds: float, verb: str, attempt: int = 1, step: str | None = "charge", **more: Any) -> dict[str, Any]:
    told = {"step": step, "phase": "do", "verb": verb, "status": "RUNNING", "attempt": attempt}
    return told | {"time": at(seconds).isoformat()} | more


def bars(*entries: dict[str, Any], now: float = 100) -> list[dict[str, float]]:
    return [{one.kind: one.seconds for one in bar.stretches} for bar in timeline.bars(entries, now=at(now))]


def test_an_attempt_is_queued_runs_and_ends() -> None:
    assert bars(entry(0, "ready", 0), entry(2, "claim"), entry(5, "succeed")) == [{"queued": 2, "ran": 3}]


def test_a_retry_ends_one_attempt_and_queues_the_next() -> None:
    found = bars(
        entry(0, "ready", 0), entry(1, "claim"), entry(2, "retry"), entry(6, "claim", 2), entry(7, "succeed", 2)
    )
    assert found == [{"queued": 1, "ran": 1}, {"queued": 4, "ran": 1}]


def test_a_wait_reaches_to_its_decision() -> None:
    found = bars(entry(0, "ready", 0), entry(1, "claim"), entry(2, "park"), entry(90, "resolve"))
    assert found == [{"queued": 1, "ran": 1, "waited": 88}]


def test_what_goes_on_reaches_to_now() -> None:
    assert bars(entry(0, "ready", 0), entry(10, "claim"), now=40) == [{"queued": 10, "ran": 30}]


def test_a_clock_that_was_read_earlier_makes_no_bar_of_negative_length() -> None:
    assert bars(entry(0, "ready", 0), entry(50, "claim"), now=40) == [{"queued": 50, "ran": 0}]


def test_what_was_skipped_before_it_was_taken_has_been_queued_only() -> None:
    assert bars(entry(0, "ready", 0), entry(3, "end", 0)) == [{"queued": 3}]


def test_a_block_that_nobody_claimed_has_no_bar() -> None:
    assert bars(entry(0, "open", 0), entry(9, "succeed", 0)) == []


def test_the_instance_itself_has_no_bar() -> None:
    assert bars(entry(0, "start", 0, step=None)) == []


def test_without_history_there_is_nothing() -> None:
    assert bars() == []


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1, max_size=20))
def test_bars_stay_within_the_axis_however_long_they_take(lengths: list[tuple[float, float, float]]) -> None:
    entries: list[dict[str, Any]] = []
    time = 0.0
    for number, (queued, ran, waited) in enumerate(lengths):
        moments = ((0.0, "ready"), (queued, "claim"), (ran, "park"), (waited, "resolve"))
        for length, verb in moments:
            time += length
            entries.append(entry(time, verb, number, step=f"s{number}"))
    found = timeline.bars(entries, now=at(time))
    assert len(found) == len(lengths)
    for bar in found:
        for one in bar.stretches:
            assert 0 <= one.left <= timeline.WIDTH
            assert one.left + one.width <= timeline.WIDTH + 1e-6
            assert one.width >= timeline.THINNEST
