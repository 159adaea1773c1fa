"""One attempt at a step: claimed under a lease, and recorded once. Pure.

Every verb names the attempt that it speaks for; one that has been taken over meanwhile (`stale`) changes nothing.
Both phases go the same way: the compensation of a step is claimed, retried and lost like the step itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator import admission, compensation, doubts, flow, states
from orchestrator.admission import Refusal
from orchestrator.clock import later
from orchestrator.definition import Retry, ServiceStep, Step
from orchestrator.instance import CONDITION, Instance
from orchestrator.lane import Reply
from orchestrator.plan import Plan
from orchestrator.rows import Row
from orchestrator.states import Phase

RELEASED = 1.0  # seconds before a step that was handed back is taken again
UNCERTAIN, QUARANTINED, TIMEOUT = "uncertain", "quarantined", "timeout"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What a leg holds once its claim has landed."""

    instance: str
    tenant: str
    step: str
    phase: Phase
    attempt: int
    generation: int
    tries: int  # this one included
    uncertain: bool  # an earlier attempt of this generation may have had its effect
    service: str | None
    worker: str
    started_at: datetime
    budget_until: datetime | None
    limit_until: datetime | None  # also tells one claim from another
    begun: int = 0  # of a loop: iterations that have had their turn
    now: datetime
    is_doubted: bool = False  # it may have been done before the database was restored, and only a person can tell

    @property
    def key(self) -> str:
        return idempotency_key(self.instance, self.step, self.generation, self.phase)


def key_of(instance: Instance, row: Row) -> str:
    return idempotency_key(instance.header.id, row.step, row.generation, row.phase)


def idempotency_key(trace: str, step: str, generation: int, phase: Phase) -> str:
    return f"{trace}:{step.replace('[', ':').replace(']', '')}:g{generation}:{phase}"


def claim(instance: Instance, step: str, phase: Phase, *, worker: str, lease: float, limit: float,
          alone: bool = True, gate: str | None = None) -> Attempt | None:  # fmt: skip
    """Take a step that is READY, or RETRYING and due; None when there is nothing to take.

    `lease` and `limit` are seconds: how long a silent worker holds it, and how long a live one may; nothing is sent
    that could not be over by then. `gate`: the lane, where it had to admit the call.
    """
    row = instance.row(step, phase)
    if row is None or not may_claim(instance, row):
        return None
    remedy = doubts.remedy(instance, row)
    row = row if remedy == "none" else doubts.begun(instance, row)
    started = row.started_at or instance.now
    over = later(instance.now, limit)
    row = instance.move(
        row, "look" if row.begun else "claim", worker=worker, attempt=row.attempt + 1, tries=row.tries + 1, started_at=started, alone=alone,
        lease_until=min(later(instance.now, lease), over), limit_until=over, due_at=None,
        gate=gate, budget_until=row.budget_until or _budget(instance, row),
    )  # fmt: skip
    return Attempt(
        instance=instance.header.id, tenant=instance.header.tenant, step=step, phase=phase, attempt=row.attempt,
        generation=row.generation, tries=row.tries, uncertain=row.uncertain, service=row.service, worker=worker, started_at=started,
        budget_until=row.budget_until, limit_until=row.limit_until, now=instance.now,
        begun=row.begun, is_doubted=remedy == "person",
    )  # fmt: skip


def defer(instance: Instance, row: Row, *, gate: str, reason: Refusal) -> None:
    """Its lane does not take it now: no attempt is spent, and nothing is entered in the history. Where the lane is shut
    the step's budget begins to run; to wait for one's turn takes nothing of it. That it has to be asked for is noted, for
    then it is not let go when its time is up."""
    if must_ask(instance, row) and not row.uncertain:
        row = doubts.begun(instance, row)
    budget = row.budget_until or (_budget(instance, row) if reason in admission.SHUT else None)
    instance.amend(row, gate=gate, deferred=reason, published_at=None, budget_until=budget)


def put_off(instance: Instance, row: Row) -> None:
    """This process has its hands full with another one that has lost a worker. No attempt is spent."""
    due = later(instance.now, RELEASED)
    instance.amend(row, due_at=due, ready_at=due, published_at=None)


