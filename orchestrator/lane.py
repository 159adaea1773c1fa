"""A service lane as configured, what it is asked, and what came of it. Pure values.

Names follow DESIGN's "Service lanes" and "Attempt outcomes".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Transport: TypeAlias = Literal["local", "http", "celery", "event"]
Idempotency: TypeAlias = Literal["key", "query", "safe", "none"]
Outcome: TypeAlias = Literal["not_sent", "refused", "rejected", "done", "uncertain"]

DEFAULT_QUEUE = "legs"
SWEEP_QUEUE = "sweep"
MARGIN = 5.0  # seconds beyond a lane's timeout in which an attempt has to be recorded


@dataclass(frozen=True, kw_only=True)
class Rate:
    """So many calls in a time; a tenth of them may come at once."""

    count: int
    period: float  # seconds

    @property
    def interval(self) -> float:
        """Seconds between two calls."""
        return self.period / self.count

    @property
    def burst(self) -> int:
        return max(1, self.count // 10)


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """After so many failures in a row nothing is sent for a while."""

    failures: int = 10
    pause: float = 30.0  # seconds; doubled with every probe that fails


@dataclass(frozen=True, kw_only=True)
class Lane:
    name: str
    transport: Transport
    idempotency: Idempotency = "key"
    key_ttl: float | None = None  # seconds the receiver remembers a key; none: for ever
    module: str | None = None  # local
    url: str | None = None  # http, without a trailing slash
    task: str | None = None  # celery: the task's name; {operation} stands for the operation
    task_queue: str | None = None  # celery: the queue that the other app consumes
    topic: str | None = None  # event: the routing key, {operation} as above
    timeout: float = 10.0  # seconds for one request
    operation: str | None = None  # what a bare `service: lane` calls; none: the step's id
    backup: str | None = None  # "lane.operation" to escalate to when a step names nobody
    queue: str = DEFAULT_QUEUE  # of our workers
    concurrency: int | None = None  # calls in flight at once, of all workers together
    rate: Rate | None = None
    breaker: Breaker | None = None  # none: there is none


@dataclass(frozen=True, kw_only=True)
class Call:
    """One attempt at an operation. The body of it is the same at every attempt of a generation."""

    tenant: str
    trace: str  # 32 hex digits
    step: str
    lane: str
    operation: str
    key: str  # the idempotency key, `trace:step:gN:do|undo`
    attempt: int
    payload: Any
    input: Any
    timeout: float  # seconds that this attempt may take
    callback_url: str | None = None  # where a later answer or a decision goes
    result: Any = None  # of the step that is undone; compensations only
    undo: bool = False
    pause: bool = False  # a decision is awaited once the service was told


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came of an attempt. `later` goes with `done`: the answer comes by callback."""

    outcome: Outcome
    output: Any = None  # the whole reply
    later: bool = False
    error: str | None = None
    retry_after: float | None = None  # seconds the service asked us to wait
    may_retry: bool = True  # false: a `refused` or `uncertain` that repeating cannot mend
    asked: bool = False  # it says what became of the key; nothing was sent
    is_ours: bool = False  # the service has no part in it: its breaker neither opens nor closes for that


def result_of(output: Any) -> Any:
    """A step's `result` is the `result` member of the reply where it has one, else all of it."""
    return output["result"] if isinstance(output, dict) and "result" in output else output


def limit_of(lane: Lane) -> float:
    """Seconds after its claim at which an attempt is surely over; a `query` lane may be asked first."""
    return lane.timeout * (2 if lane.idempotency == "query" else 1) + MARGIN
