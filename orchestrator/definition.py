"""The workflow definition as frozen values. Pure: no I/O, no parsing. Durations are seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Decision: TypeAlias = Literal["approved", "rejected"]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`achSvc.charge`: what a service lane is asked to do."""

    lane: str
    name: str

    def __str__(self) -> str:
        return f"{self.lane}.{self.name}"


@dataclass(frozen=True, kw_only=True)
class Expression:
    """A CEL source, and the ids of the steps that it names (they are declared one by one)."""

    source: str
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Template:
    """JSON whose strings may hold `${expression}`; `steps` are the ids that they name."""

    value: Any
    steps: tuple[str, ...] = ()


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


Step: TypeAlias = ServiceStep | BranchesStep


@dataclass(frozen=True, kw_only=True)
class Definition:
    id: str
    steps: tuple[Step, ...]
    title: str | None = None
    input: dict[str, Any] | None = None  # JSON Schema of the payload
    business_key: Expression | None = None
    deadline: float | None = None
    compensate_on: Literal["completed", "attempted"] = "completed"


def walk(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Every step in definition order, a block before what is inside it."""
    for step in steps:
        yield step
        if isinstance(step, BranchesStep):
            for branch in step.branches:
                yield from walk(branch.steps)
