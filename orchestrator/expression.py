"""CEL over `payload`, `steps.<id>`, `trace` and `tenant`.

Standard CEL and its `math` functions, with two additions for authors who think in JSON:
- whole and fractional numbers mix: `payload.fee * 1.5` works for 75 as for 75.5;
- where an expression holds a `/`, the context's whole numbers are bound as doubles, so that
  `payload.fee / 2` is 37.5; whole results come back as whole numbers. `int(…)` truncates.

CEL's string extensions are left out: nested `replace` makes gigabytes out of a small payload.

Steps are declared one by one as dotted variables (`steps.uploadDocs`), so that an unknown one is
an error when a definition is loaded; a step that was skipped is bound to `{}`, and `has()` of
anything of it is false. Source rewriting for that is done on tokens, never inside text literals.
"""

from __future__ import annotations

import difflib
import json
import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_math

from orchestrator.definition import Expression, Template
from orchestrator.errors import ExpressionError, Json
from orchestrator.language.cel_source import Source, parse, split_template
from orchestrator.language.cel_values import Plain, as_doubles

MAX_SOURCE = 4000  # characters
MAX_PLACES = 200  # `${…}` in one template: each may bring the whole payload

PATH = re.compile(r"\s*(payload|trace|tenant|steps\s*\.\s*[A-Za-z][\w-]*)((?:\s*\.\s*[A-Za-z_]\w*)*)\s*", re.ASCII)
CEL_PLACE = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*?)(?=\n \||\nERROR:| \[INVALID_ARGUMENT\]|$)", re.DOTALL)


def check(
    source: str, *, known: Mapping[str, bool], boolean: bool = False, elsewhere: Collection[str] = ()
) -> tuple[list[str], tuple[str, ...]]:
    """What is wrong with `source` (each text names its column), and the ids of the steps that it names.

    `known` has the steps that have completed by then, and whether each may have been skipped:
    such a step may be named only where the expression also asks `has(steps.<id>…)`.
    With `boolean`, an expression that cannot give true or false is a problem. `elsewhere` has the ids
    of all steps, for a better message.
    """
    if len(source) > MAX_SOURCE:
        return [f"the expression has {len(source)} characters; at most {MAX_SOURCE} are allowed"], ()
    if source.lstrip().startswith("${"):
        return ["column 1: an expression stands here without `${ }`"], ()
    parsed = parse(source, known)
    problems = [f"column {column}: {message}" for column, message in parsed.problems]
    problems += [_unknown(name, column, known, elsewhere) for name, column in parsed.unknown]
    problems += [
        f"column {column}: step `{name}` may be skipped: ask has(steps.{name}.…) first, as in "
        f"`has(steps.{name}.result) && steps.{name}.result…`"
        for name, column in parsed.unguarded
        if known[name]
    ]
    return problems or _compile_problems(parsed, boolean), parsed.steps


def check_template(
    value: Json, *, known: Mapping[str, bool], elsewhere: Collection[str] = ()
) -> tuple[list[tuple[tuple[str | int, ...], str]], tuple[str, ...]]:
    """As `check`, for every `${…}` of a JSON value; each problem comes with the path to its text."""
    problems: list[tuple[tuple[str | int, ...], str]] = []
    names: dict[str, None] = {}
    if sum(text.count("${") for _, text in _texts(value, ())) > MAX_PLACES:
        return [((), f"more than {MAX_PLACES} `${{…}}` in one input: send the whole `${{payload}}` instead")], ()
    for path, text in _texts(value, ()):
        pieces, unclosed = split_template(text)
        if unclosed is not None:
            problems.append((path, f"column {unclosed + 1}: `${{` is not closed; write `$${{` if text is meant"))
        for piece in pieces:
            if isinstance(piece, Source):
                found, steps = check(piece.text, known=known, elsewhere=elsewhere)
                problems += [(path, f"${{{piece.text}}}: {problem}") for problem in found]
                names |= dict.fromkeys(steps)
    return problems, tuple(names)


def evaluate(expression: Expression, context: Mapping[str, Any]) -> Json:
    """The value as plain JSON. Raises ExpressionError.

    `context` is {payload, steps: {id: {result, output, status, error, decision}}, trace, tenant};
    steps that were skipped or not reached are absent from `steps`.
    """
    return _evaluate(expression.source, expression.steps, context)


def truth(expression: Expression, context: Mapping[str, Any]) -> bool:
    """As `evaluate`, for a condition: anything but true or false is an ExpressionError."""
    value = evaluate(expression, context)
    if not isinstance(value, bool):
        raise ExpressionError(f"`{expression.source}` gave {_short(value)}: a condition gives true or false")
    return value


def render(template: Template, context: Mapping[str, Any]) -> Json:
    """The template with its `${…}` filled in. Raises ExpressionError.

    A text that is one `${…}` as a whole takes the type of its value; elsewhere the value becomes text
    (null, booleans, numbers, lists and objects as in JSON), and `$${` is a literal `${`.
    """
    return _render(template.value, template.steps, context)


def _render(value: Json, names: tuple[str, ...], context: Mapping[str, Any]) -> Json:
    if isinstance(value, str):
        return _render_text(value, names, context) if "${" in value else value
    if isinstance(value, dict):
        return {key: _render(item, names, context) for key, item in value.items()}
    return [_render(item, names, context) for item in value] if isinstance(value, list) else value


def _render_text(text: str, names: tuple[str, ...], context: Mapping[str, Any]) -> Json:
    pieces, _ = split_template(text)
    if len(pieces) == 1 and isinstance(pieces[0], Source):
        return _evaluate(pieces[0].text, names, context)
    return "".join(
        _as_text(_evaluate(piece.text, names, context)) if isinstance(piece, Source) else piece for piece in pieces
    )


