from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.definition import Retry
from orchestrator.lane import Lane, Reply
from orchestrator.retry import Again, Done, Doubtful, Failed, Parked, TimedOut, Trial, Verdict, backoff, judge, may_send
from tests.unit.flying import EPOCH, LANES, reply

STEADY = Retry(max=3, backoff=2.0, factor=2.0, cap=30.0, jitter=False)
UNANSWERED = [reply("not_sent"), reply("refused"), reply("uncertain")]


def trial(lane: str | Lane = "key", **rest: Any) -> Trial:
    found = LANES[lane] if isinstance(lane, str) else lane
    plain = {"retry": STEADY, "tries": 1, "uncertain": False, "started_at": EPOCH, "budget_until": None, "pause": False}
    return Trial(lane=found, **{**plain, **rest})


def judged(answer: Reply, lane: str = "key", *, after: float = 0.0, **rest: Any) -> Verdict:
    return judge(answer, trial(lane, **rest), EPOCH + timedelta(seconds=after), 0.0)


@pytest.mark.parametrize("lane", ["key", "query", "safe", "none"])
def test_an_answer_ends_the_step_and_a_later_one_or_a_decision_parks_it(lane: str) -> None:
    assert judged(reply("done", output=1), lane) == Done(output=1)
    assert judged(reply("done", output=1, later=True), lane) == Parked(output=1)
    assert judged(reply("done", output=1), lane, pause=True) == Parked(output=1)


@pytest.mark.parametrize("lane", ["key", "query", "safe", "none"])
def test_a_rejection_is_certain_and_is_not_repeated(lane: str) -> None:
    assert judged(reply("rejected", error="no"), lane) == Failed(reason="rejected", error="no", uncertain=False)


@pytest.mark.parametrize("lane", ["key", "query"])
def test_a_rejection_leaves_the_doubt_about_an_earlier_attempt_with_the_same_key(lane: str) -> None:
    assert judged(reply("rejected"), lane, uncertain=True) == Failed(
        reason="rejected", error="rejected", uncertain=True
    )


def test_a_rejection_leaves_no_doubt_where_there_was_no_effect() -> None:
    assert judged(reply("rejected"), "safe", uncertain=True) == Failed(
        reason="rejected", error="rejected", uncertain=False
    )


def test_on_a_lane_without_keys_a_rejection_after_doubt_is_for_a_person_to_judge() -> None:
    assert judged(reply("rejected"), "none", uncertain=True) == Doubtful(error="rejected")


@pytest.mark.parametrize("answer", UNANSWERED)
@pytest.mark.parametrize("lane", ["key", "query", "safe", "none"])
def test_what_was_not_answered_is_tried_again_unless_the_lane_forbids_it(answer: Reply, lane: str) -> None:
    found = judged(answer, lane)
    if lane == "none" and answer.outcome == "uncertain":
        assert found == Doubtful(error="uncertain")
    else:
        assert isinstance(found, Again)
        assert found.uncertain is (answer.outcome == "uncertain" and lane != "safe")


@pytest.mark.parametrize("answer", [*UNANSWERED, reply("done"), reply("rejected")])
def test_after_an_uncertain_attempt_a_lane_without_keys_is_never_asked_again(answer: Reply) -> None:
    assert not isinstance(judged(answer, "none", uncertain=True), Again | TimedOut)


def test_retries_are_counted_after_the_first_call() -> None:
    assert isinstance(judged(reply("refused"), tries=3), Again)
    assert judged(reply("refused"), tries=4) == Failed(reason="exhausted", error="refused", uncertain=False)
    assert isinstance(judged(reply("refused"), tries=1, retry=Retry(max=0)), Failed)


def test_when_its_retries_are_used_up_what_may_have_been_done_is_never_plainly_failed() -> None:
    assert judged(reply("uncertain"), "key", tries=4) == Failed(reason="uncertain", error="uncertain", uncertain=True)
    assert judged(reply("refused"), "key", tries=4, uncertain=True) == Failed(
        reason="uncertain", error="refused", uncertain=True
    )
    assert judged(reply("uncertain", asked=True), "query", tries=4) == Doubtful(error="uncertain")
    assert judged(reply("uncertain"), "safe", tries=4) == Failed(reason="exhausted", error="uncertain", uncertain=False)


@pytest.mark.parametrize("answer", [reply("uncertain"), reply("refused")])
def test_a_lane_that_can_be_asked_is_asked_before_a_person_is(answer: Reply) -> None:
    """The attempt after the last may only ask; when its time is up, it does so at once."""
    assert judged(answer, "query", tries=4, uncertain=True) == Again(
        due=EPOCH + timedelta(seconds=16), error=answer.outcome, uncertain=True
    )
    assert judged(answer, "query", tries=4, uncertain=True, budget_until=EPOCH) == Again(
        due=EPOCH, error=answer.outcome, uncertain=True
    )
    assert not may_send(STEADY, 5)
    assert may_send(STEADY, 4)


def test_a_lane_that_was_asked_in_vain_when_its_time_was_up_is_for_a_person_to_judge() -> None:
    asked = reply("uncertain", asked=True)
    assert judged(asked, "query", uncertain=True, budget_until=EPOCH) == Doubtful(error="uncertain")


def test_what_repeating_cannot_mend_is_not_repeated() -> None:
    assert judged(reply("refused", may_retry=False)) == Failed(reason="exhausted", error="refused", uncertain=False)


def test_a_lane_that_forgets_its_keys_is_not_asked_again_once_it_may_have_forgotten() -> None:
    assert isinstance(judged(reply("uncertain"), "forgetful", after=50), Again)
    assert isinstance(judged(reply("uncertain"), "forgetful", after=59), Doubtful)  # the next one would be too late
    assert isinstance(judged(reply("uncertain"), "forgetful", after=60), Doubtful)
    assert isinstance(judged(reply("refused"), "forgetful", after=60), Again)


def test_no_attempt_is_made_after_the_budget() -> None:
    until = EPOCH + timedelta(seconds=2)
    assert judged(reply("uncertain"), budget_until=until) == TimedOut(error="uncertain", uncertain=True)
    assert isinstance(judged(reply("refused"), budget_until=until + timedelta(seconds=1)), Again)


def test_a_service_may_ask_for_more_time_but_not_for_less() -> None:
    for asked, expected in ((10.0, 10.0), (0.5, 2.0)):
        assert judged(reply("refused", retry_after=asked)) == Again(
            due=EPOCH + timedelta(seconds=expected), error="refused", uncertain=False
        )


def test_the_wait_doubles_up_to_its_cap() -> None:
    assert [backoff(STEADY, tries, 0.9) for tries in range(1, 7)] == [2, 4, 8, 16, 30, 30]


@settings(deadline=None)
@given(
    st.integers(0, 10_000),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.001, 1e6),
    st.floats(1, 100),
    st.floats(0.001, 1e6),
)
def test_jitter_takes_at_most_half_and_no_number_of_tries_overflows(
    tries: int, chance: float, first: float, factor: float, cap: float
) -> None:
    whole = backoff(Retry(backoff=first, factor=factor, cap=cap, jitter=False), tries, chance)
    found = backoff(Retry(backoff=first, factor=factor, cap=cap), tries, chance)
    assert whole <= cap
    assert whole / 2 <= found <= whole
