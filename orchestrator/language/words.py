"""The words of the language: what an id, a duration, a reason and so on look like. Each is a type of pydantic's."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator

from orchestrator import durations
from orchestrator.definition import TimeoutAction

WORKFLOW_ID = re.compile(r"[a-z0-9-]{1,100}")
STEP_ID = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")
OPERATION = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z][A-Za-z0-9_-]*)?")
REASON = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,99}")
ITEM = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)
ACTIONS = ("escalate", "fail", "skip", "retry")
# What an item of a loop cannot be called: what expressions name already, and words of CEL's own.
TAKEN = frozenset({
    "payload", "trace", "tenant", "steps", "known", "has", "true", "false", "null", "in", "as", "break", "const",
    "continue", "else", "for", "function", "if", "import", "let", "loop", "package", "namespace", "return", "var",
    "void", "while", "int", "uint", "double", "string", "bool", "bytes", "list", "map", "type", "dyn", "math",
    "null_type", "google",
})  # fmt: skip


def _workflow_id(text: str) -> str:
    if not WORKFLOW_ID.fullmatch(text):
        raise ValueError("must be lower-case letters, digits and hyphens, at most 100, as in permit-renewal")
    return text


def _name(text: str) -> str:
    if not STEP_ID.fullmatch(text):
        raise ValueError("must begin with a letter; then letters, digits, `_` and `-`, at most 100, as in uploadDocs")
    return text


def _item(text: str) -> str:
    if not ITEM.fullmatch(text):
        raise ValueError("must be letters, digits and `_`, not beginning with a digit, as in doc")
    if text in TAKEN:
        raise ValueError(f"cannot be `{text}`: in an expression that word means something else already")
    return text


def _operation(text: str) -> str:
    if not OPERATION.fullmatch(text):
        raise ValueError("must be a lane or lane.operation, as in achSvc.charge")
    return text


def _reason(text: str) -> str:
    if not REASON.fullmatch(text):
        raise ValueError(
            "must begin with a letter; then letters, digits, spaces, `_` and `-`, at most 100, as in not complete"
        )
    return text


def _duration(value: Any) -> float:
    if not isinstance(value, str):
        raise ValueError(f"must be a duration with its unit, as in 30s, 10m or 48h, not {value!r}")  # noqa: TRY004
    return durations.seconds(value)


def _action(value: Any) -> TimeoutAction:
    if isinstance(value, str) and value in ACTIONS:
        return TimeoutAction(kind=value)  # type: ignore[arg-type]  # just looked up
    if isinstance(value, dict) and set(value) == {"decide"} and value["decide"] in ("approved", "rejected"):
        return TimeoutAction(kind="decide", decision=value["decide"])
    raise ValueError(f"must be one of {', '.join(ACTIONS)}, {{decide: approved}} and {{decide: rejected}}")


def _only_true(value: bool) -> bool:
    if not value:
        raise ValueError("must be true; remove the key where it is not meant")
    return value


def _pattern(pattern: re.Pattern[str]) -> Any:
    return Field(json_schema_extra={"pattern": f"^(?:{pattern.pattern})$"})


ACTION_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": list(ACTIONS)},
        {
            "type": "object",
            "properties": {"decide": {"enum": ["approved", "rejected"]}},
            "required": ["decide"],
            "additionalProperties": False,
        },
    ]
}
DURATION_SCHEMA: dict[str, Any] = {"pattern": r"^\s*(?:\d+(?:\.\d+)?(?:ms|s|m|h|d)|[-+]?P.+)\s*$"}

WorkflowId = Annotated[str, AfterValidator(_workflow_id), _pattern(WORKFLOW_ID)]
Name = Annotated[str, AfterValidator(_name), _pattern(STEP_ID)]
Item = Annotated[
    str,
    AfterValidator(_item),
    Field(json_schema_extra={"pattern": f"^(?:{ITEM.pattern})$", "not": {"enum": sorted(TAKEN)}}),
]
OperationText = Annotated[str, AfterValidator(_operation), _pattern(OPERATION)]
Reason = Annotated[str, AfterValidator(_reason), _pattern(REASON)]
Duration = Annotated[
    float, PlainValidator(_duration, json_schema_input_type=str), Field(json_schema_extra=DURATION_SCHEMA)
]
Action = Annotated[
    TimeoutAction, PlainValidator(_action, json_schema_input_type=Any), Field(json_schema_extra=ACTION_SCHEMA)
]
OnlyTrue = Annotated[bool, AfterValidator(_only_true), Field(json_schema_extra={"const": True})]
Given = Annotated[Any, Field(json_schema_extra={"not": {"type": "null"}})]  # anything but nothing
