"""A process that carries a leg, as a coroutine: it can be stopped, and killed, wherever it yields.

Real are the claim and the record of `legs`, whether a commit whose answer was lost has landed, and all that `calls` does
before a send. Every worker is a process of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from unittest.mock import patch

from orchestrator import calls, control, legs
from orchestrator.attempts import Attempt
from orchestrator.calls import Held, Prepared, Result
from orchestrator.clock import later
from orchestrator.definition import (
    EndStep,
    ForEachStep,
    RepeatStep,
    ServiceStep,
    Step,
    SwitchStep,
    WaitStep,
    WorkflowStep,
)
from orchestrator.hands import Hands
from orchestrator.instance import Instance
from orchestrator.lane import Call, Lane, Reply
from orchestrator.plan import Leg
from orchestrator.states import Phase
from orchestrator.store import due
from orchestrator.system import System
from tests.unit.flying import EPOCH
from tests.unit.simulation import canvas
from tests.unit.simulation.definitions import LANES, PAUSE
from tests.unit.simulation.service import FATES, Effect, Fate, Request
from tests.unit.simulation.swift import replace
from tests.unit.simulation.world import LEASE, LOSSES, Message, Undo, World

T = TypeVar("T")
Run = Iterator[str]  # of a leg; it says where it stands

UNDONE = "a commit failed"
TICK = 1e-6  # seconds: no two claims have the same limit, and by that one is told from the other
COMMIT_FAULTS = {22: UNDONE, 23: "the answer to a commit was lost"}  # of 24
CONTEXT: dict[str, Any] = {"payload": {}, "steps": {}, "items": {}}


class _Clock:
    """What `time.monotonic` says in `calls`: the clock of the world that is simulated."""

    world: World

    def monotonic(self) -> float:
        return (self.world.now - EPOCH).total_seconds()


CLOCK = _Clock()


@contextmanager
def on_its_clock() -> Iterator[None]:
    with patch.object(calls, "time", CLOCK):
        yield


class _Connection:
    """Knows one statement: the lease is taken anew before a send that comes late."""

    def __init__(self, world: World) -> None:
        self._world = world

    def execute(self, statement: object, values: dict[str, Any]) -> Any:
        assert statement is due.RENEW
        return SimpleNamespace(rowcount=self._world.renew(values))


class _Caller:
    """`query` lanes: asked over the network, which may take its time, or not answer."""

    def __init__(self, world: World) -> None:
        self._world = world

    def ask(self, _: Lane, call: Call) -> Reply:
        if not self._world.is_fair and self._world.choices.one_in(8):
            self._world.service.sent[call.key] += 1
            return Reply(outcome="uncertain", error="it cannot be asked")
        return self._world.service.ask(call.key)


def system_of(world: World, worker: str) -> System:
    """As much of a System as a leg asks for."""

    @contextmanager
    def transaction() -> Iterator[_Connection]:
        yield _Connection(world)

    return cast("System", SimpleNamespace(
        lanes=LANES, chance=lambda: 0.0, worker=worker, caller=_Caller(world),
        settings=SimpleNamespace(lease=LEASE, losses=LOSSES, base_url=""), database=SimpleNamespace(transaction=transaction),
        tokens=SimpleNamespace(url=lambda *_: ""), hands=Hands(clock=CLOCK.monotonic),
    ))  # fmt: skip


class _Flight(legs._Flight):
    """The real one's claim and record; whether its time is up is chosen."""

    def _should_stop(self) -> bool:
        world = CLOCK.world
        return not world.is_fair and world.choices.one_in(16)


