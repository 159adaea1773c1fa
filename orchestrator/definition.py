"""The workflow definition as frozen values. Pure: no I/O, no parsing. Durations are seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Decision: TypeAlias = Literal["approved", "rejected"]
OnError: TypeAlias = Literal["fail", "continue"]  # continue: go on after its failure, `steps.<id>.error` tells of it

CONCURRENCY = 20  # iterations of a `forEach` side by side, when it does not say


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`achSvc.charge`: what a service lane is asked to do."""

    lane: str
    name: str

    def __str__(self) -> str:
        return f"{self.lane}.{self.name}"


@dataclass(frozen=True, kw_only=True)
class Expression:
    """A CEL source, and what it names: ids of steps (they are declared one by one), and items of loops (`as: doc`)."""

    source: str
    steps: tuple[str, ...] = ()
    items: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Template:
    """JSON whose strings may hold `${expression}`; `steps` and `items` are what those name."""

    value: Any
    steps: tuple[str, ...] = ()
    items: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Retry:
    max: int = 3  # retries after the first call
    backoff: float = 1.0
    factor: float = 2.0
    cap: float = 60.0
    jitter: bool = True


@dataclass(frozen=True, kw_only=True)
class Compensation:
    operation: Operation
    input: Template | None = None  # none: the payload
    retry: Retry | None = None  # none: its step's
    timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class TimeoutAction:
    """What happens when a step's time is up. `decision` is set for `decide` only."""

    kind: Literal["escalate", "fail", "skip", "retry", "decide"] = "fail"
    decision: Decision | None = None


@dataclass(frozen=True, kw_only=True)
class Escalation:
    """Whom a step goes to when its time is up, and how long that one has."""

    to: Operation
    timeout: float | None = None
    on_timeout: TimeoutAction = field(default_factory=TimeoutAction)


@dataclass(frozen=True, kw_only=True)
class ServiceStep:
    """Calls an operation, waits for a decision (`pause`), or both."""

    id: str
    title: str | None = None
    when: Expression | None = None
    operation: Operation | None = None  # none only with pause
    input: Template | None = None  # none: the payload
    compensation: Compensation | None = None
    retry: Retry = field(default_factory=Retry)
    timeout: float | None = None  # the whole budget of a generation, all attempts
    on_timeout: TimeoutAction = field(default_factory=TimeoutAction)
    escalation: Escalation | None = None
    pause: bool = False
    on_reject: Literal["fail", "continue"] = "fail"
    on_error: OnError = "fail"


@dataclass(frozen=True, kw_only=True)
class Branch:
    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, kw_only=True)
class BranchesStep:
    """Runs its branches side by side and goes on when all of them have ended.

    Neighbours marked `parallel: true` become one of these with a branch each and
    `written=False`: the author gave it no id, so nobody is shown it.
    """

    id: str
    branches: tuple[Branch, ...]
    title: str | None = None
    when: Expression | None = None
    written: bool = True


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way that a `switch` may go."""

    steps: tuple[Step, ...]
    when: Expression | None = None  # none: `otherwise`, the last


@dataclass(frozen=True, kw_only=True)
class SwitchStep:
    """Goes the first way whose condition is true; where none is, it is skipped."""

    id: str
    cases: tuple[Case, ...]
    title: str | None = None
    when: Expression | None = None


@dataclass(frozen=True, kw_only=True)
class ForEachStep:
    """Runs its steps once for each item of a list, `concurrency` of them side by side."""

    id: str
    items: Expression
    steps: tuple[Step, ...]
    variable: str | None = None  # `as`: what its steps call the item
    concurrency: int = CONCURRENCY
    title: str | None = None
    when: Expression | None = None


@dataclass(frozen=True, kw_only=True)
class RepeatStep:
    """Runs its steps until the condition is true after them; fails when it is not after `max` rounds."""

    id: str
    until: Expression
    max: int
    steps: tuple[Step, ...]
    title: str | None = None
    when: Expression | None = None
    on_error: OnError = "fail"


@dataclass(frozen=True, kw_only=True)
class WaitStep:
    """A timer: `seconds` from its turn on, or `until` a moment that an expression gives. One of the two is set."""

    id: str
    seconds: float | None = None
    until: Expression | None = None
    title: str | None = None
    when: Expression | None = None


@dataclass(frozen=True, kw_only=True)
class WorkflowStep:
    """Runs an instance of another workflow, and waits for its end. Undone, it has that instance undone."""

    id: str
    workflow: str
    input: Template | None = None  # its payload; none: this one's
    title: str | None = None
    when: Expression | None = None
    on_error: OnError = "fail"


@dataclass(frozen=True, kw_only=True)
class EndStep:
    """Ends the whole instance: `end` completes it and undoes nothing, `fail` fails it and undoes what was done."""

    id: str
    kind: Literal["end", "fail"]
    reason: str
    title: str | None = None
    when: Expression | None = None


Loop: TypeAlias = ForEachStep | RepeatStep
Block: TypeAlias = BranchesStep | SwitchStep | ForEachStep | RepeatStep
Step: TypeAlias = ServiceStep | WaitStep | WorkflowStep | EndStep | Block


@dataclass(frozen=True, kw_only=True)
class Definition:
    id: str
    steps: tuple[Step, ...]
    title: str | None = None
    input: dict[str, Any] | None = None  # JSON Schema of the payload
    business_key: Expression | None = None
    deadline: float | None = None
    compensate_on: Literal["completed", "attempted"] = "completed"


def sequences(step: Step) -> tuple[tuple[Step, ...], ...]:
    """The sequences of steps inside a step: a block's branches, cases or body; none of any other."""
    if isinstance(step, BranchesStep):
        return tuple(branch.steps for branch in step.branches)
    if isinstance(step, SwitchStep):
        return tuple(case.steps for case in step.cases)
    return (step.steps,) if isinstance(step, ForEachStep | RepeatStep) else ()


def walk(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Every step in definition order, a block before what is inside it."""
    for step in steps:
        yield step
        for inner in sequences(step):
            yield from walk(inner)
