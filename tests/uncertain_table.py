"""The table of uncertain outcomes: every form of one by every kind of lane, and what becomes of the step.

Written from DESIGN's promises: an effect happens once, a step that may have been done is settled by key or query, or
undone as if it was, and is UNKNOWN where its lane allows neither. Without a compensation it fails with its reason
(ADR 0007). `effects` is what the service did, in order; a `safe` lane has none to speak of, so there it counts calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

LANES = ("keyed", "brief", "asked", "safe", "blind")  # `brief` remembers a key for 60 s


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What becomes of one."""

    instance: str  # its status
    step: str  # the state of `work`
    why: str | None  # the reason for which it failed or is UNKNOWN
    effects: str  # in the ledger
    calls: int  # that carried `work`'s key, deduplicated or not
    asks: int = 0


# One line a lane: with a compensation, and without where that differs.
Form: TypeAlias = Mapping[str, tuple[Cell, ...]]


def done(*, calls: int, effects: str = "do", asks: int = 0) -> Cell:
    return Cell(instance="COMPLETED", step="SUCCEEDED", why=None, effects=effects, calls=calls, asks=asks)


def undone(why: str, *, calls: int, effects: str = "do undo", asks: int = 0) -> Cell:
    return Cell(instance="COMPENSATED", step="COMPENSATED", why=why, effects=effects, calls=calls, asks=asks)


def failed(why: str, *, calls: int, effects: str = "do", asks: int = 0) -> Cell:
    return Cell(instance="FAILED", step="FAILED", why=why, effects=effects, calls=calls, asks=asks)


def unknown(*, calls: int, effects: str = "do", asks: int = 0) -> Cell:
    return Cell(instance="STUCK", step="UNKNOWN", why="uncertain", effects=effects, calls=calls, asks=asks)


# It was done, and nobody heard of it; the next call is answered.
DONE_UNHEARD: Form = {
    "keyed": (done(calls=2),),
    "brief": (unknown(calls=1),),
    "asked": (done(calls=1, asks=1),),
    "safe": (done(calls=2, effects="do do"),),
    "blind": (unknown(calls=1),),
}
# It was done, and nobody heard of it until the retries were used up.
NEVER_HEARD: Form = {
    "keyed": (undone("uncertain", calls=2), failed("uncertain", calls=2)),
    "brief": (unknown(calls=1),),
    "asked": (done(calls=2, asks=2),),  # the second call was made, for the first never arrived; then it is asked
    "safe": (failed("exhausted", calls=2, effects="do do"),),  # there is nothing to undo
    "blind": (unknown(calls=1),),
}

TABLE: dict[str, Form] = {
    "lost lease": DONE_UNHEARD,
    "timeout after the send": DONE_UNHEARD,
    "retries exhausted by timeouts": NEVER_HEARD,
    "connection reset before any reply": DONE_UNHEARD,
    "connection closed before any reply": DONE_UNHEARD,
    "connection closed in mid-reply": DONE_UNHEARD,
    "retries exhausted by lost connections": NEVER_HEARD,
    # The request was on its way when the connection went, and never did anything; only the service can know that.
    "connection reset before the effect": {
        "keyed": (done(calls=2),),
        "brief": (unknown(calls=1, effects=""),),
        "asked": (done(calls=2, asks=1),),
        "safe": (done(calls=2),),
        "blind": (unknown(calls=1, effects=""),),
    },
    "unreadable 2xx": DONE_UNHEARD,
    "5xx": DONE_UNHEARD,
    "408": DONE_UNHEARD,
    "425": DONE_UNHEARD,
    # A gateway gives up, and the service may be at work still: that it does not know the key yet settles nothing.
    "5xx without an effect so far": {
        "keyed": (undone("uncertain", calls=1, effects="undo"), failed("uncertain", calls=1, effects="")),
        "brief": (undone("uncertain", calls=1, effects="undo"), failed("uncertain", calls=1, effects="")),
        "asked": (undone("uncertain", calls=1, effects="undo", asks=1), failed("uncertain", calls=1, effects="", asks=1)),
        "safe": (failed("exhausted", calls=1, effects=""),),
        "blind": (unknown(calls=1, effects=""),),
    },
    "rejection after a 5xx": {
        "keyed": (undone("rejected", calls=2, effects="undo"), failed("rejected", calls=2, effects="")),
        "brief": (unknown(calls=1, effects=""),),
        "asked": (undone("rejected", calls=2, effects="undo", asks=1), failed("rejected", calls=2, effects="", asks=1)),
        "safe": (failed("rejected", calls=2, effects=""),),
        "blind": (unknown(calls=1, effects=""),),
    },
    "step timeout in mid-call": {
        "keyed": (undone("timeout", calls=1), failed("timeout", calls=1)),
        "brief": (unknown(calls=1),),
        "asked": (done(calls=1, asks=1),),  # its time is up, but not what was done in it
        "safe": (failed("timeout", calls=1),),
        "blind": (unknown(calls=1),),
    },
    # The service has said 202, and is not heard of again before the step's time is up. To ask whether it was told is idle.
    "step timeout after a 202": {
        "keyed": (undone("timeout", calls=1), failed("timeout", calls=1)),
        "brief": (undone("timeout", calls=1), failed("timeout", calls=1)),
        "asked": (undone("timeout", calls=1), failed("timeout", calls=1)),
        "safe": (failed("timeout", calls=1),),
        "blind": (unknown(calls=1),),
    },
    # A worker is lost in mid-call; its step fails meanwhile, and then the call succeeds after all.
    "late success after the failure": {
        "keyed": (undone("timeout", calls=2), failed("timeout", calls=2)),
        "brief": (unknown(calls=1),),
        "asked": (unknown(calls=1, asks=6),),  # asked as often as it may be retried, it says nothing of the key
        "safe": (failed("timeout", calls=2),),
        "blind": (unknown(calls=1),),
    },
}  # fmt: skip

LATE = "{max: 3, backoff: 90s, cap: 90s, jitter: false}"  # a repeat comes when `brief` has forgotten
RETRY = {  # of the step, where it is another; the waits are on a clock that is moved
    "retries exhausted by timeouts": "{max: 1, backoff: 10s, jitter: false}",
    "retries exhausted by lost connections": "{max: 1, backoff: 10s, jitter: false}",
    "5xx without an effect so far": "{max: 0}",
    "late success after the failure": "{max: 5, backoff: 10s, jitter: false}",
}
TIMEOUT = {  # of the step, where it has one
    "step timeout in mid-call": "90s",
    "step timeout after a 202": "90s",
    "late success after the failure": "5m",
}


def expected(form: str, lane: str, *, with_undo: bool) -> Cell:
    return TABLE[form][lane][0 if with_undo else -1]


def definition(form: str, lane: str, *, with_undo: bool) -> str:
    """The flight of a cell."""
    more = f", timeout: {TIMEOUT[form]}" if form in TIMEOUT else ""
    undo = ", compensate: sure.unwork" if with_undo else ""
    return f"id: cell\nsteps: [{{id: work, service: {lane}.work, retry: {RETRY.get(form, LATE)}{more}{undo}}}]"
