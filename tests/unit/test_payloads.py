from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import BadRequest, InvalidPayload, TooLarge
from orchestrator.payloads import MAX_DEPTH, check_payload, check_storable

SCHEMA = {
    "type": "object",
    "required": ["permitNo"],
    "properties": {"permitNo": {"type": "string"}, "fees": {"type": "array", "items": {"type": "number"}}},
}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize("payload", [None, [], "text", 7, True])
def test_a_payload_is_an_object_and_the_error_shows_one(payload: Any) -> None:
    with pytest.raises(BadRequest, match="must be a JSON object, as in"):
        check_payload(payload, None, 1000)


def test_a_payload_that_fits_its_schema_passes_and_without_one_anything_does() -> None:
    check_payload({"permitNo": "P-1", "fees": [1, 2.5]}, SCHEMA, 1000)
    check_payload({"anything": None}, None, 1000)


def test_every_path_that_fails_is_told_at_once() -> None:
    with pytest.raises(InvalidPayload) as caught:
        check_payload({"fees": [1, "two"]}, SCHEMA, 1000)
    told = [problem.message for problem in caught.value.problems]
    assert told == ["payload: 'permitNo' is a required property", "payload.fees[1]: 'two' is not of type 'number'"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\udfff": 1}, {1, 2}, b"bytes"])
def test_what_json_cannot_keep_is_refused(value: Any) -> None:
    with pytest.raises(BadRequest, match="the answer cannot be kept as JSON"):
        check_storable({"a": [value]}, "the answer", 1000)


@pytest.mark.parametrize("value", ["\x00", "a\x00b", "\\\x00", "\\\\\x00", {"\x00": 1}])
def test_a_nul_character_is_refused_for_postgres_cannot_keep_it(value: Any) -> None:
    with pytest.raises(BadRequest, match="NUL"):
        check_storable([value], "it", 1000)


@pytest.mark.parametrize("value", ["\\u0000", "\\\\u0000", "u0000", "C:\\u0000\\temp"])
def test_text_that_only_looks_like_an_escaped_nul_is_kept(value: str) -> None:
    check_storable([value], "it", 1000)


def test_the_limit_is_in_bytes_as_they_are_stored() -> None:
    check_storable("é" * 10, "it", 22)
    with pytest.raises(TooLarge, match="it has 22 bytes; at most 21"):
        check_storable("é" * 10, "it", 21)


@pytest.mark.parametrize("kind", [list, tuple])
def test_nesting_is_bounded_before_anything_recurses_into_it(kind: type[Any]) -> None:
    check_storable(nested(MAX_DEPTH), "it", 10_000)
    value: Any = 1
    for _ in range(50_000):
        value = kind([value])
    with pytest.raises(BadRequest, match="nested more than 100"):
        check_storable(value, "it", 10**6)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
)


@settings(deadline=None)
@given(JSON)
def test_what_passes_survives_json_and_holds_no_nul_and_nothing_else_is_raised(value: Any) -> None:
    try:
        check_storable(value, "it", 10_000)
    except (BadRequest, TooLarge):
        return
    assert json.loads(json.dumps(value, ensure_ascii=False)) == value
    assert not any("\x00" in text for text in texts(value))


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [found for pair in value.items() for part in pair for found in texts(part)]
    if isinstance(value, list):
        return [found for part in value for found in texts(part)]
    return [value] if isinstance(value, str) else []
