"""The `input` of a definition is a JSON Schema that others will be judged by: it is checked itself."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

from orchestrator.language.text import Path

DIALECT = "https://json-schema.org/draft/2020-12/schema"


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
    return found + _references(schema, schema, ())


def _short(message: str) -> str:
    return message if len(message) <= 200 else message[:197] + "…"


def _references(part: Any, schema: dict[str, Any], path: Path) -> list[tuple[Path, str]]:
    if isinstance(part, list):
        return [found for at, item in enumerate(part) for found in _references(item, schema, (*path, at))]
    if not isinstance(part, dict):
        return []
    found: list[tuple[Path, str]] = []
    for key, value in part.items():
        if key in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str):
            if not _resolves(value, schema):
                found.append(((*path, key), f"`{value}` is not a place in this schema, as in #/$defs/address"))
        elif key == "$id":
            found.append(((*path, key), "`$id` would change what references mean: remove it"))
        elif key not in ("const", "enum", "default", "examples"):
            found += _references(value, schema, (*path, key))
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
