"""What the checker has to say: violations, each of a kind that stands in one list, and figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

KINDS = {
    "not-ended": "an instance has neither ended nor is it visibly parked",
    "effect-doubled": "one effect was had more than once",
    "effect-not-allowed": "an effect that the definition does not allow, or that went elsewhere",
    "effect-out-of-order": "a step began before one that stands before it was done",
    "effect-skipped": "a step was passed over, or is said to be done and its service knows nothing of it",
    "effect-unknown": "a service was called for something that the history knows nothing of",
    "undo-missing": "what was done and has to be undone was not",
    "undo-doubled": "one effect was undone more than once",
    "undo-out-of-order": "the undo is not the exact reverse of what was done",
    "undo-of-nothing": "something was undone that was not done",
    "effect-after-undo": "an effect was had behind its own undo, which its service promises to refuse",
    "refund-of-what-lives": "something was undone although it lives, or before it had ended",
    "history-gap": "the history is not numbered 1..n",
    "history-illegal": "the history has a transition that is not allowed",
    "history-differs": "replaying the history does not give the rows",
    "doubt-needless": "a step was left for a person to settle, and its lane honours the key, or has no effects",
    "stale-write": "a result was recorded by an attempt that had been taken over",
    "decision-doubled": "one wait was decided more than once",
    "tenant-crossed": "a row or a call belongs to another tenant than its instance",
    "key-body-differs": "one idempotency key was sent with different bodies",
    "call-doubled": "one attempt called its service more than once",
    "storm": "a service was called for one key more often than its retries, its losses and sanity explain",
    "begun-twice": "a step that follows no join began twice in one life",
    "join-doubled": "what follows a join began twice in one life",
    "join-early": "a join was passed before all that it waits for had ended",
    "child-orphaned": "a sub-workflow goes on without its parent, or a parent waits for one in vain",
    "child-differs": "a step says of its sub-workflow what is not so",
    "definition-broken": "a definition cannot be read, so that nothing is known of its instances",
    "ledger-broken": "the ledger is not lines numbered 1..n",
}


@dataclass(frozen=True, kw_only=True)
class Violation:
    kind: str
    trace: str
    text: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no kind of violation {self.kind!r}")

    def __str__(self) -> str:
        return f"VIOLATION {self.kind} {self.trace}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Report:
    violations: tuple[Violation, ...]
    figures: dict[str, Any]

    @property
    def kinds(self) -> set[str]:
        return {one.kind for one in self.violations}
