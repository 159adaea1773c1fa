"""What commands read: JSON from files and arguments, definitions, lanes."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from orchestrator.definition import Definition
from orchestrator.errors import BadRequest, Invalid, Problem
from orchestrator.lane import Lane
from orchestrator.settings import Settings

SUFFIXES = (".yaml", ".yml", ".json")


def payload(name: str) -> Any:
    """The JSON object in a file, or on standard input for `-`. Raises BadRequest that says where."""
    text = sys.stdin.read() if name == "-" else file_text(Path(name))
    where = "standard input" if name == "-" else name
    value = parse(text, where)
    if not isinstance(value, dict):
        raise BadRequest(f'{where} holds no JSON object: a payload looks like {{"permitNo": "P-1"}}')
    return value


def option(text: str, name: str) -> Any:
    """JSON given to an option. Raises BadRequest that shows how a shell is told of a plain text."""
    try:
        return parse(text, name)
    except BadRequest as error:
        plain = (
            isinstance(error.__cause__, json.JSONDecodeError) and text.isprintable() and not set(text) & set("{}[]\"'")
        )
        raise BadRequest(f"{error}; a text is written {name} '\"{text}\"'" if plain else str(error)) from error


def parse(text: str, what: str) -> Any:
    """JSON as the standard has it. Raises BadRequest with line and column."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise BadRequest(f"{what}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{what}: not JSON that can be kept: {error}") from error


def file_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadRequest(f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} cannot be read: {error}") from error


def is_definition_file(name: str) -> bool:
    """A workflow's id has neither a dot nor a slash, so that no id is taken for a file."""
    return "/" in name or name.endswith(SUFFIXES)


def lanes(settings: Settings) -> Mapping[str, Lane] | None:
    """The service lanes; None when there is no services file. Raises Invalid with what is wrong in it."""
    if not Path(settings.services_file).exists():
        return None
    from orchestrator.lanes import registry

    return registry.load(settings.services_file)


def definition(path: Path, known: Mapping[str, Lane] | None, *, strict: bool = True, limit: int) -> Definition:
    """Raises Invalid with every problem, each behind the file's path."""
    from orchestrator import loader

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid([Problem(message=f"cannot be read: {error}", file=str(path))]) from error
    return loader.load(text, file=str(path), lanes=known, strict=strict, limit=limit)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value; write null, or a string")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text} is too large; write it as a string")
    return value
