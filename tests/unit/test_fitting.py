"""A schema and a payload of one tenant must not stop the servers of all."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from orchestrator import fitting
from orchestrator.errors import InvalidPayload
from orchestrator.fitting import Unjudged, faults
from orchestrator.language.input_schema import problems
from orchestrator.payloads import check_payload


def test_a_pattern_that_takes_python_years_is_matched_at_once() -> None:
    began = time.monotonic()
    for schema in (
        {"properties": {"k": {"pattern": "(a+)+$"}}},
        {"propertyNames": {"pattern": "^(a+)+$"}},
        {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
    ):
        assert faults({"k": "a" * 40 + "!", "a" * 40 + "!": 1}, schema)
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"k": {"pattern": "(?=a)b"}}},
        {"properties": {"pattern": {"items": {"pattern": r"(a)\1"}}}},
        {"patternProperties": {"(?!x)": {"type": "string"}}},
    ],
)
def test_a_pattern_that_cannot_be_matched_in_linear_time_is_refused(schema: dict[str, Any]) -> None:
    [(_, told)] = problems(schema)
    assert "linear time" in told
    with pytest.raises(Unjudged, match="linear time"):
        faults({"k": "x", "pattern": ["y"]}, schema)


@pytest.mark.parametrize("name", ["default", "const", "enum", "examples"])
def test_nothing_is_fetched_whatever_a_property_is_called(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        schema = {"properties": {name: {"$ref": f"http://127.0.0.1:{server.getsockname()[1]}/x"}}}
        assert "is not a place in this schema" in problems(schema)[0][1]
        with pytest.raises(InvalidPayload, match="which is not in it"):
            check_payload({name: 1}, schema, 1000)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_property_may_be_called_as_a_keyword_is() -> None:
    schema = {"properties": {"$id": {"type": "string"}, "$schema": {"type": "string"}, "$ref": {"type": "string"}}}
    assert problems(schema) == []
    assert faults({"$id": "a", "$schema": "b", "$ref": "c"}, schema) == []
    assert faults({"$id": 1}, schema) == ["['$id']: 1 is not of type 'string'"]


def test_another_dialect_inside_is_refused_and_leads_to_no_other_matcher() -> None:
    schema = {"properties": {"k": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "(a+)+$"}}}
    assert "remove it" in problems(schema)[0][1]
    assert faults({"k": "a" * 40 + "!"}, schema)


def test_a_schema_without_end_is_no_defect_of_ours() -> None:
    with pytest.raises(InvalidPayload, match="refers to itself without end"):
        check_payload({}, {"$ref": "#"}, 1000)


def test_checking_is_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "LONGEST", 0.2)
    doubled = {f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(40)}
    began = time.monotonic()
    with pytest.raises(Unjudged, match=r"takes more than 0.2 s"):
        faults({}, {"$ref": "#/$defs/d0", "$defs": {**doubled, "d40": {}}})
    assert time.monotonic() - began < 2.0


def test_many_items_are_told_apart_quickly() -> None:
    began = time.monotonic()
    assert faults({"k": [{"n": at} for at in range(20_000)]}, {"properties": {"k": {"uniqueItems": True}}}) == []
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize(
    ("payload", "schema"),
    [
        ({"k": [1, 1.0]}, {"properties": {"k": {"uniqueItems": True}}}),
        ({"k": [1, True, 0, False]}, {"properties": {"k": {"uniqueItems": True}}}),
        ({"k": [{"a": 1, "b": 2}, {"b": 2, "a": 1}]}, {"properties": {"k": {"uniqueItems": True}}}),
        ({"k": 1, "x": 2}, {"properties": {"k": {}}, "additionalProperties": False}),
        ({"k": 1, "x": 2}, {"properties": {"k": {}}, "additionalProperties": {"type": "string"}}),
        ({"k": 1, "x": 2}, {"patternProperties": {"^k": {"type": "string"}}, "additionalProperties": False}),
        ({"k": "ab", "x": 2}, {"patternProperties": {"^[kx]$": True}, "additionalProperties": False}),
        ({"k": "xaby"}, {"properties": {"k": {"pattern": "ab"}}}),
        ({"k": "2026-01-31"}, {"properties": {"k": {"pattern": r"^\d{4}-\d\d-\d\d$"}}}),
        ({"k": 5}, {"properties": {"k": {"pattern": "^x"}}}),
        ({"k": [{"x": 1}]}, {"properties": {"k": {"items": {"additionalProperties": False}}}}),
    ],
)
def test_what_is_ours_judges_as_the_library_does(payload: dict[str, Any], schema: dict[str, Any]) -> None:
    assert bool(faults(payload, schema)) == (not Draft202012Validator(schema).is_valid(payload))


def test_keywords_whose_patterns_the_library_matches_itself_are_refused() -> None:
    schema = {"unevaluatedProperties": False, "allOf": [{"patternProperties": {"^(a+)+$": {}}}]}
    assert "cannot stand together" in problems(schema)[0][1]
    with pytest.raises(Unjudged, match="cannot stand together"):
        faults({"a" * 40 + "!": 1}, schema)
