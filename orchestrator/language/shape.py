"""Does a part of a text have the shape of its model? Problems in the author's words, at the author's places."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from orchestrator.errors import Problem
from orchestrator.language.schema import Written
from orchestrator.language.text import Composed, Path

FREE = frozenset({"input"})  # keys whose value is the author's own data: null is a value in there
HINTS = {
    "switch": "write a list of cases, as in [{when: payload.ok, steps: […]}, {otherwise: true, steps: […]}]",
    "forEach": "write an expression that gives a list, as in forEach: payload.documents",
    "repeat": "write both, as in repeat: {until: steps.check.result.complete, max: 5}",
    "workflow": "write the sub-workflow's id, as in workflow: site-inspection",
    "end": "write the reason, as in end: rejected",
    "fail": "write the reason, as in fail: not complete",
    "steps": "write a list of steps, each with an id",
}
MISSING_HINTS = {
    "id": "every workflow and every step has an id",
    "steps": "write a list of steps, each with an id",
    "service": "say which lane.operation is called",
    "until": "write an expression that is true when it is enough, as in until: steps.check.result.complete",
    "max": "write how often at most, as in max: 5",
}

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
    empty = set(_empty_keys(data, ()))
    problems = [_empty((*path, *where), composed) for where in sorted(empty)]
    given = _without_empty(data)
    try:
        return model.model_validate(given), problems
    except ValidationError as error:
        found = error.errors()
    problems += [
        _problem(model, detail, path, composed)
        for detail in found
        if not (detail["type"] == "missing" and detail["loc"] in empty)  # that it is empty has been said
    ]
    bad = {str(detail["loc"][0]) for detail in found if detail["loc"]}
    rest = {key: value for key, value in given.items() if key not in bad}
    return model.model_validate({**stand_in, **rest}), problems


def nearest(word: str, known: Iterable[str]) -> str | None:
    """A hint: the known word that is probably meant."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    lower = {name.lower(): name for name in known}
    name = lower.get(word.lower()) or (near[0] if near else None)
    return f"did you mean `{name}`?" if name else None


def _empty_keys(data: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for key, value in data.items():
        if value is None:
            yield (*path, key)
        elif isinstance(value, dict) and key not in FREE:
            yield from _empty_keys(value, (*path, key))


def _without_empty(data: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_empty(value) if isinstance(value, dict) and key not in FREE else value
        for key, value in data.items()
        if value is not None
    }


def _empty(path: Path, composed: Composed) -> Problem:
    return composed.problem(path, f"`{path[-1]}` is empty", "write a value, or remove the key", at_key=True)


def _problem(model: type[Written], detail: ErrorDetails, path: Path, composed: Composed) -> Problem:
    loc = tuple(part for part in detail["loc"] if part != "[key]")
    at = (*path, *loc)
    key = next((part for part in reversed(loc) if isinstance(part, str)), "")
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown(model, loc, key, at, composed)
    if kind == "missing":
        return composed.problem(at[:-1], f"`{key}` is missing", MISSING_HINTS.get(key))
    return composed.problem(at, f"`{key}` {_said(detail)}", HINTS.get(key) if kind in KINDS else None)


def _unknown(model: type[Written], loc: tuple[Any, ...], key: str, at: Path, composed: Composed) -> Problem:
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
    said = f"{detail['msg'][:1].lower()}{detail['msg'][1:]}"
    return (
        said.replace("input should be", "must be")
        .replace("greater than or equal to", "at least")
        .replace("less than or equal to", "at most")
    )


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return str(value).lower() if isinstance(value, bool) else repr(value)[:60]
