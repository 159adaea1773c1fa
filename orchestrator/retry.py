"""What an attempt's reply means for its step. A policy: it returns a verdict and performs nothing. Pure.

Follows DESIGN's "Attempt outcomes": what is certain ends the step; what is uncertain is repeated where the lane
honours the key or was asked, and otherwise left to a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from orchestrator.clock import later
from orchestrator.definition import Retry
from orchestrator.lane import Lane, Reply


@dataclass(frozen=True, kw_only=True)
class Done:
    output: Any


@dataclass(frozen=True, kw_only=True)
class Parked:
    output: Any


@dataclass(frozen=True, kw_only=True)
class Again:
    due: datetime
    error: str
    uncertain: bool


@dataclass(frozen=True, kw_only=True)
class Failed:
    reason: str
    error: str
    uncertain: bool


@dataclass(frozen=True, kw_only=True)
class Doubtful:
    error: str


@dataclass(frozen=True, kw_only=True)
class TimedOut:
    error: str
    uncertain: bool


Verdict: TypeAlias = Done | Parked | Again | Failed | Doubtful | TimedOut


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is known of the attempt that a reply is judged for."""

    lane: Lane
    retry: Retry
    tries: int  # this attempt included
    uncertain: bool  # an earlier attempt of the generation may have had its effect
    started_at: datetime  # of the generation's first attempt
    budget_until: datetime | None
    pause: bool  # the step waits for a decision once its service was told


def judge(reply: Reply, trial: Trial, now: datetime, chance: float) -> Verdict:
    """`chance` in [0, 1) is the jitter. Never repeats an uncertain effect on a lane of kind `none`.

    A rejection after an attempt of unknown outcome may be a gateway's, or mean "this key is in progress": the doubt about
    the first attempt stays, and it is undone as if done; on a `none` lane only a person can tell.
    """
    error = reply.error or reply.outcome
    if reply.outcome == "done":
        return Parked(output=reply.output) if reply.later or trial.pause else Done(output=reply.output)
    if reply.outcome == "rejected":
        return _rejected(trial, error)
    uncertain = _is_uncertain(reply, trial)
    if uncertain and not _may_repeat(trial, now):
        return Doubtful(error=error)
    verdict = _unasked(trial, reply, now, chance, uncertain)
    if uncertain and trial.lane.idempotency == "query" and not isinstance(verdict, Again):
        # Before it is left to a person, the service is asked: once, in the backoff's time or as the budget ends.
        return (
            Doubtful(error=error)
            if reply.asked
            else Again(due=_ask_at(trial, now, chance), error=error, uncertain=True)
        )
    return verdict


def _unasked(trial: Trial, reply: Reply, now: datetime, chance: float, uncertain: bool) -> Verdict:
    error = reply.error or reply.outcome
    if trial.tries > trial.retry.max or not reply.may_retry:
        return Failed(reason="uncertain" if uncertain else "exhausted", error=error, uncertain=uncertain)
    return _again(
        trial, later(now, max(backoff(trial.retry, trial.tries, chance), reply.retry_after or 0.0)), error, uncertain
    )


def _ask_at(trial: Trial, now: datetime, chance: float) -> datetime:
    due = later(now, backoff(trial.retry, trial.tries, chance))
    return due if trial.budget_until is None or due < trial.budget_until else now


def _rejected(trial: Trial, error: str) -> Verdict:
    if trial.uncertain and trial.lane.idempotency == "none":
        return Doubtful(error=error)
    return Failed(reason="rejected", error=error, uncertain=trial.uncertain and trial.lane.idempotency != "safe")


def _again(trial: Trial, due: datetime, error: str, uncertain: bool) -> Verdict:
    """Unless it would come too late: for the budget, or for a lane that forgets its keys."""
    if trial.budget_until is not None and due >= trial.budget_until:
        return TimedOut(error=error, uncertain=uncertain)
    if uncertain and not _may_repeat(trial, due):
        return Doubtful(error=error)
    return Again(due=due, error=error, uncertain=uncertain)


def _is_uncertain(reply: Reply, trial: Trial) -> bool:
    return trial.lane.idempotency != "safe" and (trial.uncertain or reply.outcome == "uncertain")


def _may_repeat(trial: Trial, now: datetime) -> bool:
    """Whether a repeat is harmless: the receiver remembers the key, or can be asked first."""
    return trial.lane.idempotency != "none" and not is_forgotten(trial.lane, trial.started_at, now)


def is_forgotten(lane: Lane, started_at: datetime, now: datetime) -> bool:
    """Whether the receiver may no longer know a key that was first sent at `started_at`."""
    has_ttl = lane.idempotency == "key" and lane.key_ttl is not None
    return has_ttl and now >= started_at + timedelta(seconds=lane.key_ttl or 0.0)


def may_send(retry: Retry, tries: int) -> bool:
    """Whether the attempt is one of those that `retry.max` allows; one more may only ask what became of them."""
    return tries <= retry.max + 1


def backoff(retry: Retry, tries: int, chance: float) -> float:
    """Seconds before the next attempt: exponential, capped, and with jitter between half and all of it."""
    exponent = min(max(tries - 1, 0), 64)
    wait = min(retry.backoff * retry.factor**exponent, retry.cap)
    return wait * (0.5 + chance / 2) if retry.jitter else wait
