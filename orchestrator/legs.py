"""Running a leg: claim, call the lane, record; and on to the next step with no broker in between.

A wave's members go side by side, no more at a time than are in flight at once, and each result is recorded as it
arrives, in one commit with the claim of the member's next step.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from orchestrator import attempts, calls, conclusions, gates
from orchestrator.admission import Admission
from orchestrator.attempts import Attempt
from orchestrator.calls import Held
from orchestrator.definition import ServiceStep
from orchestrator.instance import Instance
from orchestrator.lane import Reply, limit_of
from orchestrator.plan import Leg, Plan
from orchestrator.states import CLAIMABLE, READY, Phase
from orchestrator.store import due, lanes, transitions
from orchestrator.store.database import is_away
from orchestrator.system import System

IN_FLIGHT = 32  # members of a wave that are called side by side
LEG_SECONDS = 20.0  # then a leg leaves the next step READY, for other messages are waiting
DATABASE_AWAY = 0.2  # seconds between two tries

Finished = tuple[Attempt, calls.Result]
Wanted = Mapping[str, str | None]  # instance → the step to claim next, if any

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Landed:
    """What a leg leaves behind: who goes on by the canvas, and whose instance failed in it."""

    survivors: tuple[str, ...]
    failed: tuple[str, ...]


def run(system: System, wave: Sequence[str], *, version: str, start: str, covered: frozenset[str]) -> Landed:
    """Run the leg that starts at `start` for a wave. `covered`: the steps that the canvas carries on to."""
    plan = system.plans(version)
    leg = plan.segment(start)[0]
    steps = leg.steps if isinstance(leg, Leg) else (start,)
    return _Flight(
        system=system, plan=plan, version=version, steps=steps, phase="do", covered=covered, waiting=deque(wave)
    ).fly()


def undo(system: System, wave: Sequence[str], *, version: str, step: str) -> Landed:
    """Run the compensation of one step for a wave."""
    plan = system.plans(version)
    return _Flight(
        system=system, plan=plan, version=version, steps=(step,), phase="undo", covered=frozenset(), waiting=deque(wave)
    ).fly()


@dataclass(frozen=True, kw_only=True)
class _Became:
    """What became of a member in one commit."""

    claimed: Attempt | None = None
    since: float = 0.0  # monotonic, before the claim
    survives: bool = False  # the canvas carries it on
    failed: bool = False


@dataclass(kw_only=True)
class _Flight:
    """One run of a leg."""

    system: System
    plan: Plan
    version: str
    steps: tuple[str, ...]
    phase: Phase
    covered: frozenset[str]
    waiting: deque[str]  # members that have not been claimed yet
    began: float = field(default_factory=time.monotonic)
    survivors: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    payloads: dict[str, Any] = field(default_factory=dict)
    admission: Admission = gates.OPEN  # of the transaction that is under way
    suspects: set[str] = field(default_factory=set)  # that were taken in it: the keys of their calls

    def __post_init__(self) -> None:
        self.alone = len(self.waiting) == 1

    def fly(self) -> Landed:
        with self.system.hands.leg(id(self)):
            if self.alone:
                self._fly_alone()
            else:
                self._fly_together()
            self._hand_back()
        return Landed(survivors=tuple(self.survivors), failed=tuple(self.failed))

    def _fly_alone(self) -> None:
        held = self._record([], self._next_starts(1))
        while held:
            held = self._record([self._perform(one) for one in held], [])

    def _fly_together(self) -> None:
        flying: set[Future[Finished]] = set()
        with ThreadPoolExecutor(max_workers=IN_FLIGHT, thread_name_prefix="leg") as pool:
            finished: list[Finished] = []
            while True:
                held = self._record(finished, self._next_starts(IN_FLIGHT - len(flying)))
                flying |= {pool.submit(self._perform, one) for one in held}
                if not flying:
                    return
                self.system.hands.hold(id(self), len(flying))
                done, flying = wait(flying, return_when=FIRST_COMPLETED)
                finished = [future.result() for future in done]

    def _hand_back(self) -> None:
        """What this leg had no time to begin is carried by no message any more."""
        if self.waiting:
            left: list[tuple[str, str, Phase]] = [(member, self.steps[0], self.phase) for member in self.waiting]
            with self.system.database.transaction() as connection:
                due.unpublish(connection, left)

    def _next_starts(self, room: int) -> list[str]:
        """Members to claim now: no more than go into flight at once."""
        if self._should_stop():
            return []
        return [self.waiting.popleft() for _ in range(min(room, len(self.waiting)))]

    def _should_stop(self) -> bool:
        return self.system.stopping.is_set() or time.monotonic() - self.began > LEG_SECONDS

    def _perform(self, held: Held) -> Finished:
        limit = limit_of(self.plan.lane(held.attempt.service))
        with self.system.hands.at(held.attempt.key, leg=id(self), limit=limit):
            result = self._call(held)
        gates.observe(self.system, held.attempt, result)
        return held.attempt, result

    def _call(self, held: Held) -> calls.Result:
        try:
            return calls.perform(self.system, self.plan, held)
        except Exception as error:  # a bug of ours or a lane's: the others of the wave must not suffer for it
            log.exception("attempt %s of %s", held.attempt.attempt, held.attempt.key)
            return Reply(outcome="uncertain", error=f"{type(error).__name__}: {error}"[:500], is_ours=True)

    def _record(self, finished: Sequence[Finished], starts: Sequence[str]) -> list[Held]:
        """Record what has finished and claim what comes next, in one commit. Returns what is held now.

        A batch that cannot be recorded is recorded one by one: a bad member must not cost the others their results.
        """
        try:
            return self._record_together({attempt.instance: (attempt, result) for attempt, result in finished}, starts)
        except Exception as error:
            if is_away(error):
                raise  # for longer than a lease: the sweep finds these attempts
            if len(finished) + len(starts) < 2:
                log.exception("not recorded: %s", [*starts, *(attempt.key for attempt, _ in finished)])
                return []
            singles = [([one], list[str]()) for one in finished] + [(list[Finished](), [one]) for one in starts]
            return [held for one, start in singles for held in self._record(one, start)]

    def _record_together(self, results: Mapping[str, Finished], starts: Sequence[str]) -> list[Held]:
        if not results and not starts:
            return []

        def verb(instance: Instance) -> _Became:
            if instance.header.version_id != self.version:
                return _Became()  # no message of ours says that
            if instance.header.id in results:
                return self._conclude(instance, *results[instance.header.id])
            return _Became(claimed=self._claim(instance, self.steps[0]))

        gates.look(self.system)
        wanted = {trace: self._after(attempt.step) for trace, (attempt, _) in results.items()}
        wanted |= dict.fromkeys(starts, self.steps[0])
        try:
            became, held = self._commit(wanted, verb)
            self.suspects -= {one.attempt.key for one in held}
        finally:
            self._give_back()
        self.survivors += [trace for trace, one in became.items() if one.survives]
        self.failed += [trace for trace, one in became.items() if one.failed]
        return held

    def _give_back(self) -> None:
        """Suspects whose claim came to no call."""
        while self.suspects:
            self.system.hands.give_back(self.suspects.pop())

    def _commit(self, wanted: Wanted, verb: Callable[[Instance], _Became]) -> tuple[dict[str, _Became], list[Held]]:
        """An effect that was had is not forgotten because Postgres restarts: tried for as long as a lease is good."""
        until = time.monotonic() + self.system.settings.lease
        said: dict[str, _Became] = {}
        while True:
            try:
                return self._try(wanted, verb, said)
            except SQLAlchemyError as error:
                if not is_away(error) or time.monotonic() > until:
                    raise
                time.sleep(DATABASE_AWAY)

    def _try(self, wanted: Wanted, verb: Callable[[Instance], _Became],
             said: dict[str, _Became]) -> tuple[dict[str, _Became], list[Held]]:  # fmt: skip
        """One try. `said` is what the tries before would have committed: the answer to a commit may have been lost."""
        since, held = time.monotonic(), list[Held]()  # before the claim: from then on its lease runs

        def decide(instance: Instance) -> _Became:
            earlier = said.get(instance.header.id)
            if earlier is None or not _has_landed(instance, earlier):
                said[instance.header.id] = replace(verb(instance), since=since)
            return said[instance.header.id]

        def admit(connection: Connection, instances: Sequence[Instance]) -> None:
            self.admission = self._gates(connection, instances, wanted)

        def read(connection: Connection, became: dict[str, _Became]) -> None:
            lanes.write(connection, self.admission.changed())
            claims = [(one.claimed, one.since) for one in became.values() if one.claimed is not None]
            claimed = [attempt for attempt, _ in claims]
            found = calls.contexts(connection, self.plan, claimed, self.payloads) if claimed else []
            held.extend(
                Held(attempt=attempt, context=context, since=since)
                for (attempt, since), context in zip(claims, found, strict=True)
            )

        became = transitions.transition(
            self.system.database, self.system.plans, list(wanted), decide, covered=self.covered,
            worker=self.system.worker, first=admit, then=read, is_narrow=True,
        )  # fmt: skip
        return became, held

    def _gates(self, connection: Connection, instances: Sequence[Instance], wanted: Wanted) -> Admission:
        """Of the lanes that the steps to be claimed are directed at."""
        if not gates.are_any(self.system):
            return gates.OPEN
        steps = [(one, step) for one in instances if (step := wanted[one.header.id]) is not None]
        return gates.open_for(
            self.system, connection, [name for one, step in steps for name in self._services(one, step)]
        )

    def _services(self, instance: Instance, step: str) -> tuple[str | None, ...]:
        """Also of a step that is born, or renewed, only when the one before it is concluded: in a later life that may go
        to whom it was escalated, or to its own service."""
        row = instance.row(step, self.phase)
        if row is not None and row.state in CLAIMABLE:
            return (row.service,)
        found = instance.plan.place(step).step
        own = str(found.operation) if isinstance(found, ServiceStep) and found.operation else None
        return (own, row.service if row else None)

    def _claim(self, instance: Instance, step: str) -> Attempt | None:
        row = instance.row(step, self.phase)
        if row is None or not attempts.may_claim(instance, row):
            return None
        if attempts.await_lost(instance, row):
            return None
        lane = self.plan.lane(row.service)
        limit = limit_of(lane)
        sends_nothing = attempts.is_overdue(instance, row) and not attempts.must_ask(instance, row)
        if not sends_nothing and (refusal := self.admission.refusal(lane.name)):
            attempts.defer(instance, row, gate=lane.name, reason=refusal)
            return None
        if row.losses and not self._may_take(attempts.key_of(instance, row), limit):
            attempts.put_off(instance, row)
            return None
        return attempts.claim(
            instance, step, self.phase, worker=self.system.worker, alone=self.alone,
            lease=self.system.settings.lease, limit=limit,
            gate=None if sends_nothing else self.admission.begin(lane.name, limit),
        )  # fmt: skip

    def _may_take(self, suspect: str, limit: float) -> bool:
        if not self.system.hands.may_take(suspect, limit=limit):
            return False
        self.suspects.add(suspect)
        return True

    def _conclude(self, instance: Instance, attempt: Attempt, result: calls.Result) -> _Became:
        was_falling = instance.is_falling
        before = attempts.held(instance, attempt.step, attempt.phase, attempt.attempt)
        if before is not None and before.gate and before.lease_until and before.lease_until > instance.now:
            self.admission.end(before.gate)
        conclusions.conclude(self.system, instance, attempt, result)
        after = self._after(attempt.step)
        return _Became(
            claimed=self._claim(instance, after) if after is not None and not self._should_stop() else None,
            survives=any(row.state == READY and row.step in self.covered for row in instance.changed()),
            failed=instance.is_falling and not was_falling,
        )

    def _after(self, step: str) -> str | None:
        index = self.steps.index(step) + 1
        return self.steps[index] if index < len(self.steps) else None


def _has_landed(instance: Instance, earlier: _Became) -> bool:
    """Whether the try before was committed after all: then the very claim that it made still holds. (Another thread of
    this process may have made one since; no two claims have the same limit.)"""
    claimed = earlier.claimed
    if claimed is None:
        return False
    row = attempts.held(instance, claimed.step, claimed.phase, claimed.attempt)
    return (
        row is not None and row.limit_until == claimed.limit_until and row.lease_until is not None
        and row.lease_until > instance.now
    )  # fmt: skip
