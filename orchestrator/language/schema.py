"""The written form of a definition: which keys there are and what each may hold.

Shapes only; what one key means for another is the loader's. `json_schema()` is for editors.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator
from pydantic.alias_generators import to_camel

from orchestrator import durations
from orchestrator.definition import TimeoutAction

WORKFLOW_ID = re.compile(r"[a-z0-9-]{1,100}")
STEP_ID = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")
OPERATION = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z][A-Za-z0-9_-]*)?")
ACTIONS = ("escalate", "fail", "skip", "retry")
LATER_KEYS = frozenset(
    {"switch", "forEach", "as", "maxConcurrency", "repeat", "wait", "workflow", "end", "fail", "onError", "steps"}
)  # of a step; DESIGN knows them, this version does not


def _workflow_id(text: str) -> str:
    if not WORKFLOW_ID.fullmatch(text):
        raise ValueError("must be lower-case letters, digits and hyphens, at most 100, as in permit-renewal")
    return text


def _name(text: str) -> str:
    if not STEP_ID.fullmatch(text):
        raise ValueError("must begin with a letter; then letters, digits, `_` and `-`, at most 100, as in uploadDocs")
    return text


def _operation(text: str) -> str:
    if not OPERATION.fullmatch(text):
        raise ValueError("must be a lane or lane.operation, as in achSvc.charge")
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


def _spelled_out(value: Any) -> Any:
    return {"service": value} if isinstance(value, str) else value


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

WorkflowId = Annotated[str, AfterValidator(_workflow_id), Field(json_schema_extra={"pattern": "^[a-z0-9-]{1,100}$"})]
Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": "^[A-Za-z][A-Za-z0-9_-]{0,99}$"})]
OperationText = Annotated[str, AfterValidator(_operation)]
Duration = Annotated[float, PlainValidator(_duration, json_schema_input_type=str)]
Action = Annotated[
    TimeoutAction, PlainValidator(_action, json_schema_input_type=Any), Field(json_schema_extra=ACTION_SCHEMA)
]


class Written(BaseModel):
    """Keys in camelCase, none but these, no silent conversions ("5" is no number)."""

    model_config = ConfigDict(
        extra="forbid", strict=True, alias_generator=to_camel, frozen=True, arbitrary_types_allowed=True
    )


class WrittenRetry(Written):
    # the upper bounds keep factor ** max within a float
    max: int = Field(default=3, ge=0, le=100)
    backoff: Duration = 1.0
    factor: float = Field(default=2.0, ge=1, le=100)
    cap: Duration = 60.0
    jitter: bool = True


class WrittenCompensation(Written):
    service: OperationText
    input: Any = None
    retry: WrittenRetry | None = None
    timeout: Duration | None = None


class WrittenEscalation(Written):
    to: OperationText | None = None
    timeout: Duration | None = None
    on_timeout: Action | None = None


class WrittenStep(Written):
    id: Name
    title: str | None = None
    when: str | None = None
    parallel: bool = False
    service: OperationText | None = None
    input: Any = None
    compensate: (
        Annotated[WrittenCompensation, BeforeValidator(_spelled_out, json_schema_input_type=str | WrittenCompensation)]
        | None
    ) = None
    retry: WrittenRetry | None = None
    timeout: Duration | None = None
    on_timeout: Action | None = None
    escalate: WrittenEscalation | None = None
    pause: bool = False
    on_reject: Literal["fail", "continue"] | None = None
    branches: dict[Name, list[WrittenStep]] | None = None


class WrittenDefinition(Written):
    id: WorkflowId
    title: str | None = None
    input: dict[str, Any] | None = None
    business_key: str | None = None
    deadline: Duration | None = None
    compensate_on: Literal["completed", "attempted"] = "completed"
    steps: list[WrittenStep]


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a definition, for editors that complete and check as one types."""
    return WrittenDefinition.model_json_schema(by_alias=True, mode="validation")
