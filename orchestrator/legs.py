"""Running a leg: claim, call the lane, record; and on to the next step with no broker in between.

A wave's members go side by side, no more at a time than are in flight at once, and each result is recorded as it
arrives, in one commit with the claim of the member's next step.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, assert_never

from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, OperationalError

from orchestrator import attempts, calls, escalation, retry
from orchestrator.attempts import Attempt
from orchestrator.instance import Instance
from orchestrator.lane import Lane, Reply
from orchestrator.plan import Leg, Plan
from orchestrator.rows import Row
from orchestrator.states import READY, Phase
from orchestrator.store import due, transitions
from orchestrator.system import System

IN_FLIGHT = 32  # members of a wave that are called side by side
LEG_SECONDS = 20.0  # then a leg leaves the next step READY, for other messages are waiting
MARGIN = 2.0  # seconds beyond a lane's timeout in which an attempt has to be recorded
DATABASE_AWAY = 0.2  # seconds between two tries
NO_LANE = Lane(name="", transport="local", idempotency="safe")  # blocks and bare pauses: nothing is called

Finished = tuple[Attempt, calls.Result]
Held = tuple[Attempt, dict[str, Any]]  # an attempt, and what its expressions may name


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
    return _Flight(system=system, plan=plan, steps=steps, phase="do", covered=covered, waiting=deque(wave)).fly()


def undo(system: System, wave: Sequence[str], *, version: str, step: str) -> Landed:
    """Run the compensation of one step for a wave."""
    plan = system.plans(version)
    return _Flight(system=system, plan=plan, steps=(step,), phase="undo", covered=frozenset(), waiting=deque(wave)).fly()


@dataclass(frozen=True, kw_only=True)
class _Became:
    """What became of a member in one commit."""

    claimed: Attempt | None = None
    survives: bool = False  # the canvas carries it on
    failed: bool = False


@dataclass(kw_only=True)
class _Flight:
    """One run of a leg."""

    system: System
    plan: Plan
    steps: tuple[str, ...]
    phase: Phase
    covered: frozenset[str]
    waiting: deque[str]  # members that have not been claimed yet
    began: float = field(default_factory=time.monotonic)
    survivors: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    payloads: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.alone = len(self.waiting) == 1

    def fly(self) -> Landed:
        if self.alone:
            self._fly_alone()
        else:
            self._fly_together()
        self._hand_back()
        return Landed(survivors=tuple(self.survivors), failed=tuple(self.failed))

    def _fly_alone(self) -> None:
        held = self._record([], self._next_starts(1))
        while held:
            held = self._record([self._perform(*one) for one in held], [])

    def _fly_together(self) -> None:
        flying: set[Future[Finished]] = set()
        with ThreadPoolExecutor(max_workers=IN_FLIGHT, thread_name_prefix="leg") as pool:
            finished: list[Finished] = []
            while True:
                held = self._record(finished, self._next_starts(IN_FLIGHT - len(flying)))
                flying |= {pool.submit(self._perform, *one) for one in held}
                if not flying:
                    return
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

    def _perform(self, attempt: Attempt, context: dict[str, Any]) -> Finished:
        return attempt, calls.perform(self.system, self.plan, attempt, context)

    def _record(self, finished: Iterable[Finished], starts: Sequence[str]) -> list[Held]:
        """Record what has finished and claim what comes next, in one commit. Returns what is held now."""
        results = {attempt.instance: (attempt, result) for attempt, result in finished}
        if not results and not starts:
            return []

        def verb(instance: Instance) -> _Became:
            if instance.header.id in results:
                return self._conclude(instance, *results[instance.header.id])
            return _Became(claimed=self._claim(instance, self.steps[0]))

        became, held = self._commit([*results, *starts], verb)
        self.survivors += [trace for trace, one in became.items() if one.survives]
        self.failed += [trace for trace, one in became.items() if one.failed]
        return held

    def _commit(self, ids: Sequence[str], verb: Callable[[Instance], _Became]) -> tuple[dict[str, _Became], list[Held]]:
        """An effect that was had is not forgotten because Postgres restarts: tried for as long as a lease is good.

        When a commit's own answer was lost, the second try finds the attempt concluded and changes nothing.
        """
        until = time.monotonic() + self.system.settings.lease
        while True:
            held: list[Held] = []
            try:
                became = transitions.transition(
                    self.system.database, self.system.plans, ids, verb, covered=self.covered,
                    worker=self.system.worker, then=lambda *read: held.extend(self._read(*read)),  # noqa: B023
                )  # fmt: skip
            except (OperationalError, InterfaceError):
                if time.monotonic() > until:
                    raise
                time.sleep(DATABASE_AWAY)
            else:
                return became, held

    def _read(self, connection: Connection, became: dict[str, _Became]) -> list[Held]:
        claimed = [one.claimed for one in became.values() if one.claimed is not None]
        found = calls.contexts(connection, self.plan, claimed, self.payloads) if claimed else []
        return list(zip(claimed, found, strict=True))

    def _claim(self, instance: Instance, step: str) -> Attempt | None:
        lane = self._lane_of(step, instance.row(step, self.phase))
        limit = lane.timeout * (2 if lane.idempotency == "query" else 1) + MARGIN
        return attempts.claim(
            instance, step, self.phase, worker=self.system.worker, alone=self.alone,
            lease=self.system.settings.lease, limit=limit,
        )  # fmt: skip

    def _lane_of(self, step: str, row: Row | None = None) -> Lane:
        service = row.service if row else str(getattr(self.plan.place(step).step, "operation", None) or "")
        return calls.lane_of(self.system, service) or NO_LANE

    def _conclude(self, instance: Instance, attempt: Attempt, result: calls.Result) -> _Became:
        was_falling = instance.is_falling
        row = attempts.held(instance, attempt.step, attempt.phase, attempt.attempt)
        if row is not None:
            conclude(self.system, instance, row, result)
        after = self._after(attempt.step)
        return _Became(
            claimed=self._claim(instance, after) if after is not None and not self._should_stop() else None,
            survives=any(row.state == READY and row.step in self.covered for row in instance.changed()),
            failed=instance.is_falling and not was_falling,
        )

    def _after(self, step: str) -> str | None:
        index = self.steps.index(step) + 1
        return self.steps[index] if index < len(self.steps) else None


def conclude(system: System, instance: Instance, row: Row, result: calls.Result) -> None:
    """Record one attempt's result, under the instance's lock."""
    match result:
        case calls.Lost():
            pass  # its taker-over records it
        case calls.Skipped():
            attempts.skip(instance, row)
        case calls.Opened():
            attempts.open_block(instance, row)
        case calls.Waits():
            attempts.park(instance, row, None, uncertain=False)
        case calls.Inexpressible(error=error):
            attempts.fail(instance, row, reason="expression", error=error)
        case calls.Forgotten():
            error = "it may have been done, and its lane may have forgotten the key by now"
            attempts.doubt(instance, row, reason=attempts.UNCERTAIN, error=error, over=True)
        case calls.Overdue():
            escalation.time_out(instance, row)
        case Reply():
            _conclude_reply(system, instance, row, result)
        case _:
            assert_never(result)


def _conclude_reply(system: System, instance: Instance, row: Row, reply: Reply) -> None:
    step = instance.plan.service(row.step)
    trial = retry.Trial(
        lane=calls.lane_of(system, row.service) or NO_LANE, retry=attempts.retry_of(step, row.phase), tries=row.tries,
        uncertain=row.uncertain, started_at=row.started_at or instance.now, budget_until=row.budget_until,
        pause=step.pause and row.phase == "do",
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
            attempts.doubt(instance, row, reason=attempts.UNCERTAIN, error=error, over=True)
        case retry.TimedOut(error=error, uncertain=uncertain):
            escalation.time_out(instance, row, error=error, uncertain=uncertain)
        case _:
            assert_never(verdict)
