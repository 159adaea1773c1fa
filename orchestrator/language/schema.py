"""The written form of a definition: which keys there are and what each may hold.

Shapes only; what one key means for another is the loader's. `json_schema()` is for editors.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator
from pydantic.alias_generators import to_camel

from orchestrator import durations
from orchestrator.definition import OnError
from orchestrator.language import editors
from orchestrator.language.words import (
    Action,
    Duration,
    Given,
    Item,
    Name,
    OnlyTrue,
    OperationText,
    Reason,
    WorkflowId,
)

MOST_ROUNDS = 1000
MOST_SIDE_BY_SIDE = 1000


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
    input: Given = None
    retry: WrittenRetry | None = None
    timeout: Duration | None = None


class WrittenEscalation(Written):
    to: OperationText | None = None
    timeout: Duration | None = None
    on_timeout: Action | None = None


Steps: TypeAlias = Annotated[list["WrittenStep"], Field(json_schema_extra={"minItems": 1})]


class WrittenCase(Written):
    model_config = ConfigDict(json_schema_extra=editors.when_or_otherwise)

    when: str | None = None
    otherwise: OnlyTrue | None = None
    steps: Steps


class WrittenRepeat(Written):
    until: str
    max: int = Field(ge=1, le=MOST_ROUNDS)


class WrittenMoment(Written):
    until: str


def _spelled_out(value: Any) -> Any:
    return {"service": value} if isinstance(value, str) else value


def _wait(value: Any) -> float | WrittenMoment:
    if isinstance(value, dict) and set(value) == {"until"} and isinstance(value["until"], str):
        return WrittenMoment(until=value["until"])
    if not isinstance(value, str):
        raise ValueError("must be a duration, as in 24h, or {until: an expression that gives a moment}")  # noqa: TRY004
    return durations.seconds(value)


Compensate = Annotated[
    WrittenCompensation, BeforeValidator(_spelled_out, json_schema_input_type=OperationText | WrittenCompensation)
]
Wait = Annotated[float | WrittenMoment, PlainValidator(_wait, json_schema_input_type=Duration | WrittenMoment)]


class WrittenStep(Written):
    model_config = ConfigDict(json_schema_extra=editors.which_keys_go_together)

    id: Name
    title: str | None = None
    when: str | None = None
    parallel: bool = False
    service: OperationText | None = None
    input: Given = None
    compensate: Compensate | None = None
    retry: WrittenRetry | None = None
    timeout: Duration | None = None
    on_timeout: Action | None = None
    escalate: WrittenEscalation | None = None
    pause: bool = False
    on_reject: Literal["fail", "continue"] | None = None
    on_error: OnError | None = None
    branches: (
        Annotated[dict[Name, Steps], Field(json_schema_extra={"minProperties": 1, "additionalProperties": False})]
        | None
    ) = None
    switch: Annotated[list[WrittenCase], Field(json_schema_extra={"minItems": 1})] | None = None
    for_each: str | None = None
    as_: Item | None = Field(default=None, alias="as")
    max_concurrency: int | None = Field(default=None, ge=1, le=MOST_SIDE_BY_SIDE)
    repeat: WrittenRepeat | None = None
    steps: Steps | None = None
    wait: Wait | None = None
    workflow: WorkflowId | None = None
    end: Reason | None = None
    fail: Reason | None = None


class WrittenDefinition(Written):
    id: WorkflowId
    title: str | None = None
    input: dict[str, Any] | None = None
    business_key: str | None = None
    deadline: Duration | None = None
    compensate_on: Literal["completed", "attempted"] = "completed"
    steps: Steps


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a definition, for editors that complete and check as one types."""
    schema: dict[str, Any] = editors.without_null(WrittenDefinition.model_json_schema(by_alias=True, mode="validation"))
    return schema
