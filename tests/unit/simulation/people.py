"""Operators, clerks and services that answer later. They are honest: an operator looks into the ledger before a verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator import approvals, escalation, operators, states
from orchestrator.approvals import Answer
from orchestrator.attempts import Attempt, idempotency_key
from orchestrator.definition import Block, Decision, EndStep, ServiceStep, WorkflowStep
from orchestrator.errors import Conflict
from orchestrator.instance import Instance
from orchestrator.lane import Lane
from orchestrator.operators import Verdict
from orchestrator.rows import Row

if TYPE_CHECKING:
    from tests.unit.simulation.world import World


def order(world: World, verb: Callable[[Instance], None]) -> bool:
    """An order that does not fit is refused, and then nothing has changed. Returns whether it was carried out."""
    before = world.header, dict(world.rows)
    try:
        world.transition(verb, "operator")
    except Conflict:
        assert (world.header, world.rows) == before, "who is refused changes nothing"
        return False
    return True


# -- callbacks


def answer(world: World, key: tuple[str, states.Phase], given: Answer, generation: int | None) -> str:
    """`callbacks._rule`: the one who commits first wins, and who loses changes nothing."""
    before = world.header, dict(world.rows)

    def verb(instance: Instance) -> str:
        row = instance.row(*key)
        if row is None:
            return "nothing waits"
        ruling = approvals.rule(row, instance.header.status, given, generation)
        if ruling.kind != "made":
            return ruling.kind
        if escalation.is_due(instance, row):
            escalation.time_out(instance, row)
            return "past due"
        approvals.decide(instance, row, given)
        return "made"

    kind = world.transition(verb, "callback")
    assert kind in ("made", "past due") or (world.header, world.rows) == before, "who loses changes nothing"
    return kind


def service_answers(
    world: World, which: int, decision: Decision, *, is_lost: bool = False, uncertain: bool = False
) -> None:
    """A service, or who was told to decide, does what it accepted, or does not; then it calls back."""
    waiting = sorted(world.service.accepted)
    if not waiting:
        return
    attempt = world.service.accepted[waiting[which % len(waiting)]]
    is_approved = decision == "approved" or uncertain
    world.service.decide(
        attempt.key, _lane(world, attempt), approved=is_approved, acts_first=not _only_decides(world, attempt)
    )
    given = Answer(decision=decision, result={"by": "service"}, uncertain=uncertain and decision == "rejected")
    world.answers.append((attempt, given))
    if not is_lost:
        deliver_answer(world, len(world.answers) - 1)


def _only_decides(world: World, attempt: Attempt) -> bool:
    """Who is asked to decide (`pause`) acts when told that the decision stands; any other service has done it by then."""
    return attempt.phase == "do" and world.plan.service(attempt.step).pause


def _lane(world: World, attempt: Attempt) -> Lane:
    return world.plan.lane(attempt.service)


def deliver_answer(world: World, which: int) -> None:
    """An answer arrives, perhaps not for the first time."""
    if not world.answers:
        return
    attempt, given = world.answers[which % len(world.answers)]
    kind = answer(world, (attempt.step, attempt.phase), given, attempt.generation)
    if kind == "made" and given.decision == "approved" and _only_decides(world, attempt):
        world.service.act(attempt, _lane(world, attempt))


def clerk_decides(world: World, which: int, decision: Decision) -> None:
    """Somebody who needs no token decides a wait. Who was told before hears of it, and does nothing any more."""
    rows = [row for row in world.in_state(states.WAITING) if _is_service(world, row) and row.phase == "do"]
    if not rows:
        return
    row = rows[which % len(rows)]
    key = key_of(world, row)
    if row.service and not world.plan.service(row.step).pause:
        return  # nobody decides for a service what it alone can know
    if world.service.has_done(key):
        decision = "approved"  # who was told has acted upon it already
    if answer(world, (row.step, row.phase), Answer(decision=decision, by="clerk"), None) == "made" and row.service:
        world.service.drop(row.step, key)
        world.settled.add((row.step, row.generation))


# -- orders


def resolve(world: World, which: int, *, is_retry: bool = False) -> bool:
    rows = world.in_state(states.UNKNOWN)
    if not rows:
        return False
    row = rows[which % len(rows)]
    return settle_unknown(world, row, is_retry=is_retry)


def settle_unknown(world: World, row: Row, *, is_retry: bool) -> bool:
    """An honest verdict: what the ledger says; and nothing is ordered again that was done on a lane that would do it twice.
    What is still to be decided is called off first."""
    if row.lost_until is not None and row.lost_until > world.now:
        return order(world, lambda instance: operators.resolve(instance, row.step, "retry", by="clerk"))  # refused
    verdict = _verdict(world, row, is_retry=is_retry)
    if verdict == "failed":
        world.service.drop(row.step, key_of(world, row))
    landed = order(world, lambda instance: operators.resolve(instance, row.step, verdict, by="clerk"))
    if landed and verdict == "succeeded":
        world.settled.add((row.step, row.generation))
    return landed


def _verdict(world: World, row: Row, *, is_retry: bool) -> Verdict:
    step = world.plan.place(row.step).step
    if isinstance(step, WorkflowStep) and row.phase == "do":
        return "retry"
    if isinstance(step, Block | EndStep):
        return "failed" if world.header.outcome or not is_retry else "retry"
    was_done = world.service.has_done(key_of(world, row))
    lane = world.plan.lane(row.service)
    is_harmless = not was_done or lane.name in ("key", "query", "other", "safe")
    if is_retry and is_harmless and key_of(world, row) not in world.service.accepted:
        return "retry"
    if row.phase == "undo" and not was_done:
        world.service.by_hand(row.step, "undo", key_of(world, row))  # it is undone by hand
        return "succeeded"
    return "succeeded" if was_done else "failed"


def retry(world: World) -> None:
    """The age of a key that was forgotten counts from now: so nobody orders it for what was done already."""
    for row in world.in_state(states.UNKNOWN):
        if world.service.has_done(key_of(world, row)) and world.plan.lane(row.service).name in ("none", "forgetful"):
            return
    order(world, operators.retry)


def attest(world: World) -> None:
    """What its compensation could not do, a person has done by hand."""
    stuck = world.in_state(states.STUCK)
    if not stuck:
        return
    step = stuck[0].step
    key = key_of(world, world.rows[step, "undo"])
    if not world.service.has_done(key):
        world.service.by_hand(step, "undo", key)
    order(world, lambda instance: operators.resolve(instance, step, "succeeded", by="clerk"))


def key_of(world: World, row: Row) -> str:
    return idempotency_key(world.header.id, row.step, row.generation, row.phase)


def _is_service(world: World, row: Row) -> bool:
    return isinstance(world.plan.place(row.step).step, ServiceStep)


def soon(world: World, row: Row) -> None:
    if row.lost_until is not None and row.lost_until > world.now:
        world.wait((row.lost_until - world.now).total_seconds())
