"""CEL as authors of definitions meet it."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import expression
from orchestrator.definition import Expression
from orchestrator.errors import ExpressionError
from orchestrator.language.scope import Named, Scope

SCOPE = Scope(
    steps={
        **dict.fromkeys(["a", "up-load", "up_load", "in"], Named()),
        "maybe": Named(may_be_skipped=True),
        "each": Named(is_list=True),
        "perhaps-each": Named(is_list=True, may_be_skipped=True),
    },
    items=("doc", "page"),
)


def outcome(result: Any) -> dict[str, Any]:
    return {"result": result, "output": {"result": result}, "status": "SUCCEEDED", "error": None, "decision": None}


CONTEXT: dict[str, Any] = {
    "payload": {
        "fee": 75,
        "part": 75.5,
        "list": [1, 2, 3],
        "text": "permit",
        "nothing": None,
        "yes": True,
        "inner": {"b": 1},
        "huge": 2**70,
    },
    "steps": {
        "a": outcome({"ok": True, "n": 2}),
        "up-load": outcome(3),
        "up_load": outcome(30),
        "in": outcome(1),
        "each": [outcome(1), {**outcome(None), "status": "SKIPPED"}],
    },
    "trace": "0af7",
    "tenant": "city",
    "items": {"doc": {"name": "plan", "pages": [1, 2], "huge": 2**70}, "page": 3},
}


def value(source: str, context: dict[str, Any] = CONTEXT) -> Any:
    return expression.evaluate(sound(source), context)


def sound(source: str, **options: Any) -> Expression:
    problems, checked = expression.check(source, SCOPE, **options)
    assert problems == []
    return checked


def problem(source: str, **options: Any) -> str:
    problems, _ = expression.check(source, SCOPE, **options)
    assert problems, f"{source} is sound"
    return "; ".join(problems)


def rendered(template: Any, context: dict[str, Any] = CONTEXT) -> Any:
    problems, checked = expression.check_template(template, SCOPE)
    assert problems == []
    return expression.render(checked, context)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("payload.fee", 75),
        ("payload.list[1]", 2),
        ("payload.text + '!'", "permit!"),
        ("payload.nothing == null", True),
        ("!steps.a.result.ok", False),
        ("steps.a.status", "SUCCEEDED"),
        ("trace + tenant", "0af7city"),
        ("payload.list.exists(x, x > 2)", True),
        ("payload.list.map(x, x * 2)", [2, 4, 6]),
        ("has(payload.nope)", False),
        ("has(payload.inner.b) ? 'y' : 'n'", "y"),
        ("{'a': [payload.fee, null]}", {"a": [75, None]}),
        ("{1: 2}", {"1": 2}),
        ("1u", 1),
        ("string(timestamp('2020-01-01T00:00:00Z'))", "2020-01-01T00:00:00Z"),
        ("payload.text.matches('^p.*t$')", True),
        ("math.round(payload.part)", 76.0),
    ],
)
def test_an_expression_gives_plain_json(source: str, expected: Any) -> None:
    assert value(source) == expected
    assert type(value(source)) is type(expected)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("payload.fee * 1.5", 112.5),
        ("payload.part * 2", 151.0),
        ("payload.fee + payload.part", 150.5),
        ("payload.fee - 0.5 > 74 ? 'more' : 'less'", "more"),
        ("payload.fee * 1.5 == 112.5", True),
        ("payload.fee == 75.0", True),
        ("payload.part > payload.fee", True),
        ("payload.list.map(x, x * 0.5)", [0.5, 1.0, 1.5]),
        ("payload.part % 2", 1.5),
        ("payload.fee * (1 + 0.5)", 112.5),
    ],
)
def test_whole_and_fractional_numbers_mix(source: str, expected: Any) -> None:
    assert value(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("payload.fee / 2", 37.5),
        ("payload.fee / payload.list[1]", 37.5),
        ("payload.part / 2", 37.75),
        ("payload.fee / 3 * 3", 75),
        ("int(payload.fee / 2)", 37),
        ("payload.list[payload.list[0]] / 2", 1),
    ],
)
def test_a_division_is_that_of_json_numbers(source: str, expected: Any) -> None:
    assert value(source) == expected
    assert type(value(source)) is type(expected)


def test_a_slash_in_a_text_or_a_comment_is_no_division() -> None:
    assert value("payload.fee * 2 + size('a/b') // or so") == 153


def test_whole_numbers_pass_through_whatever_their_length() -> None:
    assert value("payload.huge") == 2**70
    assert value("payload.huge > 1.0")
    assert rendered({"id": "${payload.huge}"}) == {"id": 2**70}


@settings(deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
        ),
    )
)
def test_a_payload_comes_back_as_it_was(payload: Any) -> None:
    assert rendered("${payload}", {**CONTEXT, "payload": payload}) == payload


@pytest.mark.parametrize(
    "source",
    [
        "payload.nope",
        "payload.nope + 1",
        "payload.list[9]",
        "1 / 0",
        "payload.fee / 0",
        "payload.text - 1",
        "!payload.text",
        "payload.list.map(x, payload.list.map(y, payload.list[x + y]))",
        "type(1)",
        "b'x'",
        "duration('5s')",
        "1.0 / 0.0",
    ],
)
def test_what_cannot_be_evaluated_names_the_expression(source: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        value(source)
    assert source in str(caught.value)


def test_an_endless_iteration_runs_out_of_its_budget() -> None:
    payload = {"list": list(range(300))}
    with pytest.raises(ExpressionError, match="budget"):
        value("payload.list.map(a, payload.list.map(b, payload.list.map(c, 1)))", {**CONTEXT, "payload": payload})


def test_a_result_that_would_fill_the_memory_is_refused() -> None:
    payload = {"list": list(range(500)), "text": "x" * 100_000}
    with pytest.raises(ExpressionError, match="larger than"):
        value("payload.list.map(x, payload.text)", {**CONTEXT, "payload": payload})


# --- steps -----------------------------------------------------------------------------------------


def test_check_names_the_steps_that_an_expression_names() -> None:
    named = sound("steps.up-load.result + steps.a.result.n + size('steps.zz')")
    assert named.steps == ("up-load", "a")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("steps.up-load.result", 3),
        ("steps.up_load.result", 30),
        ("steps.up-load.result + steps.up_load.result", 33),
        ("steps.a.result.n-steps.in.result", 1),
        ("steps.in.result", 1),
        ("steps . a . result . n", 2),
    ],
)
def test_any_step_id_can_be_named(source: str, expected: int) -> None:
    assert value(source) == expected


def test_an_unknown_step_is_a_problem_with_a_suggestion() -> None:
    assert problem("true && steps.up-laod.result") == (
        "column 9: no step `up-laod` has completed by then (did you mean `up-load`?)"
    )


def test_a_step_that_stands_elsewhere_is_said_to() -> None:
    assert "comes later" in problem("steps.later.result", elsewhere=["later"])


def test_a_step_that_may_be_skipped_is_named_only_behind_has() -> None:
    assert "may be skipped" in problem("steps.maybe.result.ok")
    assert "may be skipped" in problem("has(payload.x) && steps.maybe.result.ok")
    assert sound("has(steps.maybe.result) && steps.maybe.result.ok").steps == ("maybe",)


@pytest.mark.parametrize(
    "source",
    [
        "has(steps.maybe)",
        "has(steps.maybe.result)",
        "has(steps.maybe.result.deep.down)",
        "has( steps.maybe ) && steps.maybe.result.ok",
    ],
)
def test_has_of_a_skipped_step_is_false(source: str) -> None:
    assert value(source) is False
    ran = {**CONTEXT, "steps": {"maybe": outcome({"ok": True, "deep": {"down": 1}})}}
    assert value(source, ran) is True


def test_a_skipped_step_named_without_has_fails_clearly() -> None:
    with pytest.raises(ExpressionError, match="was skipped"):
        expression.evaluate(Expression(source="steps.maybe.result", steps=("maybe",)), CONTEXT)


@pytest.mark.parametrize("source", ["steps", "steps['a'].result", "steps.", "size(steps)"])
def test_steps_alone_is_a_problem(source: str) -> None:
    assert "followed by a step's id" in problem(source)


def test_a_member_called_steps_is_no_step() -> None:
    assert value("payload.steps.zz", {**CONTEXT, "payload": {"steps": {"zz": 5}}}) == 5
    assert value("payload.steps.zz + 1", {**CONTEXT, "payload": {"steps": {"zz": 5}}}) == 6


# --- loops -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("doc", CONTEXT["items"]["doc"]),
        ("doc.name", "plan"),
        ("doc.huge", 2**70),
        (" doc . name ", "plan"),
        ("doc.name + string(page)", "plan3"),
        ("has(doc.size)", False),
        ("page / 2", 1.5),
        ("[4, 5].map(doc, doc + 1)", [5, 6]),  # a variable of CEL's own hides it
        ("payload.inner.b + page", 4),
    ],
)
def test_the_item_of_a_loop_is_named_as_the_loop_calls_it(source: str, expected: Any) -> None:
    assert value(source) == expected


def test_check_names_the_items_that_an_expression_names() -> None:
    assert sound("page + size(doc.name) + payload.doc.page").items == ("doc", "page")
    assert sound("payload.doc.page").items == ()
    problems, template = expression.check_template({"a": "${page}", "b": ["${doc.name} ${steps.a.status}"]}, SCOPE)
    assert (problems, template.items, template.steps) == ([], ("page", "doc"), ("a",))


def test_an_item_that_no_loop_around_has_is_unknown() -> None:
    problems, _ = expression.check("doc.name", Scope(items=("page",)))
    assert "an expression may name payload, steps.<id>, trace, tenant and page" in problems[0]


def test_an_item_that_is_not_in_the_context_is_an_error() -> None:
    for source in ("doc.name", "doc.name + ''"):
        with pytest.raises(ExpressionError):
            value(source, {**CONTEXT, "items": {}})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("steps.each.map(one, one.result)", [1, None]),
        ("steps.each[0].result", 1),
        ("size(steps.each)", 2),
        ("steps.each.filter(one, one.status == 'SKIPPED').size()", 1),
        ("has(steps.each)", True),
        ("has(steps.perhaps-each)", False),
        ("has(steps.perhaps-each) ? steps.perhaps-each : []", []),
    ],
)
def test_a_step_that_ran_in_a_loop_is_a_list(source: str, expected: Any) -> None:
    assert value(source) == expected


def test_has_is_true_of_a_loop_that_went_through_nothing() -> None:
    assert value("has(steps.perhaps-each)", {**CONTEXT, "steps": {"perhaps-each": []}}) is True


@pytest.mark.parametrize("source", ["steps.each.result", "has(steps.each.result)", "1 + steps.each . result.n"])
def test_a_member_of_a_list_is_a_problem_with_a_mend(source: str) -> None:
    assert "`each` runs in a loop: here it is a list, as in steps.each.map(one, one.result)" in problem(source)


def test_a_list_that_may_be_skipped_is_named_only_behind_has() -> None:
    assert "ask has(steps.perhaps-each) first" in problem("size(steps.perhaps-each)")
    assert "may be skipped" not in problem("steps.perhaps-each.result"), "one mend at a time"


def test_a_loop_goes_through_a_list_of_limited_length() -> None:
    assert expression.items(sound("payload.list", wanted="list"), CONTEXT, 3) == [1, 2, 3]
    assert expression.items(sound("doc.pages.map(page, page * 2)", wanted="list"), CONTEXT, 3) == [2, 4]
    with pytest.raises(ExpressionError, match="gave 3 items: a loop goes through at most 2"):
        expression.items(sound("payload.list"), CONTEXT, 2)
    for source in ("payload.text", "payload.inner", "payload.nothing", "payload.fee"):
        with pytest.raises(ExpressionError, match="a loop goes through a list"):
            expression.items(sound(source), CONTEXT, 3)


def test_what_can_be_no_list_is_a_problem() -> None:
    assert "gives int, where a list is needed" in problem("1 + 1", wanted="list")


# --- moments ---------------------------------------------------------------------------------------

NINE = datetime(2026, 3, 1, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("timestamp('2026-03-01T09:00:00Z')", NINE),
        ("timestamp('2026-03-01T10:00:00+01:00')", NINE),
        ("timestamp(payload.at) + duration('24h')", NINE + timedelta(days=1)),
        ("timestamp(payload.at) + duration(string(60 / 2) + 'm')", NINE + timedelta(minutes=30)),
        ("payload.at", NINE),
        ("'2026-03-01T10:00:00+01:00'", NINE),
        ("payload.yes ? payload.at : ''", NINE),
    ],
)
def test_a_moment_is_a_time_or_a_text_with_its_offset(source: str, expected: datetime) -> None:
    payload = {"at": "2026-03-01T09:00:00Z", "yes": True}
    found = expression.moment(sound(source, wanted="moment"), {**CONTEXT, "payload": payload})
    assert (found, found.tzinfo) == (expected, UTC)


@pytest.mark.parametrize(
    "said", ["2026-03-01T09:00:00", "2026-03-01", "tomorrow", "", 5, None, True, {}, "0001-01-01T00:00:00+05:00"]
)
def test_what_is_no_moment_is_named(said: Any) -> None:
    with pytest.raises(ExpressionError, match=r"`payload.at` gave .*: a moment is"):
        expression.moment(sound("payload.at"), {**CONTEXT, "payload": {"at": said}})


def test_what_can_be_no_moment_is_a_problem() -> None:
    assert "gives duration, where a moment is needed" in problem("duration('5s')", wanted="moment")


# --- problems --------------------------------------------------------------------------------------


def test_problems_name_the_author_s_column_however_the_source_was_rewritten() -> None:
    found = problem("has(steps.up-load.result) && foo && steps.up_load.result == bar")
    assert "column 30: undeclared reference to 'foo'" in found
    assert "column 61: undeclared reference to 'bar'" in found


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("payload.fee ==", "column 15: Syntax error"),
        ("", "Syntax error"),
        ("trace + 1", "no matching overload"),
        ("1.5 > 1", "as in 2.0"),
        ("${payload.fee}", "without `${ }`"),
        ("x" * 5000, "at most 4000"),
        ("(" * 300, "column"),
        ("1" + "+1" * 1500, "column"),
        ("a.b.c", "an expression may name payload"),
        ("steps.a.result +", "column 17"),
        ("payload.fee = 1", "CEL writes `==` for `=`"),
        ("payload.fee === 1", "CEL writes `==` for `===`"),
        ("payload.yes and payload.yes", "CEL writes `&&` for `and`"),
        ("payload.yes or payload.yes", "CEL writes `||` for `or`"),
        ("not payload.yes", "CEL writes `!` for `not`"),
        ("len(payload.list) > 1", "CEL writes `size` for `len`"),
        ("payload.yes == True", "CEL writes `true` for `True`"),
        ("payload.nothing == None", "CEL writes `null` for `None`"),
        ("steps.a.results.ok", "a step has no `results` (did you mean `result`?)"),
        ("has(steps.maybe.reslt) ? 1 : 2", "did you mean `result`?"),
        ("steps.a.charge", "steps.a.result.…"),
    ],
)
def test_a_wrong_source_is_explained(source: str, said: str) -> None:
    assert said in problem(source)


def test_a_half_written_choice_is_told_in_the_author_s_terms() -> None:
    found = problem("payload.yes ? 1")
    assert "Syntax error" in found
    assert "nil" not in found


def test_a_condition_gives_true_or_false() -> None:
    assert "gives int, where true or false" in problem("1 + 1", wanted="truth")
    assert expression.check("payload.yes", Scope(), wanted="truth")[0] == []
    assert expression.truth(Expression(source="payload.yes"), CONTEXT) is True
    with pytest.raises(ExpressionError, match="gave 75"):
        expression.truth(Expression(source="payload.fee"), CONTEXT)


@settings(deadline=None)
@given(st.text() | st.text("steps.ahu-p()[]{}'\"`\\/+!?:&|<>=, 019\n", max_size=40))
def test_any_source_is_checked_and_evaluated_without_surprise(source: str) -> None:
    problems, checked = expression.check(source, SCOPE)
    if problems:
        return
    with contextlib.suppress(ExpressionError):
        expression.evaluate(checked, CONTEXT)


# --- templates -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("${payload.fee}", 75),
        ("${payload.list}", [1, 2, 3]),
        ("${payload.nothing}", None),
        ("Fee: ${payload.fee} for ${payload.text}", "Fee: 75 for permit"),
        ("${payload.part * 2} due", "151 due"),
        ("x ${payload.nothing} ${payload.yes} ${payload.inner}", 'x null true {"b": 1}'),
        ("$${payload.fee}", "${payload.fee}"),
        ("a $${x} ${payload.fee}", "a ${x} 75"),
        ("$5 and }", "$5 and }"),
        ("${ {'a': '}'}.a }", "}"),
        ("${payload.text}${payload.text}", "permitpermit"),
        ("", ""),
        (12, 12),
        (None, None),
        (
            {"amount": "${payload.fee}", "list": ["${payload.text}", {"deep": "${trace}"}]},
            {"amount": 75, "list": ["permit", {"deep": "0af7"}]},
        ),
    ],
)
def test_a_template_is_filled_in(template: Any, expected: Any) -> None:
    assert rendered(template) == expected


def test_problems_of_a_template_name_the_text_that_they_are_in() -> None:
    problems, _ = expression.check_template({"x": ["${payload", "${steps.nope.result}"], "y": "${}"}, SCOPE)
    assert [path for path, _ in problems] == [("x", 0), ("x", 1), ("y",)]
    assert "not closed" in problems[0][1]


def test_a_template_with_hundreds_of_places_is_refused() -> None:
    problems, _ = expression.check_template(["${payload}"] * 201, Scope())
    assert "more than 200" in problems[0][1]


@settings(deadline=None)
@given(st.text("${}$'\"a \\{", max_size=30))
def test_any_template_is_checked_and_rendered_without_surprise(text: str) -> None:
    problems, checked = expression.check_template(text, Scope())
    if problems:
        return
    with contextlib.suppress(ExpressionError):
        expression.render(checked, CONTEXT)


def test_one_program_serves_many_threads() -> None:
    wrong: list[Any] = []

    def work(number: int) -> None:
        for turn in range(100):
            got = value("payload.list.map(x, x * 1.5)", {**CONTEXT, "payload": {"list": [number, turn]}})
            wrong.extend([got] if got != [number * 1.5, turn * 1.5] else [])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
