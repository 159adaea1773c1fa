"""Whether a payload fits a JSON Schema, where both come from whoever may upload a definition.

One tenant's schema must not stop the servers of all: patterns are matched in linear time, nothing is fetched, and the
whole is given up after a while.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from pydantic_core import SchemaError, SchemaValidator, core_schema
from referencing import Registry
from referencing.exceptions import Unresolvable

LONGEST = 2.0  # seconds for one payload
SHOWN = 300  # characters of a fault

Found = Iterator[ValidationError]
Keyword = Callable[[Any, Any, Any, Any], "Found | None"]


class Unjudged(Exception):
    """The schema cannot be applied; the text says why."""


class _Limit(threading.local):
    until = math.inf


_limit = _Limit()


def faults(payload: Any, schema: dict[str, Any]) -> list[str]:
    """Each path that fails, with what is wrong there; none: it fits. Raises Unjudged."""
    if (why := mixture(schema)) is not None:
        raise Unjudged(why)
    # Without a registry of its own the library fetches what a reference names.
    validator = _Validator(_plain(schema), registry=Registry())
    _limit.until = time.monotonic() + LONGEST
    try:
        found = sorted(validator.iter_errors(payload), key=lambda error: error.json_path)
    except RecursionError:
        raise Unjudged("the schema refers to itself without end, or is nested too deeply") from None
    except Unresolvable as error:
        raise Unjudged(f"the schema refers to {error.ref!r}, which is not in it") from None
    return [f"{error.json_path[1:]}: {error.message[:SHOWN]}" for error in found]


def pattern_problem(pattern: str) -> str | None:
    """Why a pattern cannot be used; none: it can."""
    try:
        _compiled(pattern)
    except SchemaError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        return (
            f"`{pattern[:100]}` is not a pattern that can be matched in linear time ({reason.removeprefix('error: ')})"
        )
    return None


def mixture(schema: dict[str, Any]) -> str | None:
    """Why a schema cannot be used whose two keywords the library matches by itself, with Python's `re`."""
    text = json.dumps(schema)
    if '"unevaluatedProperties"' in text and '"patternProperties"' in text:
        return "`patternProperties` cannot stand together with `unevaluatedProperties`: use `additionalProperties`"
    return None


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> SchemaValidator:
    """Python's own `re` may take years, and holds up every thread meanwhile."""
    return SchemaValidator(core_schema.str_schema(pattern=pattern), {"regex_engine": "rust-regex"})


def _matches(pattern: str, text: str) -> bool:
    try:
        return _compiled(pattern).isinstance_python(text)
    except SchemaError:
        raise Unjudged(str(pattern_problem(pattern))) from None


def _plain(schema: Any) -> Any:
    """Without `$schema`, by which the library would turn to validators that are not ours."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _plain(one) for key, one in schema.items() if key != "$schema" or not isinstance(one, str)}


# Keywords


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Found:
    if isinstance(value, str) and not _matches(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: dict[str, Any], value: Any, _: Any) -> Found:
    for pattern, inner in patterns.items() if isinstance(value, dict) else ():
        for name, member in value.items():
            if _matches(pattern, name):
                yield from validator.descend(member, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, value: Any, schema: Any) -> Found:
    extra = _extra(value, schema) if isinstance(value, dict) else []
    if isinstance(allowed, dict):
        for name in extra:
            yield from validator.descend(value[name], allowed, path=name)
    elif not allowed and extra:
        verb = "was" if len(extra) == 1 else "were"
        yield ValidationError(
            f"Additional properties are not allowed ({', '.join(map(repr, extra))} {verb} unexpected)"
        )


def _extra(value: dict[str, Any], schema: Any) -> list[str]:
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    return [name for name in value if name not in named and not any(_matches(one, name) for one in patterns)]


def _unique_items(_: Any, wanted: bool, value: Any, __: Any) -> Found:
    if wanted and isinstance(value, list) and len({_canonical(one) for one in value}) < len(value):
        yield ValidationError(f"{value!r} has non-unique elements")


def _canonical(value: Any) -> str:
    """The same text for what JSON Schema takes for equal: 1 and 1.0, but not 1 and true."""
    return json.dumps(_whole(value), sort_keys=True)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _timed(keyword: Keyword) -> Keyword:
    def timed(validator: Any, wanted: Any, value: Any, schema: Any) -> Found:
        if time.monotonic() > _limit.until:
            raise Unjudged(f"checking the payload takes more than {LONGEST:g} s: simplify the schema")
        yield from keyword(validator, wanted, value, schema) or ()

    return timed


_OURS: dict[str, Keyword] = {
    "pattern": _pattern, "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties, "uniqueItems": _unique_items,
}  # fmt: skip
_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {name: _timed(keyword) for name, keyword in {**dict(Draft202012Validator.VALIDATORS), **_OURS}.items()},
)
