"""The `input` of a definition is a JSON Schema that others will be judged by: it is checked itself."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

from orchestrator import fitting
from orchestrator.language.text import Path

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def problems(schema: dict[str, Any]) -> list[tuple[Path, str]]:
    """(path inside the schema, what is wrong). References may only point into the schema: nothing is fetched."""
    try:
        errors = list(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema))
    except RecursionError:  # the validator takes dozens of frames a level
        return [((), "it is nested too deeply: move parts of it to $defs")]
    found = [(tuple(error.absolute_path), _short(error.message)) for error in errors]
    dialect = schema.get("$schema", DIALECT)
    if dialect != DIALECT:
        found.append((("$schema",), f"only {DIALECT} is understood: remove `$schema`"))
    if found:
        return found
    mixed = fitting.mixture(schema)
    return _references(schema, schema, ()) + ([((), mixed)] if mixed else [])


def _short(message: str) -> str:
    return message if len(message) <= 200 else message[:197] + "…"


def _references(part: Any, schema: dict[str, Any], path: Path) -> list[tuple[Path, str]]:
    if isinstance(part, list):
        return [found for at, item in enumerate(part) for found in _references(item, schema, (*path, at))]
    if not isinstance(part, dict):
        return []
    return [found for key, value in part.items() for found in _keyword(key, value, schema, (*path, key))]


def _keyword(key: str, value: Any, schema: dict[str, Any], path: Path) -> list[tuple[Path, str]]:
    match key:
        case "$ref" | "$dynamicRef" | "$recursiveRef" if isinstance(value, str):
            wrong = (
                None if _resolves(value, schema) else f"`{value}` is not a place in this schema, as in #/$defs/address"
            )
        case "$id":
            wrong = "`$id` would change what references mean: remove it"
        case "$schema":
            wrong = None if len(path) == 1 else "only the whole can have a `$schema`: remove it"
        case "pattern" if isinstance(value, str):
            wrong = fitting.pattern_problem(value)
        case "const" | "enum" | "default" | "examples":
            return []
        case _ if key in NAMED and isinstance(value, dict):
            return _named(key, value, schema, path)
        case _:
            return _references(value, schema, path)
    return [(path, wrong)] if wrong else []


def _named(key: str, members: dict[str, Any], schema: dict[str, Any], path: Path) -> list[tuple[Path, str]]:
    """Its members are schemas under names of the author's, whatever they are called."""
    found: list[tuple[Path, str]] = []
    for name, inner in members.items():
        wrong = fitting.pattern_problem(name) if key == "patternProperties" else None
        found += [((*path, name), wrong)] if wrong else []
        found += _references(inner, schema, (*path, name))
    return found


def _resolves(reference: str, schema: dict[str, Any]) -> bool:
    if reference == "#":
        return True
    if not reference.startswith("#/"):
        return False
    part: Any = schema
    for key in reference[2:].split("/"):
        name = key.replace("~1", "/").replace("~0", "~")
        if not isinstance(part, dict) or name not in part:
            return False
        part = part[name]
    return isinstance(part, (dict, bool))
