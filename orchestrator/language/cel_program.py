"""CEL programs: compiled once for each source and what it names; CEL's errors in the author's terms."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from cel_expr_python import cel
from cel_expr_python.ext import ext_math

from orchestrator.errors import ExpressionError
from orchestrator.language.cel_source import Source, parse

Wanted: TypeAlias = Literal["anything", "truth", "list", "moment"]

# Other languages' words, where CEL stumbles over them, and its own.
FOREIGN = {"and": "&&", "or": "||", "not": "!", "is": "==", "len": "size", "True": "true", "False": "false", "None": "null",
           "=": "==", "===": "=="}  # fmt: skip
STUMBLED = re.compile(r"===|(?<![=!<>])=(?!=)|\b(?:and|or|not|is|len|True|False|None)\b")
CEL_PLACE = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*?)(?=\n \||\nERROR:| \[INVALID_ARGUMENT\]|$)", re.DOTALL)
# What a type is called by CEL, without its parameters: `dyn` is decided when it is evaluated.
FITTING: dict[Wanted, tuple[tuple[str, ...], str]] = {
    "truth": (("bool", "dyn"), "true or false"),
    "list": (("list", "dyn"), "a list"),
    "moment": (("timestamp", "string", "dyn"), "a moment"),
}


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
class Program:
    run: Any  # cel.Expression
    parsed: Source


@lru_cache(maxsize=2048)
def program(source: str, steps: tuple[str, ...], items: tuple[str, ...]) -> Program:
    """Raises ExpressionError for a source that is none."""
    parsed = parse(source, steps, items)
    try:
        return Program(run=_build(parsed), parsed=parsed)
    except RuntimeError as error:
        raise ExpressionError(f"`{source}`: {'; '.join(_explained(error, parsed, items))}") from error


def compile_problems(parsed: Source, items: tuple[str, ...], wanted: Wanted) -> list[str]:
    """What CEL says against a source, each text with its column. `items` are those that could be named."""
    try:
        built = _build(parsed)
    except RuntimeError as error:
        return _explained(error, parsed, items)
    kind = built.return_type().name().lower().partition("<")[0]
    fitting, needed = FITTING.get(wanted, ((kind,), ""))
    return [] if kind in fitting else [f"column 1: this gives {kind}, where {needed} is needed"]


def _build(parsed: Source) -> Any:
    variables = {root: cel.Type.DYN if root == "payload" else cel.Type.STRING for root in parsed.roots}
    variables |= dict.fromkeys(parsed.items, cel.Type.DYN)
    for variable in parsed.variables.values():
        variables[f"steps.{variable}"] = cel.Type.DYN
        variables[f"known.{variable}"] = cel.Type.BOOL
    return cel.NewEnv(variables=variables, extensions=EXTENSIONS).compile(parsed.cel)


def _explained(error: RuntimeError, parsed: Source, items: tuple[str, ...]) -> list[str]:
    """CEL's own words, at the author's columns, with a mend where one is known."""
    places = [place for place in CEL_PLACE.findall(str(error)) if "<<nil>>" not in place[2]]
    if not places:
        return [f"column 1: {str(error).splitlines()[0]}"]
    texts = []
    for _, column, raw in places:
        message, at = raw.replace(" (in container '')", "").split(" expecting {")[0], parsed.column(int(column))
        texts.append(f"column {at}: {message}{_foreign(message, at, parsed.text) or _mend(message, items)}")
    return texts


def _foreign(message: str, column: int, text: str) -> str:
    """A word of another language at the author's column, or right before it: what CEL has in its place."""
    if not message.startswith(("Syntax error", "undeclared reference")):
        return ""
    near = (one for one in STUMBLED.finditer(text) if one.start() < column and not text[one.end() : column - 1].strip())
    found = next(near, None)
    return f"; CEL writes `{FOREIGN[found[0]]}` for `{found[0]}`" if found else ""


def _mend(message: str, items: tuple[str, ...]) -> str:
    if message.startswith("undeclared reference"):
        names = ["payload", "steps.<id>", "trace", "tenant", *items]
        return f"; an expression may name {', '.join(names[:-1])} and {names[-1]}"
    if "(double, int)" in message or "(int, double)" in message:
        return "; write the whole number with a point, as in 2.0"
    return ""
