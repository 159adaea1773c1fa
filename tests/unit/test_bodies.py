"""What is read from a request can be stored by Postgres and sent to a lane, or it is refused with a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.bodies import MAX_DEPTH, parse_json
from orchestrator.errors import BadRequest

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


@given(JSON)
def test_whatever_json_can_be_stored_is_read_unchanged(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"fee": NaN}', "NaN"),
        ('{"fee": -Infinity}', "-Infinity"),
        ('{"fee": 1e999}', "too large"),
        ('{"name": "\\u0000"}', "NUL"),
        ('{"\\u0000": 1}', "NUL"),
        ('{"name": "\\ud800"}', "surrogate"),
        ('{"fee": ' + "9" * 5000 + "}", "digits"),
        ("{", "line 1 column 2"),
        ("", "not JSON"),
        ("[" * 100_000, "inside each other"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        parse_json(text)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_depth_is_limited_to_a_hundred(opening: str, closing: str) -> None:
    parse_json(opening * MAX_DEPTH + "1" + closing * MAX_DEPTH)
    with pytest.raises(BadRequest, match="inside each other"):
        parse_json(opening * (MAX_DEPTH + 1) + "1" + closing * (MAX_DEPTH + 1))
