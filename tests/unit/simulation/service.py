"""Services that honour what their lane says, and the one ledger that all of them write: the judge of what was done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from orchestrator.attempts import Attempt
from orchestrator.clock import later
from orchestrator.lane import Lane, Reply
from orchestrator.states import Phase

Fate = Literal["done", "lost", "unseen", "later", "rejected", "refused", "not_sent", "garbled", "hopeless"]
FATES: tuple[Fate, ...] = ("done", "lost", "unseen", "later", "rejected", "refused", "not_sent", "garbled", "hopeless")
UNSEEN: dict[Fate, Reply] = {  # it was not done, and this is what we learn of it
    "unseen": Reply(outcome="uncertain", error="no answer"),
    "hopeless": Reply(outcome="uncertain", error="unreadable", may_retry=False),
    "refused": Reply(outcome="refused", retry_after=5.0),
    "not_sent": Reply(outcome="not_sent"),
}
HIDDEN: dict[Fate, Reply] = {"lost": UNSEEN["unseen"], "garbled": UNSEEN["hopeless"]}  # it was done, and we learn this
DONE, LATER = Reply(outcome="done", output={"ok": True}), Reply(outcome="done", output={"later": 1}, later=True)
REJECTED = Reply(outcome="rejected", error="no")


@dataclass(frozen=True)
class Effect:
    """One line of the ledger: a step was done or undone, for a key; or it was tried."""

    step: str
    phase: Phase
    key: str
    kind: Literal["effect", "attempt", "by hand"]


@dataclass
class Request:
    """On its way to the service, which deals with it whenever it likes, but before `limit`."""

    attempt: Attempt
    lane: Lane
    pause: bool
    limit: datetime
    reply: Reply | None = None  # once it was dealt with


@dataclass
class Service:
    ledger: list[Effect] = field(default_factory=list)
    known: dict[str, Reply] = field(default_factory=dict)  # by key: the first answer
    since: dict[str, datetime] = field(default_factory=dict)
    accepted: dict[str, Attempt] = field(default_factory=dict)  # an answer or a decision is still to come
    flying: list[Request] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)  # requests, by key
    hopeless: set[str] = field(default_factory=set)  # keys with an answer that repeating cannot mend

    # -- questions

    def has_done(self, key: str) -> bool:
        return any(one.key == key and one.kind != "attempt" for one in self.ledger)

    def ask(self, key: str) -> Reply:
        """`query` lanes: the first answer, and `not_sent` for a key that never arrived."""
        return self.known.get(key) or Reply(outcome="not_sent")

    # -- requests

    def receive(self, attempt: Attempt, lane: Lane, *, pause: bool, limit: datetime) -> Request:
        self.sent[attempt.key] += 1
        request = Request(attempt, lane, pause, limit)
        self.flying.append(request)
        return request

    def deal(self, request: Request, fate: Fate, now: datetime) -> None:
        """What becomes of a request. A repeat on a `key` lane gets the first answer."""
        if request not in self.flying:
            return
        self.flying.remove(request)
        key, lane = request.attempt.key, request.lane
        self._forget(key, lane, now)
        if fate in ("garbled", "hopeless"):
            self.hopeless.add(key)
        if fate in UNSEEN:
            request.reply = UNSEEN[fate]
            return
        is_repeat = key in self.known and lane.idempotency == "key"
        first = self.known[key] if is_repeat else self._answer(request, fate, now)
        request.reply = HIDDEN.get(fate, first)

    def _forget(self, key: str, lane: Lane, now: datetime) -> None:
        since = self.since.get(key)
        if lane.key_ttl is not None and since is not None and now >= later(since, lane.key_ttl):
            self.known.pop(key, None)

    def _answer(self, request: Request, fate: Fate, now: datetime) -> Reply:
        attempt = request.attempt
        self.since.setdefault(attempt.key, now)
        if fate == "rejected":
            return REJECTED  # not kept: the next may be accepted
        if fate == "later" or request.pause:
            self.accepted[attempt.key] = attempt
            self.known[attempt.key] = LATER
        else:
            self.act(attempt, request.lane)
            self.known[attempt.key] = DONE
        return self.known[attempt.key]

    def act(self, attempt: Attempt, lane: Lane) -> None:
        if lane.idempotency != "safe":
            self.ledger.append(Effect(attempt.step, attempt.phase, attempt.key, "effect"))
        if attempt.phase == "undo":  # what is still to be decided will not be done any more
            self.drop(attempt.step)

    # -- answers that come later

    def decide(self, key: str, lane: Lane, *, approved: bool, acts_first: bool) -> None:
        """It does what it had accepted, or does not; before it says so, or (`act`) when it has been told that this stands."""
        attempt = self.accepted.pop(key)
        if approved and acts_first:
            self.act(attempt, lane)
        self.known[key] = DONE if approved else REJECTED

    def drop(self, step: str, key: str | None = None) -> None:
        """An accepted step will not be done any more."""
        for found, attempt in list(self.accepted.items()):
            if attempt.step == step and attempt.phase == "do" and key in (None, found):
                del self.accepted[found]
                self.known[found] = REJECTED

    def by_hand(self, step: str, phase: Phase, key: str) -> None:
        """Somebody does it, and calls off what was accepted."""
        self.ledger.append(Effect(step, phase, key, "by hand"))
        self.accepted.pop(key, None)
        if phase == "undo":
            self.drop(step)
