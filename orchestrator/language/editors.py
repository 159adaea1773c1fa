"""What the JSON Schema for editors says beyond the shape of single keys. Pure."""

from __future__ import annotations

from typing import Any

from orchestrator.language.kinds import COMMON, KINDS, LOOPS


def which_keys_go_together(schema: dict[str, Any]) -> None:
    """Complete a step's schema: it does one thing, and has only the keys that go with that."""
    schema["anyOf"] = [_is(kind) for kind in KINDS]
    schema["allOf"] = [
        {"if": _is(kind), "then": {"propertyNames": {"enum": sorted({kind, *COMMON, *beside})}}}
        for kind, beside in KINDS.items()
    ]
    schema["dependentRequired"] = {kind: ["steps"] for kind in sorted(LOOPS)} | {"onTimeout": ["timeout"]}


def _is(kind: str) -> dict[str, Any]:
    if kind != "pause":
        return {"required": [kind]}
    return {"properties": {"pause": {"const": True}}, "required": ["pause"], "not": {"required": ["service"]}}


def when_or_otherwise(schema: dict[str, Any]) -> None:
    """Complete a case's schema: it has one of the two."""
    schema["oneOf"] = [{"required": ["when"]}, {"required": ["otherwise"]}]


def without_null(schema: Any) -> Any:
    """A key that has no value is left out: null is refused where pydantic means "not given"."""
    if isinstance(schema, list):
        return [without_null(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: without_null(part) for key, part in schema.items() if (key, part) != ("default", None)}
    options = [part for part in kept.get("anyOf", []) if part != {"type": "null"}]
    if "anyOf" not in kept or len(options) == len(kept["anyOf"]):
        return kept
    del kept["anyOf"]
    return {**kept, **options[0]} if len(options) == 1 else {**kept, "anyOf": options}
