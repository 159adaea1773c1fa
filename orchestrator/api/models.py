"""What goes over the wire, as pydantic models: they check requests, and describe both ways in OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from orchestrator.states import INSTANCE_STATES


def _known_state(name: str) -> str:
    if name not in INSTANCE_STATES:
        raise PydanticCustomError("state", "must be one of {states}", {"states": ", ".join(INSTANCE_STATES)})
    return name


InstanceState = Annotated[str, AfterValidator(_known_state), Field(json_schema_extra={"enum": list(INSTANCE_STATES)})]


class Wire(BaseModel):
    """Names in camelCase. Unknown members of a body are errors: a mistyped one must not be ignored in silence."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Lenient(BaseModel):
    """Queries, headers and paths: others may add their own."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore")


class InstancePath(Lenient):
    id: str = Field(description="The instance id, which is also the trace id: 32 hex digits.")


class StepPath(InstancePath):
    step: str = Field(description="The step's id; `step[3]` in an iteration.")


class CallbackPath(Lenient):
    trace: str = Field(description="The trace id: 32 hex digits.")
    step: str = Field(description="The step's id; `step[3]` in an iteration.")


class DefinitionPath(Lenient):
    id: str = Field(description="The workflow definition's id.")


class LanePath(Lenient):
    lane: str = Field(description="The lane's name in services.yaml.")


class HoldBody(Wire):
    why: str | None = Field(None, description="Told to whoever looks at the lane.")


class LaneAnswer(Wire):
    name: str
    transport: str
    limits: dict[str, Any] = Field(description="`concurrency`, `rate` and `breaker`; null where there is none.")
    in_flight: int
    deferred: int = Field(description="Steps that the lane keeps waiting.")
    breaker: dict[str, Any] | None
    held: dict[str, Any] | None


class StartHeader(Lenient):
    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Repeating a start with the same key starts nothing new.",
    )


class CallbackHeader(Lenient):
    callback_token: str | None = Field(None, alias="X-Callback-Token")


class CallbackQuery(Lenient):
    token: str | None = None


class PageQuery(Lenient):
    limit: int = Field(100, ge=1, le=500)
    cursor: str | None = Field(None, description="The `cursor` of the page before.")


MOMENT = "A moment (2026-01-31T08:00:00Z), or a duration ago (2h)."
LANE = "One of their steps is on this lane, and failed, unknown, stuck, or waiting to go on."


class InstancesQuery(PageQuery):
    limit: int = Field(50, ge=1, le=500)
    status: InstanceState | None = None
    reason: str | None = None
    workflow_id: str | None = None
    business_key: str | None = None
    lane: str | None = Field(None, description=LANE)
    since: str | None = Field(None, description=f"Something has happened to them since. {MOMENT}")
    until: str | None = Field(None, description=f"Nothing has happened to them since. {MOMENT}")
    late: bool = Field(False, description="Past a deadline, or ready for a minute and not taken.")
    stuck: bool = Field(False, description="Something of them needs a person.")


class StatusQuery(Lenient):
    wait: str | None = Field(
        None, description="Answer when the status changes, at the latest after this (30s; 60s at most)."
    )
    since: int | None = Field(
        None, ge=0, le=2**31 - 1, description="With `wait`: when the history has more than this `seq`."
    )


class BulkFilter(Wire):
    """At least one condition; all of them have to hold."""

    status: InstanceState | None = None
    reason: str | None = None
    workflow_id: str | None = None
    business_key: str | None = None
    lane: str | None = Field(None, description=LANE)
    since: str | None = Field(None, description=f"Something has happened to them since. {MOMENT}")
    until: str | None = Field(None, description=f"Nothing has happened to them since. {MOMENT}")
    late: bool = False
    stuck: bool = False


class BulkBody(Wire):
    action: Literal["retry", "cancel", "suspend", "resume"]
    filter: BulkFilter
    dry_run: bool = Field(False, description="Only tell which it would be.")
    limit: int = Field(1000, ge=1, le=1000)
    cursor: str | None = Field(None, description="Go on where the answer before ended.")


class Refusal(Wire):
    instance_id: str
    message: str


class BulkAnswer(Wire):
    matched: int
    done: int = Field(description="Of a dry run: none.")
    items: list[dict[str, Any]] = Field(description="All that match, each with its status afterwards.")
    refused: list[Refusal] = Field(description="What the order does not fit; the others are done all the same.")
    more: bool
    cursor: str | None = Field(description="Where to go on when there are more.")


class VersionQuery(Lenient):
    version: int | None = Field(None, ge=1, le=2**31 - 1, description="None: the newest.")


class StartBody(Wire):
    workflow_id: str
    payload: dict[str, Any] = Field(default_factory=dict)
    completion_url: str | None = Field(None, description="Where the end is to be POSTed; its host has to be allowed.")


class ResolveBody(Wire):
    verdict: Literal["succeeded", "failed", "retry"]
    result: Any = Field(None, description="The step's result, with the verdict `succeeded`.")


class CallbackBody(Wire):
    decision: Literal["approved", "rejected"] | None = None
    result: Any = None
    error: str | None = None
    comment: str | None = Field(None, max_length=10_000)


class StartedAnswer(Wire):
    instance_id: str
    trace_id: str
    status: str


class StatusAnswer(Wire):
    model_config = ConfigDict(alias_generator=to_camel, extra="allow")
    instance_id: str
    trace_id: str
    workflow_id: str
    version: int
    status: str
    reason: str | None
    current_step: str | None = Field(description="The first active step in definition order; null at the end.")
    current_steps: list[str]
    started: str
    ended: str | None
    history: list[dict[str, Any]] = Field(description="One entry a transition, in order.")
    compensations: list[dict[str, Any]]
    steps: list[dict[str, Any]] = Field(description="At most 1000, in definition order, then by iteration.")
    steps_omitted: int = Field(description="How many more there are; they have all ended well.")
    completion: dict[str, Any] | None = Field(description="{url, status, tries, error, next}: who is told of the end.")
    parent: dict[str, Any] | None = Field(description="{instanceId, step} that has started it.")
    children: list[dict[str, Any]] = Field(description="{instanceId, workflowId, step, status} that it has started.")


class PageAnswer(Wire):
    items: list[dict[str, Any]]
    cursor: str | None = Field(description="Ask for the next page with it; null: this was the last.")


class OperationAnswer(Wire):
    instance_id: str
    status: str


class DecidedAnswer(Wire):
    step: str
    decision: str
    repeated: bool = Field(description="The same decision had been made before.")


class SavedAnswer(Wire):
    id: str
    version: int
    created: bool


class ValidAnswer(Wire):
    valid: Literal[True] = True
    errors: list[dict[str, Any]]


class DefinitionAnswer(Wire):
    model_config = ConfigDict(alias_generator=to_camel, extra="allow")
    id: str
    version: int | None
    text: str | None


class HealthAnswer(Wire):
    ok: bool


class Canary(Wire):
    age: float | None = Field(description="Seconds since the newest one that has completed was started")
    late: bool = Field(description="None has been completed for three intervals, or ever")


class ReadyAnswer(HealthAnswer):
    database: bool
    broker: bool
    canary: Canary | None = Field(description="null: it is switched off")


class ReadyQuery(Lenient):
    canary: Literal["strict"] | None = Field(None, description="`strict`: 503 also while it is late")


class ProblemError(Wire):
    message: str
    line: int | None
    column: int | None
    hint: str | None


class Problem(Wire):
    """RFC 9457, as application/problem+json."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = Field(None, description="500: the reference under which the log tells more.")
    errors: list[ProblemError] | None = Field(None, description="400 and 422: everything that is wrong, at once.")
    present: str | None = Field(None, description="409: the present state, or the decision that won.")


def problem_response(description: str) -> dict[str, Any]:
    """A response of the OpenAPI document whose body is a `Problem`."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": description, "content": content}


COMMON: dict[Any, Any] = {
    400: problem_response("The request cannot be read"),
    401: problem_response("Not authenticated"),
    403: problem_response("Not allowed"),
    503: problem_response("The database does not answer; see Retry-After"),
}
NOT_FOUND = problem_response("There is nothing of that name here")
CONFLICT = problem_response("Does not fit the present state: see `present`")
BUSY = problem_response("Too many wait for changes, or the database does not answer; see Retry-After")
GONE = problem_response("The deadline has passed, or the wait was escalated to somebody else")
TOO_LARGE = problem_response("The body is larger than the limit")
MEDIA = problem_response("The body is not declared as JSON")
INVALID = problem_response("See `errors`")
