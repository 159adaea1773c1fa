"""The one table of allowed transitions, verb by verb. Pure; the diagram in the docs is made from it.

`store/transitions.py` performs what this table allows; nothing else writes a state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Phase: TypeAlias = Literal["do", "undo"]

READY, RUNNING, RETRYING, WAITING = "READY", "RUNNING", "RETRYING", "WAITING"
SUCCEEDED, FAILED, UNKNOWN, SKIPPED = "SUCCEEDED", "FAILED", "UNKNOWN", "SKIPPED"
COMPENSATING, COMPENSATED, STUCK = "COMPENSATING", "COMPENSATED", "STUCK"
COMPLETED, CANCELLED, SUSPENDED = "COMPLETED", "CANCELLED", "SUSPENDED"

UNBORN = ""  # a step without a row has not been reached

STEP_STATES = (READY, RUNNING, RETRYING, WAITING, SUCCEEDED, FAILED, UNKNOWN, SKIPPED, COMPENSATING, COMPENSATED, STUCK)
INSTANCE_STATES = (RUNNING, WAITING, COMPENSATING, SUSPENDED, STUCK, COMPLETED, COMPENSATED, FAILED, CANCELLED)
TERMINAL = frozenset({COMPLETED, COMPENSATED, FAILED, CANCELLED})

CLAIMABLE = frozenset({READY, RETRYING})
PENDING = frozenset({READY, RETRYING, WAITING})  # ended at once when the instance fails
UNSETTLED = frozenset({RUNNING, UNKNOWN})  # awaited before anything is undone
ACTIVE = PENDING | UNSETTLED


@dataclass(frozen=True, kw_only=True)
class Transition:
    verb: str
    sources: frozenset[str]
    target: str
    why: str


def _step(verb: str, sources: str, target: str, why: str) -> Transition:
    from_states = frozenset(UNBORN if name == "unborn" else name for name in sources.split())
    return Transition(verb=verb, sources=from_states, target=target, why=why)


STEP = {
    row.verb: row
    for row in (
        _step("ready", "unborn", READY, "its predecessor has ended"),
        _step("claim", "READY RETRYING", RUNNING, "a leg has taken it, under a lease"),
        _step("look", "READY RETRYING", RUNNING, "a leg has taken a loop whose condition has to be looked at"),
        _step("open", "unborn RUNNING", RUNNING, "a block has opened what is inside it"),
        _step("check", "RUNNING", READY, "a round of a `repeat` is over: its condition has to be looked at"),
        _step("release", "RUNNING", READY, "handed back before anything was sent"),
        _step("park", "RUNNING UNKNOWN", WAITING, "the answer or the decision comes by callback"),
        _step("sleep", "RUNNING", WAITING, "it waits for a moment"),
        _step("delegate", "RUNNING", WAITING, "its sub-workflow is under way"),
        _step("succeed", "RUNNING", SUCCEEDED, "the service has done it"),
        _step(
            "resolve", "READY RUNNING RETRYING WAITING UNKNOWN", SUCCEEDED, "a callback, a deadline or a person decided"
        ),
        _step("reject", "READY RUNNING RETRYING WAITING UNKNOWN", FAILED, "the same, to the contrary"),
        _step("elapse", "RUNNING WAITING", SUCCEEDED, "its moment has come, or had passed before"),
        _step("retry", "RUNNING WAITING", RETRYING, "it will be tried again when due"),
        _step("lose", "RUNNING", RETRYING, "its lease ran out: another leg takes over"),
        _step("fail", "READY RUNNING RETRYING WAITING", FAILED, "it cannot succeed"),
        _step(
            "doubt",
            "READY RUNNING RETRYING WAITING FAILED SKIPPED",
            UNKNOWN,
            "its effect is uncertain and only a person can tell",
        ),
        _step("skip", "RUNNING RETRYING WAITING", SKIPPED, "its condition is false, or its `onTimeout` says so"),
        _step("escalate", "RUNNING RETRYING WAITING", READY, "its time is up: a new generation goes to the backup"),
        _step("end", "READY RETRYING WAITING RUNNING", SKIPPED, "its instance has failed or was cancelled"),
        _step("attest", "FAILED", SUCCEEDED, "a person has done by hand what its compensation could not"),
        _step("redo", "UNKNOWN", READY, "a person orders the same generation again"),
        _step("renew", "FAILED SKIPPED COMPENSATED SUCCEEDED", READY, "an operator retries: a new generation"),
        _step("reopen", "SUCCEEDED SKIPPED FAILED", RUNNING, "the same, for a block"),
        _step("undo", "SUCCEEDED FAILED SKIPPED STUCK", COMPENSATING, "it is on the undo list"),
        _step("compensate", "COMPENSATING", COMPENSATED, "its compensation has succeeded"),
        _step("stick", "COMPENSATING", STUCK, "its compensation cannot succeed without a person"),
    )
}

INSTANCE = {
    row.verb: row
    for row in (
        _step("start", "unborn", RUNNING, "accepted, with its payload"),
        _step("wait", "RUNNING STUCK SUSPENDED", WAITING, "all that is left waits"),
        _step("proceed", "WAITING STUCK SUSPENDED", RUNNING, "something can run again"),
        _step("halt", "RUNNING WAITING COMPENSATING SUSPENDED", STUCK, "only a person can settle what is left"),
        _step("fall", "RUNNING WAITING STUCK SUSPENDED", COMPENSATING, "a step failed, time is up, or a cancel came"),
        _step("drop", "STUCK SUSPENDED", COMPENSATING, "a person has settled it: the undo goes on"),
        _step("suspend", "RUNNING WAITING COMPENSATING STUCK", SUSPENDED, "an operator holds back new claims"),
        _step("complete", "RUNNING WAITING STUCK SUSPENDED", COMPLETED, "every step has ended well"),
        _step("compensate", "COMPENSATING STUCK SUSPENDED", COMPENSATED, "failed, and what was done is undone"),
        _step("fail", "COMPENSATING STUCK SUSPENDED", FAILED, "failed, and there was nothing to undo"),
        _step("cancel", "COMPENSATING STUCK SUSPENDED", CANCELLED, "cancelled, and what was done is undone"),
        _step("recall", "COMPLETED", COMPENSATING, "its parent undoes what it did"),
        _step("restart", "FAILED COMPENSATED", RUNNING, "an operator retries it"),
    )
}


def target(verb: str, source: str) -> str:
    """The state that `verb` leads to from `source`. Raises ValueError when the table does not allow it."""
    transition = STEP[verb]
    if source not in transition.sources:
        raise ValueError(f"{verb} is not allowed from {source or 'unborn'}")
    return transition.target


def is_terminal(status: str) -> bool:
    return status in TERMINAL


def edges(table: Mapping[str, Transition]) -> Iterator[tuple[str, str, str]]:
    """(source, verb, target) of every edge, in the order of the table: what a diagram draws."""
    for transition in table.values():
        for source in sorted(transition.sources):
            yield source, transition.verb, transition.target
