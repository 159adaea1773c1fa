"""Does a part of a text have the shape of its model? Problems in the author's words, at the author's places."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from orchestrator.errors import Problem
from orchestrator.language.schema import LATER_KEYS, Written, WrittenStep
from orchestrator.language.text import Composed, Path

Model = TypeVar("Model", bound=Written)

KINDS = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def read(
    model: type[Model], data: Any, path: Path, composed: Composed, stand_in: Mapping[str, Any]
) -> tuple[Model | None, list[Problem]]:
    """`data` as `model`, and what is wrong with it.

    Keys with a problem are left out of the model, so that the rest is still checked; required ones
    come from `stand_in`. None: nothing can be read at all.
    """
    if not isinstance(data, dict):
        return None, [composed.problem(path, f"a mapping is expected here, not {_kind(data)}")]
    empty = [key for key, value in data.items() if value is None]
    problems = [_empty(key, path, composed) for key in empty]
    given = {key: value for key, value in data.items() if value is not None}
    try:
        return model.model_validate(given), problems
    except ValidationError as error:
        found = [
            detail for detail in error.errors() if not (detail["type"] == "missing" and detail["loc"][-1] in empty)
        ]
        problems += [_problem(model, detail, path, composed) for detail in found]
    bad = {str(detail["loc"][0]) for detail in found if detail["loc"]}
    rest = {key: value for key, value in given.items() if key not in bad}
    return model.model_validate({**stand_in, **rest}), problems


def nearest(word: str, known: Iterable[str]) -> str | None:
    """A hint: the known word that is probably meant."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    lower = {name.lower(): name for name in known}
    name = lower.get(word.lower()) or (near[0] if near else None)
    return f"did you mean `{name}`?" if name else None


def _empty(key: str, path: Path, composed: Composed) -> Problem:
    return composed.problem((*path, key), f"`{key}` is empty", "write a value, or remove the key", at_key=True)


def _problem(model: type[Written], detail: ErrorDetails, path: Path, composed: Composed) -> Problem:
    loc = tuple(part for part in detail["loc"] if part != "[key]")
    at = (*path, *loc)
    key = next((part for part in reversed(loc) if isinstance(part, str)), "")
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown(model, loc, key, at, composed)
    if kind == "missing":
        return composed.problem(at[:-1], f"`{key}` is missing", _missing_hint(key))
    return composed.problem(at, f"`{key}` {_said(detail)}")


def _unknown(model: type[Written], loc: tuple[Any, ...], key: str, at: Path, composed: Composed) -> Problem:
    if model is WrittenStep and len(loc) == 1 and key in LATER_KEYS:
        return composed.problem(
            at, f"`{key}` is not supported yet", "this version has service, pause and branches", at_key=True
        )
    allowed = _keys(model, loc[:-1])
    hint = nearest(key, allowed) or f"possible here: {', '.join(allowed)}"
    return composed.problem(at, f"unknown key `{key}`", hint, at_key=True)


def _keys(model: type[Written], loc: tuple[Any, ...]) -> list[str]:
    """The keys of the model that stands at `loc` inside `model`."""
    for part in loc:
        inner = next((field.annotation for field in model.model_fields.values() if field.alias == part), None)
        model = next((kind for kind in _parts(inner) if isinstance(kind, type) and issubclass(kind, Written)), model)
    return [field.alias or name for name, field in model.model_fields.items()]


def _parts(annotation: Any) -> Iterable[Any]:
    yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _parts(part)
    if hasattr(annotation, "__origin__") and hasattr(annotation, "__metadata__"):
        yield annotation.__origin__


def _said(detail: ErrorDetails) -> str:
    kind, value = detail["type"], detail["input"]
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind == "literal_error":
        return f"must be {detail['ctx']['expected']}, not {_kind(value)}"
    if kind in KINDS:
        return f"must be {KINDS[kind]}, not {_kind(value)}"
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}"


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return str(value).lower() if isinstance(value, bool) else repr(value)[:60]


def _missing_hint(key: str) -> str | None:
    return {
        "id": "every workflow and every step has an id",
        "steps": "a workflow is a list of steps",
        "service": "say which lane.operation is called",
    }.get(key)
