"""What is stored of an instance and of its steps, as frozen values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.states import RUNNING, UNBORN, Phase

CANARY = "\x01canary"  # the tenant of our own instances: no token may name one with a character that is not printable


@dataclass(frozen=True, kw_only=True)
class Header:
    """One instance."""

    id: str  # the trace id: a UUIDv7 in 32 hex digits
    tenant: str
    workflow_id: str
    version_id: str
    version: int
    status: str = UNBORN
    reason: str | None = None
    outcome: str | None = None  # why it is being undone: failed, cancelled or deadline
    cause: str | None = None  # and the reason of that, shown again when nothing is stuck any more
    history_seq: int = 0
    life: int = 1  # raised when an operator retries an ended instance
    business_key: str | None = None
    parent_id: str | None = None  # the instance that has started this one, by which step, in which generation of it
    parent_step: str | None = None
    parent_generation: int | None = None
    root_id: str | None = None  # the first of that line; none: this one
    parent_told: bool = False  # of its end
    deadline_at: datetime | None = None
    suspended_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    doubted_since: datetime | None = None  # it was restored from a backup that knows nothing of it since then
    restored_at: datetime | None = None  # when: what had been sent before may be in flight for a while


@dataclass(frozen=True, kw_only=True)
class Row:
    """A step of an instance (phase `do`), or the compensation of one (phase `undo`)."""

    step: str
    phase: Phase
    order: int  # in the definition
    queue: str
    state: str = UNBORN
    reason: str | None = None
    service: str | None = None  # lane.operation that it is directed at now
    generation: int = 1  # part of the idempotency key
    attempt: int = 0  # counts every claim and never goes back: the fence against stale attempts
    tries: int = 0  # calls that count towards retry.max
    losses: int = 0  # leases lost while dispatched alone; they count towards quarantine
    rounds: int = 0  # times that `onTimeout: retry` has renewed the budget
    alone: bool = False  # dispatched in a wave of its own
    escalated: bool = False
    uncertain: bool = False  # some attempt of this generation may have had its effect
    uncertain_before: bool = False  # the same of an earlier generation, which was escalated away
    branches_left: int = 0  # of a block; of a loop, its iterations that have not ended
    items: int = 0  # of a loop: how many iterations there are, or may be
    begun: int = 0  # of a loop: how many iterations have had their turn
    done_seq: int | None = None  # history number at which it ended: the undo list's order
    decision: str | None = None
    worker: str | None = None
    ready_at: datetime | None = None
    published_at: datetime | None = None  # none: no message carries it yet
    gate: str | None = None  # the lane that has been asked to admit it; none: it takes everything
    deferred: str | None = None  # why the lane has not (`admission.Refusal`): it waits to be let in
    started_at: datetime | None = None  # this generation's first claim
    lease_until: datetime | None = None
    limit_until: datetime | None = None  # no lease is extended beyond this: by then the attempt that runs is over
    lost_until: datetime | None = None  # and by this every lost one is
    due_at: datetime | None = None  # READY, RETRYING: not before; WAITING: the deadline
    budget_until: datetime | None = None  # the end of `timeout`
    ended_at: datetime | None = None
    # Written, never loaded here; none leaves what stands there, unless `clears` is set.
    clears: bool = False  # a new generation: nothing of the last one's reply is left
    output: Any = None
    error: str | None = None
    comment: str | None = None
    decided_by: str | None = None

    @property
    def key(self) -> tuple[str, Phase]:
        return self.step, self.phase

    @property
    def may_have_been_done(self) -> bool:
        return self.uncertain or self.uncertain_before

    @property
    def is_leased(self) -> bool:
        """Somebody is executing it; an opened block is RUNNING too, but nobody holds it."""
        return self.state == RUNNING and self.lease_until is not None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of an instance's history: one transition. `step` is none for the instance itself."""

    seq: int
    verb: str
    status: str
    step: str | None = None
    phase: Phase | None = None
    reason: str | None = None
    attempt: int | None = None
    generation: int | None = None
    service: str | None = None
    output: Any = None
    error: str | None = None
    worker: str | None = None
