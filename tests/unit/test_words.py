"""The pages have words for every state, and show what they have no words for as it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from orchestrator import states
from orchestrator.ui import words


def test_every_instance_state_has_words() -> None:
    assert set(words.INSTANCE_WORDS) == set(states.INSTANCE_STATES)


def test_every_step_state_has_words() -> None:
    assert set(words.STEP_WORDS) == set(states.STEP_STATES)


def test_a_state_without_words_is_not_hidden() -> None:
    assert words.state_words("NOVEL", words.STEP_WORDS) == "NOVEL"


def test_times_are_cut_to_seconds_and_name_their_zone() -> None:
    assert words.when("2026-11-21T21:08:03.123456+00:00") == "2026-11-21 21:08:03 UTC"
    assert words.when("2026-11-21T22:08:03+01:00") == "2026-11-21 22:08:03 +0100"
    assert not words.when(None)


def test_long_values_are_cut_and_say_by_how_much() -> None:
    assert words.readable("x" * 12, 10) == "xxxxxxxxxx … (2 more characters)"
    assert words.readable({"fee": "£75"}) == '{\n  "fee": "£75"\n}'
    assert not words.readable(None)


def test_lengths_of_time_are_said_in_their_two_largest_units() -> None:
    said = {0.004: "0 s", 0.12: "0.12 s", 9: "9 s", 40: "40 s", 3900: "1 h 5 min", 187_200: "2 d 4 h", 86_400: "1 d"}
    assert {seconds: words.lasting(seconds) for seconds in said} == said


def test_what_is_to_come_and_what_is_past_is_told_apart() -> None:
    now = datetime(2026, 11, 21, 8, tzinfo=UTC)
    assert words.remaining("2026-11-22T09:00:00+00:00", now) == "in 1 d 1 h"
    assert words.remaining("2026-11-21T07:55:00+00:00", now) == "5 min ago"


def test_every_state_has_a_mark_that_is_not_the_one_for_no_state() -> None:
    assert not [one for one in (*states.INSTANCE_STATES, *states.STEP_STATES) if words.mark(one) == words.mark("NOVEL")]


def test_what_comes_when_nobody_decides_is_said_as_a_sentence() -> None:
    then = {"kind": "fail", "decision": None}
    further = {"kind": "escalate", "decision": None, "to": "zoningPortal.deputy", "timeout": 86400.0, "then": then}
    assert words.outlook(further) == (
        "it goes to zoningPortal.deputy, which has 1 d; after that the step fails, and what was done is undone"
    )
    assert words.outlook({"kind": "decide", "decision": "approved"}) == "it counts as approved"
    assert not words.outlook(None)


def test_a_large_payload_is_cut_and_says_so() -> None:
    shown, is_cut = words.outline({"list": list(range(1000)), "text": "x" * 1000}, entries=10, characters=20)
    assert is_cut
    assert len(json.dumps(shown)) < 200
    assert words.outline([{"name": "a"}, {"name": "b"}], entries=3) == ([{"name": "a"}], True)  # and not: b has nothing
    assert words.outline({"fee": 75, "paid": None}) == ({"fee": 75, "paid": None}, False)


def test_only_orders_that_may_fit_are_offered() -> None:
    def offered(status: str, *steps: str) -> list[str]:
        told = {"status": status, "cancelRequested": None, "steps": [{"status": one} for one in steps]}
        return words.possible_orders(told)

    assert offered("COMPLETED") == []
    assert offered("FAILED") == ["retry"]
    assert offered("SUSPENDED") == ["resume", "cancel"]
    assert offered("RUNNING", "RETRYING") == ["retry", "suspend", "cancel"]
