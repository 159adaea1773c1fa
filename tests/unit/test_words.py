"""The pages have words for every state, and show what they have no words for as it is."""

from __future__ import annotations

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