def _as_text(value: Json) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def _texts(value: Json, path: tuple[str | int, ...]) -> Iterable[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, (*path, key))


def _unknown(name: str, column: int, known: Mapping[str, bool], elsewhere: Collection[str]) -> str:
    if name in elsewhere:
        return (
            f"column {column}: step `{name}` has not completed by then: it is this step, comes later, "
            "runs in another branch, or is a block (name a step inside it)"
        )
    near = difflib.get_close_matches(name, known, n=1)
    seen = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known) or 'no step'}"
    return f"column {column}: no step `{name}` has completed by then ({seen})"


# --- compiling -----------------------------------------------------------------------------------


def _mixed(name: str, apply: Callable[[Any, Any], Any], *extra: list[Any]) -> cel.FunctionDecl:
    """An operator of a whole and a fractional number. The result is `dyn`, so that `… > 74` still type-checks."""
    pairs = [[cel.Type.INT, cel.Type.DOUBLE], [cel.Type.DOUBLE, cel.Type.INT], *extra]
    return cel.FunctionDecl(
        name,
        [
            cel.Overload(f"{name}_mixed_{number}", return_type=cel.Type.DYN, parameters=pair, impl=apply)
            for number, pair in enumerate(pairs)
        ],
    )


NUMBERS = cel.CelExtension(
    "numbers",
    [
        _mixed("_+_", operator.add),
        _mixed("_-_", operator.sub),
        _mixed("_*_", operator.mul),
        _mixed("_/_", operator.truediv),
        _mixed("_%_", math.fmod, [cel.Type.DOUBLE, cel.Type.DOUBLE]),
    ],
)
EXTENSIONS = [NUMBERS, ext_math.ExtMath()]


@dataclass(frozen=True, kw_only=True)
class _Program:
    run: Any  # cel.Expression
    parsed: Source


def _build(parsed: Source) -> Any:
    variables = {root: cel.Type.DYN if root == "payload" else cel.Type.STRING for root in parsed.roots}
    for variable in parsed.variables.values():
        variables[f"steps.{variable}"] = cel.Type.DYN
        variables[f"known.{variable}"] = cel.Type.BOOL
    return cel.NewEnv(variables=variables, extensions=EXTENSIONS).compile(parsed.cel)


@lru_cache(maxsize=2048)
def _program(source: str, names: tuple[str, ...]) -> _Program:
    parsed = parse(source, dict.fromkeys(names, False))
    try:
        return _Program(run=_build(parsed), parsed=parsed)
    except RuntimeError as error:
        raise ExpressionError(f"`{source}`: {'; '.join(_explained(error, parsed))}") from error


def _compile_problems(parsed: Source, boolean: bool) -> list[str]:
    try:
        program = _build(parsed)
    except RuntimeError as error:
        return _explained(error, parsed)
    kind = program.return_type().name()
    if boolean and kind.lower() not in ("bool", "dyn"):
        return [f"column 1: this gives {kind.lower()}, where true or false is needed"]
    return []


def _explained(error: RuntimeError, parsed: Source) -> list[str]:
    """CEL's own words, at the author's columns, with a mend where one is known."""
    places = CEL_PLACE.findall(str(error))
    if not places:
        return [f"column 1: {str(error).splitlines()[0]}"]
    texts = []
    for _, column, raw in places:
        message = raw.replace(" (in container '')", "").split(" expecting {")[0]
        texts.append(f"column {parsed.column(int(column))}: {message}{_mend(message)}")
    return texts


def _mend(message: str) -> str:
    if message.startswith("undeclared reference"):
        return "; an expression may name payload, steps.<id>, trace and tenant"
    if "(double, int)" in message or "(int, double)" in message:
        return "; write the whole number with a point, as in 2.0"
    return ""


# --- evaluating ----------------------------------------------------------------------------------


def _evaluate(source: str, names: tuple[str, ...], context: Mapping[str, Any]) -> Json:
    if keys := _plain_path(source, names):  # exact (whole numbers of any length) and fast: no conversion at all
        return _follow(source, keys, context)
    program = _program(source, names)
    bound = _bindings(program.parsed, context)
    try:
        return _run(program, bound)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        if "out of range" not in str(error):
            raise ExpressionError(f"`{source}`: {error}") from error
    try:  # whole numbers beyond 64 bits: CEL has none, JSON readers take them for doubles
        return _run(program, as_doubles(bound, huge_only=True))
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise ExpressionError(f"`{source}`: {error}") from error


def _plain_path(source: str, names: tuple[str, ...]) -> list[str]:
    """The keys of a source such as `steps.x.result.total`; nothing for any other (`steps.a-trace` subtracts)."""
    match = PATH.fullmatch(source)
    keys = [part.strip() for part in (match[1] + match[2]).split(".")] if match else []
    return [] if keys[:1] == ["steps"] and keys[1] not in names else keys


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
    bound = {root: context.get(root) for root in parsed.roots}
    steps = context.get("steps", {})
    for name, variable in parsed.variables.items():
        bound[f"steps.{variable}"] = steps.get(name, {})
        bound[f"known.{variable}"] = name in steps
    return as_doubles(bound, huge_only=False) if parsed.divides else bound


def _run(program: _Program, bound: dict[str, Any]) -> Json:
    value = program.run.eval(data=bound)
    if value.type() == cel.Type.ERROR:
        raise RuntimeError(_error_text(str(value.plain_value())))
    return Plain(whole=program.parsed.divides).json(value)


def _error_text(text: str) -> str:
    text = text.split(": ", 1)[-1]
    return re.sub(r'Key not found in map : "?(.*?)"?$', r"there is no `\1`", text)


def _short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
