"""One schedule: a definition is flown by random moves, with faults; then the faults stop, and it has to come to its end.

Every move takes its choices from the world's; move 0 of the table is the plainest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

from orchestrator import flow, operators, states
from orchestrator.clock import later
from orchestrator.definition import Decision, ServiceStep, WorkflowStep
from orchestrator.plan import Plan
from orchestrator.rows import Entry, Header
from tests.unit.flying import EPOCH
from tests.unit.simulation import ledger, people
from tests.unit.simulation.canvas import Sent
from tests.unit.simulation.choices import Choices
from tests.unit.simulation.laws import Laws
from tests.unit.simulation.service import Fate
from tests.unit.simulation.swift import replace
from tests.unit.simulation.worker import CLOCK, Worker
from tests.unit.simulation.world import HEADER, World

MOVES = 40  # at most
ROUNDS = 120  # without faults, until all is over or waits for a person
HELPS = 40  # of a person, until all is over

# What may happen next, as often as it is named: always, or only while there is something for it to happen to.
ALWAYS = (
    *["publish"] * 4, *["time"] * 5, *["sweep"] * 4, "publish_lost", "republish", "cancel", "suspend", "retry", "nonsense",
)  # fmt: skip
SUSPENDED = ("resume",) * 6
WITH_BROKER = (*["deliver"] * 12, "deliver_twice", "deliver_twice", "lose", "wipe")
WITH_WORKERS = (*["step"] * 16, "kill", "kill", "kill", "extend")
WITH_FLYING = ("land",) * 4
WITH_ACCEPTED = (*["answer"] * 6, "answer_lost", "answer_uncertain")
WITH_ANSWERS = ("answer_again",)
WITH_CHILDREN = (*["child"] * 4, "tell", "tell", "tell_lost", "abandon")
WITH_WAITS = ("clerk", "clerk")
WITH_DOUBTS = ("resolve", "resolve", "attest")
DECISIONS: tuple[Decision, ...] = ("approved", "rejected")
LATE: tuple[Fate, ...] = ("done", "lost", "unseen", "rejected")
PAUSES = (0.4, 2.5, 6.0, 12.0, 16.0, 26.0, 51.0, 101.0)


@dataclass
class Schedule:
    world: World
    laws: Laws
    workers: list[Worker] = field(default_factory=list)
    trace: list[str] | None = None  # what happened, for people
    moves: Counter[str] = field(default_factory=Counter)
    since: int = 0  # the ledger's length when the instance fell
    made: int = 0  # workers

    @classmethod
    def of(cls, plan: Plan, choices: Choices, *, trace: list[str] | None = None) -> Schedule:
        laws = Laws(plan)
        deadline = plan.definition.deadline
        header = replace(HEADER, deadline_at=later(EPOCH, deadline) if deadline else None)
        world = World(plan=plan, choices=choices, on_commit=lambda *_: None, header=header)
        schedule = cls(world, laws, trace=trace)
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
        for _ in range(5 + self.world.choices.below(MOVES - 4)):
            self.move(self.world.choices.among(self._possible()))
        self.come_home()
        while self.world.header.status in (states.FAILED, states.COMPENSATED) and self.world.choices.one_in(3):
            people.retry(self.world)  # another life, which may fall as well
            self.come_home()
        self._let_land()
        self.laws.compare(self.world)
        self._inspect()

    def _possible(self) -> tuple[str, ...]:
        world = self.world
        found = WITH_WORKERS if self.workers else ()
        found += WITH_BROKER if world.broker else ()
        found += ALWAYS
        found += SUSPENDED if world.header.suspended_at else ()
        found += WITH_FLYING if world.service.flying else ()
        found += WITH_ACCEPTED if world.service.accepted else ()
        found += WITH_ANSWERS if world.answers else ()
        found += WITH_CHILDREN if world.children.found else ()
        found += WITH_WAITS if world.header.status == states.WAITING else ()
        return found + (WITH_DOUBTS if world.header.status == states.STUCK else ())

    def move(self, name: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{name}")
        getattr(self, f"_{name}")()

    def _did(self, name: str) -> None:
        self.world.faults[name] += 1

    def _take(self, *, is_kept: bool = False) -> None:
        broker = self.world.broker
        if not broker:
            return
        at = self.world.choices.below(len(broker))
        message = broker[at] if is_kept else broker.pop(at)
        if at:
            self._did("messages out of order")
        self.made += 1
        worker = Worker(self.world, f"w{self.made}", message, is_alone=not self.world.choices.one_in(3))
        if self.trace is not None:
            self.trace.append(f"    {worker.name} takes {message}")
        if worker.go_on():
            self.workers.append(worker)

    def _deliver(self) -> None:
        self._take()

    def _deliver_twice(self) -> None:
        if self.world.broker:
            self._did("message delivered twice")
            self._take(is_kept=True)

    def _step(self) -> None:
        if self.workers:
            worker = self.workers[self.world.choices.below(len(self.workers))]
            is_left = worker.go_on()
            if self.trace is not None:
                self.trace.append(f"    {worker.name} is {worker.point}")
            if not is_left:
                self.workers.remove(worker)

    def _kill(self) -> None:
        """A process dies where it stands; its message is delivered again, or not."""
        if self.workers:
            worker = self.workers.pop(self.world.choices.below(len(self.workers)))
            self._did(f"killed when {worker.point}")
            if self.trace is not None:
                self.trace.append(f"    {worker.name} dies, {worker.point}")
            if self.world.choices.below(2):
                self.world.broker.append(worker.message)
                self._did("message delivered again after a death")

    def _lose(self) -> None:
        if self.world.broker:
            self.world.broker.pop(self.world.choices.below(len(self.world.broker)))
            self._did("message lost")

    def _wipe(self) -> None:
        if self.world.broker:
            self.world.broker.clear()
            self._did("broker wiped")

    def _publish(self) -> None:
        self.world.publish()

    def _publish_lost(self) -> None:
        if self.world.publish(is_lost=True):
            self._did("dispatcher dies between commit and publish")

    def _republish(self) -> None:
        if self.world.republish():
            self._did("message republished")

    def _extend(self) -> None:
        if self.made:
            self.world.extend(f"w{1 + self.world.choices.below(self.made)}")

    def _time(self) -> None:
        self.world.wait(self.world.choices.among(PAUSES))

    def _sweep(self) -> None:
        losses = self.world.sweep_lost()
        self.world.faults["lease lost"] += losses
        self.world.faults["wait past its deadline"] += self.world.sweep_overdue()
        self.world.faults["instance past its deadline"] += self.world.sweep_deadline()

    def _land(self) -> None:
        """A request of a worker that is stopped, or dead, reaches its service."""
        if flying := self.world.service.flying:
            fate = self.world.choices.among(LATE)
            request = flying[self.world.choices.below(len(flying))]
            self.world.service.deal(request, fate, self.world.now)
            self._did("request lands late")

    def _nonsense(self) -> None:
        """A message that says what nobody has said."""
        if not self.world.choices.one_in(4):
            return
        names = self.world.plan.ids
        step = names[self.world.choices.below(len(names))]
        self.world.broker.append(Sent(start=step, queue="legs"))
        self._did("forged message")

    # -- answers and orders

    def _answer(self) -> None:
        decision = self.world.choices.among(DECISIONS)
        people.service_answers(self.world, self.world.choices.below(8), decision)

    def _answer_lost(self) -> None:
        self._did("callback lost")
        people.service_answers(self.world, self.world.choices.below(8), "approved", is_lost=True)

    def _answer_uncertain(self) -> None:
        self._did("callback that does not say whether it was done")
        people.service_answers(self.world, self.world.choices.below(8), "rejected", uncertain=True)

    def _answer_again(self) -> None:
        if self.world.answers:
            self._did("callback repeated, or late")
            people.deliver_answer(self.world, self.world.choices.below(len(self.world.answers)))

    def _clerk(self) -> None:
        which = self.world.choices.below(8)
        people.clerk_decides(self.world, which, self.world.choices.among(DECISIONS))

    def _child(self) -> None:
        if found := list(self.world.children.found.values()):
            child = found[self.world.choices.below(len(found))]
            status = self.world.choices.among((states.COMPLETED, states.COMPENSATED, states.FAILED))
            self.world.children.move(self.world, child, status)

    def _tell(self) -> None:
        self.world.children.tell(self.world)

    def _tell_lost(self) -> None:
        if self.world.children.tell(self.world, is_lost=True):
            self._did("parent told, and the mark lost")

    def _abandon(self) -> None:
        self.world.children.abandon(self.world)

    def _cancel(self) -> None:
        if self.world.choices.one_in(5):
            people.order(self.world, operators.cancel)

    def _suspend(self) -> None:
        if self.world.choices.one_in(2):
            people.order(self.world, operators.suspend)

    def _resume(self) -> None:
        people.order(self.world, operators.resume)

    def _retry(self) -> None:
        people.retry(self.world)

    def _resolve(self) -> None:
        people.resolve(self.world, self.world.choices.below(4), is_retry=self.world.choices.below(2) == 1)

    def _attest(self) -> None:
        people.attest(self.world)

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
