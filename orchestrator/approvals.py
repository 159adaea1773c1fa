"""Callbacks and decisions: whoever commits first wins, and the others are told what was decided. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from orchestrator import attempts, compensation, lives, states
from orchestrator.definition import Decision
from orchestrator.instance import Instance
from orchestrator.rows import Row

RESOLVABLE = frozenset({states.RUNNING, states.RETRYING, states.WAITING, states.UNKNOWN})


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a callback carries."""

    decision: Decision
    result: Any = None
    error: str | None = None
    comment: str | None = None
    by: str | None = None
    uncertain: bool = False  # a rejection that does not say that nothing was done


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What a callback is told: it stands (`made` now or before), or why it cannot."""

    kind: Literal["made", "repeated", "conflict", "gone"]
    present: str  # the decision that stands, or the state in the way


def rule(row: Row, instance_status: str, answer: Answer, generation: int | None) -> Ruling:
    """Judge a callback in the order that DESIGN's interface table gives. `made`: it may be settled now.

    `generation`: the one that the caller's token was made for; none: a person who needs no token.
    """
    if row.decision is not None:
        kind: Literal["repeated", "conflict"] = "repeated" if row.decision == answer.decision else "conflict"
        return Ruling(kind=kind, present=row.decision)
    if states.is_terminal(instance_status):
        return Ruling(kind="conflict", present=instance_status)
    if generation is not None and generation < row.generation:
        return Ruling(kind="gone", present="escalated")
    if not _can_be_settled(row, by_service=generation is not None):
        return Ruling(kind="conflict", present=row.state)
    return Ruling(kind="made", present=answer.decision)


def _can_be_settled(row: Row, *, by_service: bool) -> bool:
    """A service that was called may answer before its leg has parked, and even when its first answer was lost. A person
    decides what waits; what is UNKNOWN is settled by `resolve`, which first waits until the attempt is surely over."""
    if row.state == states.WAITING:
        return True
    was_called = row.state in RESOLVABLE or (
        row.state == states.READY and row.uncertain
    )  # ordered again, not begun yet
    return by_service and row.service is not None and was_called


def decide(instance: Instance, row: Row, answer: Answer) -> None:
    """Settle a wait by a callback that `rule` has let through."""
    settle(instance, row, decision=answer.decision, by=answer.by, comment=answer.comment, result=answer.result,
           error=answer.error, uncertain=answer.uncertain)  # fmt: skip


def settle(instance: Instance, row: Row, *, decision: Decision, by: str | None, comment: str | None = None,
           result: Any = None, error: str | None = None, uncertain: bool = False) -> None:  # fmt: skip
    """The one place where a wait ends by a decision. `uncertain`: whoever was told may act on it even so."""
    output = {"decision": decision, "result": result, "comment": comment}
    written: dict[str, Any] = {"decision": decision, "decided_by": by, "comment": comment, "output": output}
    if uncertain and lives.is_blind(instance, row):
        if row.state not in (states.UNKNOWN, states.READY):  # told again, lost before, or ordered again: nothing new
            attempts.doubt(instance, row, reason=attempts.UNCERTAIN, error=error or comment)
        return
    if decision == "rejected" and _rejection_fails(instance, row):
        instance.move(row, "reject", reason="rejected", error=error or comment or "rejected", uncertain=uncertain,
                      **written)  # fmt: skip
        attempts.after_failure(instance, row, "rejected")
        return
    instance.move(row, "resolve", error=error or "", uncertain=False, **written)
    if row.phase == "undo":
        compensation.undone(instance, row.step)
    else:
        attempts.go_on(instance, row.step)


def _rejection_fails(instance: Instance, row: Row) -> bool:
    return row.phase == "undo" or instance.plan.service(row.step).on_reject == "fail"
