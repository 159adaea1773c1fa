"""Durations as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.durations import seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("5m", 300),
        ("48h", 172_800),
        ("2d", 172_800),
        ("1.5h", 5400),
        ("PT48H", 172_800),
        ("P1DT12H", 129_600),
        (" 10s ", 10),
    ],
)
def test_a_duration_is_read_as_seconds(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "10", "10 s", "h", "-5m", "5w", "48hours", "1h30m", "PT", "tomorrow"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"48h|ten years"):
        seconds(text)


@pytest.mark.parametrize("text", ["0s", "0ms", "5000d", "P20Y1D"])
def test_a_duration_is_more_than_nothing_and_less_than_ten_years(text: str) -> None:
    with pytest.raises(ValueError, match=r"ten years|varies"):
        seconds(text)


def test_months_are_refused_because_their_length_varies() -> None:
    with pytest.raises(ValueError, match="write days"):
        seconds("P1M")


@settings(deadline=None)
@given(st.text())
def test_no_text_raises_anything_but_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert seconds(text) > 0
