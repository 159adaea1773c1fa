"""One schedule: a definition is flown by random moves, with faults; then the faults stop, and it has to come to its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from orchestrator import flow, operators, states
from orchestrator.clock import later
from orchestrator.definition import ServiceStep, WorkflowStep
from orchestrator.plan import Plan
from orchestrator.rows import Entry, Header
from tests.unit.flying import EPOCH
from tests.unit.simulation import ledger, people
from tests.unit.simulation.choices import Choices
from tests.unit.simulation.laws import Laws
from tests.unit.simulation.moves import PAUSES, Moves
from tests.unit.simulation.scenes import ANYTHING, Scene
from tests.unit.simulation.swift import replace
from tests.unit.simulation.worker import CLOCK
from tests.unit.simulation.world import HEADER, World

MOVES = 40  # at most
ROUNDS = 120  # without faults, until all is over or waits for a person
HELPS = 40  # of a person, until all is over


@dataclass
class Schedule(Moves):
    @classmethod
    def of(cls, plan: Plan, choices: Choices, scene: Scene = ANYTHING, *, trace: list[str] | None = None,
           world_of: Callable[..., World] = World) -> Schedule:  # fmt: skip
        laws = Laws(plan)
        deadline = plan.definition.deadline
        header = replace(HEADER, deadline_at=later(EPOCH, deadline) if deadline else None)
        world = world_of(plan=plan, choices=choices, on_commit=lambda *_: None, header=header)
        schedule = cls(world, laws, trace=trace, scene=scene)
        world.on_commit = schedule._committed
        CLOCK.world = world
        return schedule

    def _committed(self, world: World, before: Header, entries: list[Entry], origin: str) -> None:
        if self.trace is not None:
            self.trace += [f"    {one.seq}. {one.step or 'instance'} {one.phase or ''} {one.verb} -> {one.status}"
                           f" {one.reason or ''} (attempt {one.attempt}, g{one.generation}, {one.service}) [{origin}]" for one in entries]  # fmt: skip
        if before.outcome is None and world.header.outcome is not None:
            self.since = len(world.service.ledger)
        self.laws.read(world, before, entries, origin)
        self.laws.check_rows(world)
        for entry in entries:
            ledger.patient(world, entry)
        if states.is_terminal(world.header.status):
            self._inspect()

    def _inspect(self) -> None:
        ledger.once(self.world.service.ledger)
        ledger.mirrored(self.world)
        if self.world.header.outcome is not None:
            ledger.in_order(self.world, self.since)
        ledger.kept(self.world, frozenset(self.world.settled))

    # -- flying

    def fly(self) -> None:
        self.world.transition(flow.begin, "start")
        for move in self.scene.opening:
            self.move(move)
        for _ in range(5 + self.world.choices.below(MOVES - 4)):
            self.move(self.world.choices.among(self._possible()))
        self.come_home()
        while self.world.header.status in (states.FAILED, states.COMPENSATED) and self.world.choices.one_in(3):
            people.retry(self.world)  # another life, which may fall as well
            self.come_home()
        self._let_land()
        self.laws.compare(self.world)
        self._inspect()

    # -- without faults

    def come_home(self) -> None:
        """Liveness: no faults any more, everybody has a turn in every round, and the clock moves. So it ends, or is visibly
        parked; and when a person does what it is parked for, it ends."""
        self.world.is_fair = True
        if self.trace is not None:
            self.trace.append("-- no faults any more")
        for helped in range(HELPS):
            for _ in range(ROUNDS):
                if self._is_resting():
                    break
                self._round()
            else:
                raise AssertionError(f"LIVENESS: after {ROUNDS} rounds {self._standing()}")
            if states.is_terminal(self.world.header.status):
                if (
                    self.workers
                    or self.world.broker
                    or any(not child.is_told for child in self.world.children.found.values())
                ):
                    self._round()
                return
            self._help(is_last_resort=helped % 4 == 3)
        raise AssertionError(f"LIVENESS: no help is enough: {self._standing()}")

    def _let_land(self) -> None:
        """What was still on its way when all was over arrives; and whoever has accepted something does it now."""
        self.world.wait(max(PAUSES))
        while self.world.service.accepted:
            people.service_answers(self.world, 0, "approved")

    def _standing(self) -> str:
        return f"{self.world.header.status} {self.world.header.reason}: " + ", ".join(
            f"{row.step} {row.phase} {row.state} {row.reason or ''}" for row in self.world.rows.values())  # fmt: skip

    def _is_resting(self) -> bool:
        """It is over, or a person sees by its status that it is for them."""
        status = self.world.header.status
        if states.is_terminal(status) or status in (states.STUCK, states.SUSPENDED):
            return True
        if self.world.in_state(*states.CLAIMABLE) or any(row.is_leased for row in self.world.rows.values()):
            return False
        waits = self.world.in_state(states.WAITING)
        return bool(waits) and all(row.due_at is None and self._is_for_somebody(row.step) for row in waits)

    def _is_for_somebody(self, step: str) -> bool:
        """A service that was to answer later, or a person who was to decide."""
        return isinstance(self.world.plan.place(step).step, ServiceStep)

    def _round(self) -> None:
        world = self.world
        world.publish()
        while world.broker or self.workers:
            if world.broker:
                self._take()
            for worker in list(self.workers):
                if not worker.go_on():
                    self.workers.remove(worker)
        for child in world.children.found.values():
            world.children.move(world, child, states.COMPLETED)
        world.children.tell(world)
        world.children.abandon(world)
        world.sweep_lost()
        world.sweep_overdue()
        world.sweep_deadline()
        world.republish(is_surely=True)
        world.wait(self._pause())

    def _pause(self) -> float:
        """Until something is due; never for nothing, or the rounds would stand still."""
        moments = [
            moment for row in self.world.rows.values() if row.state in states.ACTIVE
            for moment in (row.due_at, row.ready_at, row.lease_until) if moment is not None and moment > self.world.now
        ]  # fmt: skip
        return (min(moments) - self.world.now + timedelta(milliseconds=1)).total_seconds() if moments else 7.0

    def _help(self, *, is_last_resort: bool) -> None:
        world = self.world
        if world.header.suspended_at is not None:
            people.order(world, operators.resume)
        elif rows := world.in_state(states.UNKNOWN):
            people.soon(world, rows[0])
            is_child = isinstance(world.plan.place(rows[0].step).step, WorkflowStep)
            people.settle_unknown(world, rows[0], is_retry=is_child)
        elif world.in_state(states.STUCK):
            (people.attest if is_last_resort else people.retry)(world)
        elif world.service.accepted:
            people.service_answers(world, 0, "approved")
        elif world.answers:
            for which in range(len(world.answers)):
                people.deliver_answer(world, which)
            people.clerk_decides(world, 0, "approved")
        else:
            people.clerk_decides(world, 0, "approved")