def await_lost(instance: Instance, row: Row) -> bool:
    """Whether it is put off until what was sent before a restore is over; a lane that has to be asked may not know before."""
    if doubts.remedy(instance, row) != "repeat":
        return False
    row = doubts.begun(instance, row)
    due = repeatable_at(instance, row)
    if due > instance.now:
        instance.amend(row, due_at=due, ready_at=due, published_at=None)
    return due > instance.now


def may_claim(instance: Instance, row: Row) -> bool:
    wanted_now = row.phase == ("undo" if instance.is_falling else "do") or compensation.is_awaited(instance, row)
    is_due = row.state in states.CLAIMABLE and (row.due_at is None or row.due_at <= instance.now)
    return wanted_now and is_due and instance.header.suspended_at is None and not instance.is_over


def is_overdue(instance: Instance, row: Row) -> bool:
    """Nothing may be sent for it any more."""
    return row.budget_until is not None and row.budget_until <= instance.now


def must_ask(instance: Instance, row: Row) -> bool:
    """Whether its service is asked what became of its key before anything else, though its time is up."""
    is_asked = instance.plan.lane(row.service).idempotency == "query"
    return is_asked and (row.uncertain or doubts.remedy(instance, row) == "repeat")


def _budget(instance: Instance, row: Row) -> datetime | None:
    seconds = budget_of(instance, row)
    return later(instance.now, seconds) if seconds is not None else None


def budget_of(instance: Instance, row: Row) -> float | None:
    """Seconds that the row's generation may take, all attempts; none: as long as its retries last."""
    return planned_budget(instance.plan, row.step, row.phase, escalated=row.escalated)


def planned_budget(plan: Plan, name: str, phase: Phase, *, escalated: bool) -> float | None:
    step = plan.place(name).step
    if not isinstance(step, ServiceStep):
        return None
    if phase == "undo":
        return step.compensation.timeout if step.compensation else None
    if escalated:
        return step.escalation.timeout if step.escalation else None
    return step.timeout


def retry_of(step: Step, phase: Phase) -> Retry:
    """A compensation takes its step's `retry` unless it has its own."""
    if not isinstance(step, ServiceStep):
        return Retry()
    own = step.compensation.retry if phase == "undo" and step.compensation else None
    return own or step.retry


def held(instance: Instance, step: str, phase: Phase, attempt: int) -> Row | None:
    """The row, if it is still this attempt that runs it."""
    row = instance.row(step, phase)
    return row if row is not None and row.is_leased and row.attempt == attempt else None


def release(instance: Instance, row: Row) -> None:
    """Hand a step back before anything was sent: the attempt counts for nothing but the fence."""
    # A moment later: whoever could not send in time is on a machine that has too much to do.
    due = later(instance.now, RELEASED)
    row = instance.move(row, "release", tries=row.tries - 1, published_at=None, worker=None, due_at=due)
    _if_falling_end(instance, row)


def _if_falling_end(instance: Instance, row: Row) -> None:
    """Its instance has fallen meanwhile: a step that need not be awaited ends."""
    if instance.is_falling and row.phase == "do":
        compensation.end(instance, row)
        compensation.drain(instance)


def skip(instance: Instance, row: Row, reason: str = CONDITION) -> None:
    instance.move(row, "skip", reason=reason)
    flow.pass_by(instance, row.step)
    go_on(instance, row.step)


def go_on(instance: Instance, step: str) -> None:
    """A step has ended well. When its instance is falling, it drains instead of going on."""
    if instance.is_falling:
        compensation.drain(instance)
    else:
        flow.leave(instance, step)


def succeed(instance: Instance, row: Row, output: Any) -> None:
    instance.move(row, "succeed", output=output, error="", uncertain=False)
    if row.phase == "undo":
        compensation.undone(instance, row.step)
    else:
        go_on(instance, row.step)


def park(instance: Instance, row: Row, output: Any, *, uncertain: bool) -> None:
    """The answer or the decision comes later. `uncertain`: a service was told, so it may act on it, if that is an effect."""
    in_doubt = uncertain and instance.plan.lane(row.service).idempotency != "safe"
    row = instance.move(row, "park", due_at=row.budget_until, output=output, uncertain=in_doubt)
    _if_falling_end(instance, row)


def retry(instance: Instance, row: Row, *, due: datetime, error: str, uncertain: bool) -> None:
    changes: dict[str, Any] = {"due_at": due, "error": error, "uncertain": uncertain, "published_at": None,
                               "losses": 0}  # fmt: skip
    row = instance.move(row, "retry", **changes)
    _if_falling_end(instance, row)


