"""What the result of an attempt means for its instance: which verb records it, under the instance's lock."""

from __future__ import annotations

from typing import assert_never

from orchestrator import attempts, blocks, calls, doubts, escalation, kinship, retry
from orchestrator.attempts import Attempt
from orchestrator.children import Refused
from orchestrator.control import (
    AwaitsChild,
    Checked,
    Chosen,
    Control,
    Ends,
    Listed,
    NoChild,
    Opened,
    Sleeps,
)
from orchestrator.definition import ServiceStep
from orchestrator.instance import Instance
from orchestrator.lane import Reply
from orchestrator.rows import Row
from orchestrator.states import UNKNOWN
from orchestrator.system import System


def conclude(system: System, instance: Instance, attempt: Attempt, result: calls.Result) -> None:
    """Record one attempt's result, under the instance's lock; nothing where a later attempt has begun meanwhile."""
    row = instance.row(attempt.step, attempt.phase)
    if row is None or row.attempt != attempt.attempt:
        return
    if row.state == UNKNOWN and isinstance(result, Reply):
        attempts.settle_late(instance, row, result, attempt)
    elif row.is_leased:
        _conclude(system, instance, row, result)


def _conclude(system: System, instance: Instance, row: Row, result: calls.Result) -> None:
    match result:
        case calls.Lost():
            attempts.release(instance, row)  # nothing was sent, and nobody has taken over yet
        case calls.Skipped():
            attempts.skip(instance, doubts.cleared(instance, row))
        case Opened() | Chosen() | Listed() | Checked() | Sleeps() | Ends() | AwaitsChild() | NoChild() | Refused():
            _conclude_control(instance, row, result)
        case calls.Waits():
            attempts.park(instance, row, None, uncertain=False)
        case calls.Inexpressible(error=error):
            attempts.fail(instance, row, reason="expression", error=error, uncertain=row.uncertain)
        case calls.Forgotten(error=error):
            attempts.doubt(instance, row, reason=attempts.UNCERTAIN, error=error)
        case calls.NeverArrived():
            error = "all retries are used up, and the service knows nothing of the key"  # yet: it may be at work
            attempts.fail(instance, row, reason=attempts.UNCERTAIN, error=error, uncertain=True)
        case calls.Overdue():
            escalation.time_out(instance, row)
        case Reply():
            _conclude_reply(system, instance, row, result)
        case _:
            assert_never(result)


def _conclude_control(instance: Instance, row: Row, result: Control) -> None:
    match result:
        case Opened():
            blocks.open_block(instance, row)
        case Chosen(case=case):
            blocks.choose(instance, row, case)
        case Listed(items=items, before=before):
            blocks.iterate(instance, row, items, before)
        case Checked(is_done=is_done):
            blocks.check(instance, row, is_done=is_done)
        case Sleeps(until=until):
            blocks.sleep(instance, row, until)
        case Ends():
            blocks.finish(instance, row)
        case AwaitsChild(id=child):
            kinship.await_child(instance, row, child)
        case NoChild():
            kinship.do_without(instance, row)
        case Refused(error=error):
            attempts.fail(instance, row, reason="rejected", error=error)
        case _:
            assert_never(result)


def _conclude_reply(system: System, instance: Instance, row: Row, reply: Reply) -> None:
    step = instance.plan.place(row.step).step
    trial = retry.Trial(
        lane=instance.plan.lane(row.service), retry=attempts.retry_of(step, row.phase), tries=row.tries,
        uncertain=row.uncertain, started_at=row.started_at or instance.now, budget_until=row.budget_until,
        pause=isinstance(step, ServiceStep) and step.pause and row.phase == "do",
    )  # fmt: skip
    verdict = retry.judge(reply, trial, instance.now, system.chance())
    match verdict:
        case retry.Done(output=output):
            attempts.succeed(instance, row, output)
        case retry.Parked(output=output):
            attempts.park(instance, row, output, uncertain=True)
        case retry.Again(due=due, error=error, uncertain=uncertain):
            attempts.retry(instance, row, due=due, error=error, uncertain=uncertain)
        case retry.Failed(reason=reason, error=error, uncertain=uncertain):
            attempts.fail(instance, row, reason=reason, error=error, uncertain=uncertain)
        case retry.Doubtful(error=error):
            attempts.doubt(instance, row, reason=attempts.UNCERTAIN, error=error)
        case retry.TimedOut(error=error, uncertain=uncertain):
            escalation.time_out(instance, row, error=error, uncertain=uncertain)
        case _:
            assert_never(verdict)
