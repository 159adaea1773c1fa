"""YAML and JSON with positions: what two readers would understand differently is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import Invalid, Problem
from orchestrator.language.text import MAX_DEPTH, compose

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5), inner, max_size=4
        )
    ),
    max_leaves=12,
)


def problems(text: str, **options: Any) -> tuple[Problem, ...]:
    with pytest.raises(Invalid) as caught:
        compose(text, **options)
    return caught.value.problems


def places(text: str, **options: Any) -> list[tuple[int | None, int | None]]:
    return [(problem.line, problem.column) for problem in problems(text, **options)]


def test_values_and_keys_know_where_they_stand() -> None:
    composed = compose("id: x\nsteps:\n  - id: first\n    service: a.b\n")
    assert composed.data == {"id": "x", "steps": [{"id": "first", "service": "a.b"}]}
    assert composed.where(("steps", 0, "service")) == (4, 14)
    assert composed.key(("steps", 0, "service")) == (4, 5)


def test_a_path_that_is_not_in_the_text_stands_where_its_parent_does() -> None:
    assert compose("a:\n  b: 1\n").where(("a", "c", "d")) == (2, 3)


def test_json_values_know_where_they_stand() -> None:
    composed = compose('{\n  "a": [1,\n\t{"b": true}]\n}', file="x.json")
    assert composed.where(("a", 1, "b")) == (3, 8)
    assert composed.key(("a", 1, "b")) == (3, 3)


@settings(deadline=None)
@given(JSON)
def test_json_reads_as_python_reads_it(value: Any) -> None:
    for indent in (None, 2):
        assert compose(json.dumps(value, indent=indent), file="x.json").data == value


def found_in(text: str, file: str) -> tuple[Problem, ...]:
    try:
        json.dumps(compose(text, file=file).data, allow_nan=False)
    except Invalid as error:
        return error.problems
    return ()


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text("{}[]:,-'\"#&*!|>%@` \n\tab01.~<\\", max_size=60), st.sampled_from(["x.yaml", "x.json"]))
def test_any_text_is_read_or_refused_with_a_place(text: str, file: str) -> None:
    assert all(problem.line and problem.column and problem.message for problem in found_in(text, file))


@pytest.mark.parametrize(
    "word", ["no", "yes", "On", "OFF", "1:30", "0123", "0x1F", "0o17", "1_000", ".inf", "-.INF", ".nan"]
)
def test_words_that_readers_disagree_on_are_refused_with_a_mend(word: str) -> None:
    (problem,) = problems(f"a: {word}")
    assert (problem.line, problem.column) == (1, 4)
    assert problem.hint


@pytest.mark.parametrize("word", ["no", "yes", "1:30", "0123", ".nan", "true", "null", "12"])
def test_in_quotes_they_are_text(word: str) -> None:
    assert compose(f"a: '{word}'").data == {"a": word}


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("a: 1\nb: 2\na: 3", "duplicate key `a`", (3, 1)),
        ("a: &x 1", "anchors", (1, 4)),
        ("a: *x", "aliases", (1, 4)),
        ("a: !!str 1", "tags", (1, 4)),
        ("a: !python/object:os.system x", "tags", (1, 4)),
        ("when: !payload.ready ", "tags", (1, 7)),
        ("<<: {a: 1}", "merge keys", (1, 1)),
        ("1: a", "not text", (1, 1)),
        ("? [a]\n: b", "a key must be text", (1, 3)),
        ("a: 1\n---\nb: 2", "second document", (2, 1)),
        ("a: [1", "not valid YAML", (2, 1)),
        ("a:\n\tb: 1", "not valid YAML", (2, 1)),
        ("a: \a", "control characters", (1, 4)),
        ("a: 99999999999999999999", "64 bits", (1, 4)),
        ("a: 1e999", "too large", (1, 4)),
        ("", "empty", (1, 1)),
        ('{"a": 1, "a": 2}', "duplicate key `a`", (1, 10)),
    ],
)
def test_each_thing_that_is_not_plain_data_is_refused_where_it_stands(
    text: str, message: str, place: tuple[int, int]
) -> None:
    found = problems(text)
    assert message in found[0].message
    assert (found[0].line, found[0].column) == place


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ('{"a": 1,}', "`}` is not expected", (1, 9)),
        ("{'a': 1}", "`'` is not expected", (1, 2)),
        ('{"a" 1}', "colon", (1, 6)),
        ('{"a": 1\n "b": 2}', "`,` or `}`", (2, 2)),
        ('{"a": NaN}', "`N`", (1, 7)),
        ('{"a": "\n"}', "control character", (1, 8)),
        ('{"a": 1} x', "more text", (1, 10)),
        ('["', "Unterminated", (1, 2)),
        ('{"a": "\\ud800"}', "surrogate", (1, 7)),
        ("", "too early", (1, 1)),
    ],
)
def test_json_errors_name_line_and_column(text: str, message: str, place: tuple[int, int]) -> None:
    (problem,) = problems(text, file="w.json")
    assert message in problem.message
    assert (problem.line, problem.column) == place


def test_all_problems_of_a_text_come_at_once_in_its_order() -> None:
    assert places("a: no\nb: &x 1\na: 2\n") == [(1, 4), (2, 4), (3, 1)]


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 200 + "]" * 200, "- " * 5000, '{"a":' * 30_000, "{a: " * 30_000])
@pytest.mark.parametrize("file", ["x.yaml", "x.json"])
def test_deep_nesting_is_refused_before_it_hurts(text: str, file: str) -> None:
    (problem,) = problems(text, file=file)
    assert str(MAX_DEPTH) in problem.message or "not valid" in problem.message


def test_a_text_over_the_limit_is_refused_by_its_bytes() -> None:
    assert compose("é" * 50, limit=100).data == "é" * 50
    assert "102 bytes" in problems("é" * 51, limit=100)[0].message


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert compose("\ufeffa: 1").data == {"a": 1}


def test_steps_run_together_on_one_line_are_shown_in_their_right_form() -> None:
    text = (
        "id: permit-renewal\nsteps:\n"
        "  - id: uploadDocs     service: fileSvc.upload\n"
        "  - id: chargeFee      service: achSvc.charge  compensate: achSvc.refund\n"
        "  - id: updatePermitDB service: permitSvc.update\n"
    )
    found = problems(text, file="permit-renewal.yaml")
    assert [(problem.line, problem.column) for problem in found] == [(3, 24), (4, 24), (5, 24)]
    assert "- {id: chargeFee, service: achSvc.charge, compensate: achSvc.refund}" in (found[1].hint or "")
    assert str(found[0]).startswith("permit-renewal.yaml:3:24: `service` must stand on a line of its own")


@pytest.mark.parametrize(
    ("text", "file", "at"), [('{"a": "x\\u0000"}', "x.json", (1, 7)), ('a: "x\\0"', "x.yaml", (1, 4))]
)
def test_a_nul_that_postgres_could_not_keep_is_refused_where_it_stands(
    text: str, file: str, at: tuple[int, int]
) -> None:
    with pytest.raises(Invalid) as refused:
        compose(text, file=file)
    assert [(problem.line, problem.column) for problem in refused.value.problems] == [at]
    assert "NUL" in refused.value.problems[0].message
