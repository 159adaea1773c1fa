"""CEL over `payload`, `steps.<id>`, `trace` and `tenant`, and the items of the loops around (`as: doc`).

Standard CEL and its `math` functions, with two additions for authors who think in JSON:
- whole and fractional numbers mix: `payload.fee * 1.5` works for 75 as for 75.5;
- where an expression holds a `/`, the context's whole numbers are bound as doubles, so that
  `payload.fee / 2` is 37.5; whole results come back as whole numbers. `int(…)` truncates.

CEL's string extensions are left out: nested `replace` makes gigabytes out of a small payload.

Steps are declared one by one as dotted variables (`steps.uploadDocs`), so that an unknown one is
an error when a definition is loaded; a step that was skipped is bound to `{}`, and `has()` of
anything of it is false. A step that ran in a loop is a list there; `has()` of it tells whether the
loop had its turn. Source rewriting for that is done on tokens, never inside text literals.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from cel_expr_python import cel

from orchestrator.definition import Expression, Template
from orchestrator.errors import ExpressionError, Json
from orchestrator.language.cel_program import Program, Wanted, compile_problems, program
from orchestrator.language.cel_source import ROOTS, Source, parse, split_template
from orchestrator.language.cel_values import Plain, as_doubles
from orchestrator.language.cel_values import moment as moment_of
from orchestrator.language.scope import Scope

MAX_SOURCE = 4000  # characters
MAX_PLACES = 200  # `${…}` in one template: each may bring the whole payload
BROKEN = (RuntimeError, TypeError, ValueError, OverflowError)  # what an evaluation raises

MEMBERS = ("result", "output", "status", "error", "decision")  # of a step

PATH = re.compile(r"\s*(steps\s*\.\s*[A-Za-z][\w-]*|[A-Za-z_]\w*)((?:\s*\.\s*[A-Za-z_]\w*)*)\s*", re.ASCII)

TextPath: TypeAlias = tuple[str | int, ...]
Named: TypeAlias = Expression | Template


def check(
    source: str, scope: Scope, *, wanted: Wanted = "anything", elsewhere: Collection[str] = ()
) -> tuple[list[str], Expression]:
    """What is wrong with `source` (each text names its column), and the source with what it names.

    A step of the scope that may have been skipped may be named only where the expression also asks
    `has(steps.<id>…)`; of one that is a list, no member may be named. An expression that cannot give
    what is `wanted` is a problem. `elsewhere` has the ids of all steps, for a better message.
    """
    if len(source) > MAX_SOURCE:
        return [f"the expression has {len(source)} characters; at most {MAX_SOURCE} are allowed"], Expression(source="")
    if source.lstrip().startswith("${"):
        return ["column 1: an expression stands here without `${ }`"], Expression(source="")
    parsed = parse(source, scope.steps, scope.items)
    problems = _name_problems(parsed, scope, elsewhere) or compile_problems(parsed, scope.items, wanted)
    return problems, Expression(source=source, steps=parsed.steps, items=parsed.items)


def check_template(
    value: Json, scope: Scope, *, elsewhere: Collection[str] = ()
) -> tuple[list[tuple[TextPath, str]], Template]:
    """As `check`, for every `${…}` of a JSON value; each problem comes with the path to its text."""
    problems: list[tuple[TextPath, str]] = []
    named: list[Expression] = []
    if sum(text.count("${") for _, text in _texts(value, ())) > MAX_PLACES:
        said = f"more than {MAX_PLACES} `${{…}}` in one input: send the whole `${{payload}}` instead"
        return [((), said)], Template(value=value)
    for path, text in _texts(value, ()):
        pieces, unclosed = split_template(text)
        if unclosed is not None:
            problems.append((path, f"column {unclosed + 1}: `${{` is not closed; write `$${{` if text is meant"))
        for piece in pieces:
            if isinstance(piece, Source):
                found, one = check(piece.text, scope, elsewhere=elsewhere)
                problems += [(path, f"${{{piece.text}}}: {problem}") for problem in found]
                named.append(one)
    steps = tuple(dict.fromkeys(step for one in named for step in one.steps))
    return problems, Template(
        value=value, steps=steps, items=tuple(dict.fromkeys(item for one in named for item in one.items))
    )


def _name_problems(parsed: Source, scope: Scope, elsewhere: Collection[str]) -> list[str]:
    problems = [f"column {column}: {message}" for column, message in parsed.problems]
    problems += [_unknown(name, column, scope.steps, elsewhere) for name, column in parsed.unknown]
    asked_of_lists = [one for one in parsed.members if scope.steps[one[0]].is_list]
    problems += [
        f"column {column}: `{name}` runs in a loop: here it is a list, as in steps.{name}.map(one, one.{member})"
        for name, member, column in asked_of_lists
    ]
    problems += [
        _no_member(*one) for one in parsed.members if not scope.steps[one[0]].is_list and one[1] not in MEMBERS
    ]
    return problems + [
        f"column {column}: step `{name}` may be skipped: ask has({_asked(name, scope)}) first, as in "
        f"{_guarded(name, scope)}"
        for name, column in parsed.unguarded
        if scope.steps[name].may_be_skipped and not asked_of_lists
    ]


def _no_member(name: str, member: str, column: int) -> str:
    near = difflib.get_close_matches(member, MEMBERS, n=1)
    seen = (
        f"did you mean `{near[0]}`?"
        if near
        else f"there are {', '.join(MEMBERS)}; of what it said: steps.{name}.result.…"
    )
    return f"column {column}: a step has no `{member}` ({seen})"


def _asked(name: str, scope: Scope) -> str:
    return f"steps.{name}" if scope.steps[name].is_list else f"steps.{name}.…"


def _guarded(name: str, scope: Scope) -> str:
    if scope.steps[name].is_list:
        return f"`has(steps.{name}) ? steps.{name}… : []`"
    return f"`has(steps.{name}.result) && steps.{name}.result…`"


def evaluate(expression: Expression, context: Mapping[str, Any]) -> Json:
    """The value as plain JSON. Raises ExpressionError.

    `context` is {payload, steps: {id: {result, output, status, error, decision}}, trace, tenant, items: {name: value}};
    steps that were skipped or not reached are absent from `steps`, one that ran in a loop is a list of those.
    """
    return _evaluate(expression.source, expression, context)


def truth(expression: Expression, context: Mapping[str, Any]) -> bool:
    """As `evaluate`, for a condition: anything but true or false is an ExpressionError."""
    value = evaluate(expression, context)
    if not isinstance(value, bool):
        raise ExpressionError(f"`{expression.source}` gave {_short(value)}: a condition gives true or false")
    return value


def items(expression: Expression, context: Mapping[str, Any], limit: int) -> list[Json]:
    """As `evaluate`, for what a loop goes through: anything but a list of at most `limit` is an ExpressionError."""
    value = evaluate(expression, context)
    if not isinstance(value, list):
        raise ExpressionError(f"`{expression.source}` gave {_short(value)}: a loop goes through a list")
    if len(value) > limit:
        raise ExpressionError(f"`{expression.source}` gave {len(value)} items: a loop goes through at most {limit}")
    return value


def moment(expression: Expression, context: Mapping[str, Any]) -> datetime:
    """A moment in UTC, from a CEL time or an ISO 8601 text with its offset. Anything else is an ExpressionError."""
    value = _evaluate(expression.source, expression, context, times=True)
    try:
        return moment_of(value)
    except (ValueError, OverflowError) as error:
        raise ExpressionError(
            f"`{expression.source}` gave {_short(value)}: a moment is a time or a text such as 2026-03-01T09:00:00+01:00"
        ) from error


def render(template: Template, context: Mapping[str, Any]) -> Json:
    """The template with its `${…}` filled in. Raises ExpressionError.

    A text that is one `${…}` as a whole takes the type of its value; elsewhere the value becomes text
    (null, booleans, numbers, lists and objects as in JSON), and `$${` is a literal `${`.
    """
    return _render(template.value, template, context)


def _render(value: Json, named: Named, context: Mapping[str, Any]) -> Json:
    if isinstance(value, str):
        return _render_text(value, named, context) if "${" in value else value
    if isinstance(value, dict):
        return {key: _render(item, named, context) for key, item in value.items()}
    return [_render(item, named, context) for item in value] if isinstance(value, list) else value


def _render_text(text: str, named: Named, context: Mapping[str, Any]) -> Json:
    pieces, _ = split_template(text)
    if len(pieces) == 1 and isinstance(pieces[0], Source):
        return _evaluate(pieces[0].text, named, context)
    return "".join(
        _as_text(_evaluate(piece.text, named, context)) if isinstance(piece, Source) else piece for piece in pieces
    )


def _as_text(value: Json) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def _texts(value: Json, path: TextPath) -> Iterable[tuple[TextPath, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, (*path, key))


def _unknown(name: str, column: int, known: Collection[str], elsewhere: Collection[str]) -> str:
    if name in elsewhere:
        return (
            f"column {column}: step `{name}` has not completed by then: it is this step, comes later, "
            "runs in another branch, or is a block (name a step inside it)"
        )
    near = difflib.get_close_matches(name, known, n=1)
    seen = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known) or 'no step'}"
    return f"column {column}: no step `{name}` has completed by then ({seen})"


# --- evaluating ----------------------------------------------------------------------------------


def _evaluate(source: str, named: Named, context: Mapping[str, Any], *, times: bool = False) -> Any:
    """JSON; with `times` also a datetime."""
    if keys := _plain_path(source, named):  # exact (whole numbers of any length) and fast: no conversion at all
        return _follow(source, keys, context)
    compiled = program(source, named.steps, named.items)
    bound = _bindings(compiled.parsed, context)
    try:
        return _run(compiled, bound, times)
    except BROKEN as error:
        if "out of range" not in str(error):
            raise ExpressionError(f"`{source}`: {error}") from error
    try:  # whole numbers beyond 64 bits: CEL has none, JSON readers take them for doubles
        return _run(compiled, as_doubles(bound, huge_only=True), times)
    except BROKEN as error:
        raise ExpressionError(f"`{source}`: {error}") from error


def _plain_path(source: str, named: Named) -> list[str]:
    """The keys of a source such as `steps.x.result.total`; nothing for any other (`steps.a-trace` subtracts)."""
    match = PATH.fullmatch(source)
    keys = [part.strip() for part in (match[1] + match[2]).split(".")] if match else [""]
    if keys[0] in named.items:
        return ["items", *keys]
    if keys[0] == "steps":
        return keys if keys[1:] and keys[1] in named.steps else []
    return keys if keys[0] in ROOTS else []


def _follow(source: str, keys: list[str], context: Mapping[str, Any]) -> Json:
    value: Any = context
    for at, key in enumerate(keys):
        if not isinstance(value, Mapping) or key not in value:
            skipped = keys[0] == "steps" and at == 1
            raise ExpressionError(
                f"`{source}`: " + (f"step `{key}` was skipped" if skipped else f"there is no `{key}`")
            )
        value = value[key]
    return value


def _bindings(parsed: Source, context: Mapping[str, Any]) -> dict[str, Any]:
    steps, items_here = context.get("steps", {}), context.get("items", {})
    bound = {root: context.get(root) for root in parsed.roots}
    bound |= {item: items_here[item] for item in parsed.items if item in items_here}
    for name, variable in parsed.variables.items():
        bound[f"steps.{variable}"] = steps.get(name, {})
        bound[f"known.{variable}"] = name in steps
    return as_doubles(bound, huge_only=False) if parsed.divides else bound


def _run(compiled: Program, bound: dict[str, Any], times: bool) -> Any:
    value = compiled.run.eval(data=bound)
    if value.type() == cel.Type.ERROR:
        raise RuntimeError(_error_text(str(value.plain_value())))
    if times and value.type() == cel.Type.TIMESTAMP:
        return value.plain_value()
    return Plain(whole=compiled.parsed.divides).json(value)


def _error_text(text: str) -> str:
    text = text.split(": ", 1)[-1]
    return re.sub(r'Key not found in map : "?(.*?)"?$', r"there is no `\1`", text)


def _short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