def fail(instance: Instance, row: Row, *, reason: str, error: str | None, uncertain: bool = False) -> None:
    """It cannot succeed. `uncertain`: nobody knows whether it was done, so it is undone as if it was."""
    instance.move(row, "fail", reason=reason, error=error, uncertain=uncertain)
    after_failure(instance, row, reason)


def after_failure(instance: Instance, row: Row, reason: str) -> None:
    if row.phase == "undo":
        compensation.stick(instance, row.step)
    elif instance.is_falling:
        compensation.drain(instance)
    elif flow.goes_on(instance, row):
        flow.leave(instance, row.step)
    else:
        compensation.fall(instance, compensation.FAILED, reason)


def repeatable_at(instance: Instance, row: Row) -> datetime:
    """When a lost step may be tried again: with the same key at once; a lane that has to be asked is asked only when no
    lost attempt can be in flight any more, for before it may not know yet."""
    must_ask = instance.plan.lane(row.service).idempotency == "query"
    return max(instance.now, row.lost_until) if must_ask and row.lost_until else instance.now


def settle_late(instance: Instance, row: Row, reply: Reply, attempt: Attempt) -> None:
    """A lost attempt comes back after all, and nobody has settled it yet: its definite answer spares a person the search.

    Its rejection says nothing about attempts before it that were in doubt. That its answer comes later is news only where
    it was lost: else that answer was quicker than this one, and is what the doubt is about.
    """
    was_lost = row.lost_until is not None and attempt.limit_until is not None and row.lost_until >= attempt.limit_until
    if reply.outcome == "done" and (reply.later or _awaits_decision(instance, row)):
        if was_lost:
            park(instance, row, reply.output, uncertain=True)
    elif reply.outcome == "rejected" and not attempt.uncertain:
        row = instance.move(row, "reject", reason="rejected", error=reply.error, uncertain=False)
        after_failure(instance, row, "rejected")
    elif reply.outcome == "done":
        instance.move(row, "resolve", output=reply.output, error="", uncertain=False)
        if row.phase == "undo":
            compensation.undone(instance, row.step)
        else:
            go_on(instance, row.step)


def _awaits_decision(instance: Instance, row: Row) -> bool:
    step = instance.plan.place(row.step).step
    return row.phase == "do" and isinstance(step, ServiceStep) and step.pause


def doubt(instance: Instance, row: Row, *, reason: str, error: str | None) -> None:
    """Its effect is uncertain on a lane that can neither be asked nor repeated: a person has to tell.

    A lost one may still be running: a person's verdict waits until it cannot be.
    """
    instance.move(row, "doubt", reason=reason, error=error, uncertain=True)


def _handed_over_at(instance: Instance, row: Row) -> datetime:
    """When a step that was handed over may be repeated. A function of ours ends with its process. A service goes on with
    what it was sent: it sees the same key a second time no sooner than if the process had been killed."""
    lane = instance.plan.lane(row.service)
    goes_on = lane.transport != "local" and lane.idempotency != "safe"
    return max(instance.now, row.lease_until) if goes_on and row.lease_until else instance.now


def lose(instance: Instance, row: Row, *, losses: int, handed_over: bool = False) -> None:
    """Its lease ran out. It uses up no retry; `losses` in a row, alone in its message, quarantine it.

    The lost attempt may be in flight until its limit. `handed_over`: its worker has not died of it, but was told to stop.
    """
    idempotency = instance.plan.lane(row.service).idempotency
    count = row.losses + (1 if row.alone and not handed_over else 0)
    error = f"the worker {row.worker} was {'stopped' if handed_over else 'lost'} in attempt {row.attempt}"
    due = _handed_over_at(instance, row) if handed_over else instance.now
    row = instance.amend(
        row, losses=count, lost_until=max(filter(None, (row.limit_until, row.lost_until)), default=None)
    )
    if idempotency == "none":
        doubt(instance, row, reason=UNCERTAIN, error=error)
    elif count >= losses:
        doubt(instance, row, reason=QUARANTINED, error=f"{error}; it has lost {count} workers")
    else:
        row = instance.move(
            row, "lose", reason="lost", error=error, tries=row.tries - 1,
            due_at=max(due, repeatable_at(instance, row)), published_at=None, alone=True, uncertain=idempotency != "safe",
        )  # fmt: skip
        _if_falling_end(instance, row)