@dataclass
class Worker:
    world: World
    name: str
    message: Message
    is_alone: bool = True
    point: str = "started"  # where it stands
    attempt: Attempt | None = None

    def __post_init__(self) -> None:
        plan, undo = self.world.plan, isinstance(self.message, Undo)
        self.system = system_of(self.world, self.name)
        self.covered = canvas.covered(self.message) if not isinstance(self.message, Undo) else frozenset()
        phase: Phase = "undo" if undo else "do"
        self.flight = _Flight(system=self.system, plan=plan, version=self.world.header.version_id, steps=_steps(self.world, self.message),
                              phase=phase, covered=self.covered, waiting=deque())  # fmt: skip
        self.flight.alone = self.is_alone
        self._run = self._fly()

    def go_on(self) -> bool:
        """To where it yields next; false when it has come to its end."""
        self.point = next(self._run, "over")
        return self.point != "over"

    # -- `legs._Flight._fly_alone`

    def _fly(self) -> Run:
        if self.flight._should_stop():  # `_hand_back`
            self.world.unpublish(self.flight.steps[0], self.flight.phase)
            return
        became = yield from self._commit(
            lambda one: legs._Became(claimed=self.flight._claim(one, self.flight.steps[0]))
        )
        survives = became.survives
        while became.claimed is not None:
            self.attempt = became.claimed
            self.world.service.ledger.append(Effect(self.attempt.step, self.attempt.phase, self.attempt.key, "attempt"))
            yield "claimed"
            with self.system.hands.at(self.attempt.key, leg=id(self), limit=0.0):  # nobody looks here for what hangs
                result = yield from self._perform(became.claimed, became.since)
            yield "performed"
            attempt = became.claimed
            became = yield from self._commit(lambda one: self._conclude(one, attempt, result))  # noqa: B023
            assert not self._is_held(attempt), f"RECORDED: {attempt.key} was heard of, and the result is forgotten"
            survives |= became.survives
        yield "recorded"
        if survives and not isinstance(self.message, Undo):
            self.world.broker += canvas.following(self.message)

    def _conclude(self, instance: Instance, attempt: Attempt, result: Result) -> legs._Became:
        """The real one, and the promise that it keeps: a stale attempt writes nothing."""
        before = instance.row(attempt.step, attempt.phase)
        became = self.flight._conclude(instance, attempt, result)
        is_stale = before is not None and before.attempt != attempt.attempt
        assert not (is_stale and instance.row(attempt.step, attempt.phase) is not before), (
            f"STALE: attempt {attempt.attempt} of {attempt.step} writes, which has been taken over"
        )
        return became

    def _is_held(self, attempt: Attempt) -> bool:
        row = self.world.rows[attempt.step, attempt.phase]
        return row.is_leased and row.attempt == attempt.attempt

    def _seconds(self) -> float:
        return (self.world.now - EPOCH).total_seconds()

    def _commit(self, verb: Callable[[Instance], legs._Became]) -> Generator[str, None, legs._Became]:
        """`legs._Flight._commit` and `_try`: where a commit has failed, or its answer was lost, it is tried again, and
        others may have come in between."""
        said: list[legs._Became] = []

        def decide(instance: Instance) -> legs._Became:
            if not said or not legs._has_landed(instance, said[-1]):
                said.append(replace(verb(instance), since=self._seconds()))
            return said[-1]

        while True:
            fault = None if self.world.is_fair else COMMIT_FAULTS.get(self.world.choices.below(24))
            became = self.world.transition(decide, "leg", covered=self.covered, worker=self.name, is_narrow=True,
                                           is_undone=fault == UNDONE)  # fmt: skip
            if fault is None:
                return became
            self.world.faults[fault] += 1
            self.world.wait(TICK)
            yield "unanswered"

    # -- `calls.perform`

    def _perform(self, attempt: Attempt, since: float) -> Generator[str, None, Result]:  # noqa: PLR0911  # one a kind
        world, step = self.world, self.world.plan.place(attempt.step).step
        is_first = attempt.phase == "do" and not attempt.begun
        if is_first and step.when is not None and not self._truth(attempt):
            return calls.Skipped()
        if not isinstance(step, ServiceStep):
            return self._control(step, attempt)
        if attempt.service is None:
            return calls.Waits()
        if self._is_inexpressible(attempt):
            return calls.Inexpressible(error="no such member")
        if not world.is_fair and world.choices.one_in(16):
            world.faults["the lease could not be looked up"] += 1
            return calls.Lost()
        CLOCK.world = world
        ready = calls._prepare_call(self.system, step, Held(attempt=attempt, context=CONTEXT, since=since))
        if not isinstance(ready, Prepared):
            return ready
        return (yield from self._send(attempt, ready))

    def _send(self, attempt: Attempt, ready: Prepared) -> Generator[str, None, Reply]:
        """The request goes out; when it arrives, and what is heard of it, is the network's and the service's choice."""
        row = self.world.rows.get((attempt.step, attempt.phase))
        held = row is not None and row.attempt == attempt.attempt and row.limit_until
        limit = held or attempt.limit_until
        assert limit is not None
        request = self.world.service.receive(attempt, ready.lane, pause=ready.call.pause, limit=limit)
        if self.world.choices.below(3) == 0:
            self._deal(request)
        yield "sent"
        self._deal(request)
        assert request.reply is not None
        return request.reply

    def _deal(self, request: Request) -> None:
        if request.reply is None:
            self.world.service.deal(request, self._fate(), self.world.now)

    def _fate(self) -> Fate:
        return "done" if self.world.is_fair else self.world.choices.among(FATES)

    def _truth(self, attempt: Attempt) -> bool:
        """A condition says the same at every attempt."""
        return self._settled("when", attempt, 4) != 3

    def _is_inexpressible(self, attempt: Attempt) -> bool:
        return self._settled("input", attempt, 12) == 11

    def _settled(self, what: str, attempt: Attempt, bound: int) -> int:
        key = what, attempt.step, attempt.phase, self.world.header.life
        if key not in self.world.said:
            self.world.said[key] = self.world.choices.below(bound)
        return self.world.said[key]

    def _control(self, step: Step, attempt: Attempt) -> Result:  # noqa: PLR0911  # one a kind
        """`control.perform`, with expressions that say what is chosen."""
        world = self.world
        match step:
            case EndStep(kind=kind):
                return calls.Skipped() if kind == "fail" and world.header.life > 1 else control.Ends()
            case SwitchStep(cases=cases):
                case = self._settled("switch", attempt, len(cases) + 1)
                return control.Chosen(case=case if case < len(cases) else None)
            case ForEachStep():
                return control.Listed(items=["item"] * ((2, 1, 3, 0)[self._settled("items", attempt, 4)]),
                                      before=world.listed.get(attempt.step) if attempt.generation > 1 else None)  # fmt: skip
            case RepeatStep():
                return control.Checked(is_done=world.choices.below(2) == 0) if attempt.begun else control.Opened()
            case WaitStep():
                return control.Sleeps(until=later(attempt.started_at, PAUSE))
            case WorkflowStep():
                child = (world.children.start if attempt.phase == "do" else world.children.recall)(world, attempt)
                return control.AwaitsChild(id="child") if child else control.NoChild()
            case _:
                return control.Opened()


def _steps(world: World, message: Message) -> tuple[str, ...]:
    """`legs.run`: the leg that begins there."""
    if isinstance(message, Undo):
        return (message.step,)
    leg = world.plan.segment(message.start)[0]
    return leg.steps if isinstance(leg, Leg) else (message.start,)
