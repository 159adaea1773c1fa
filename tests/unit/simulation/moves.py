"""The moves of a schedule, with faults: each takes its choices from the world's. The first that is possible is the plainest."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator import operators, states
from orchestrator.definition import Decision
from tests.unit.simulation import people
from tests.unit.simulation.canvas import Sent
from tests.unit.simulation.laws import Laws
from tests.unit.simulation.scenes import ANYTHING, Scene
from tests.unit.simulation.service import Fate
from tests.unit.simulation.worker import Worker
from tests.unit.simulation.world import World

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
class Moves:
    world: World
    laws: Laws
    workers: list[Worker] = field(default_factory=list)
    trace: list[str] | None = None  # what happened, for people
    scene: Scene = ANYTHING
    since: int = 0  # the ledger's length when the instance fell
    made: int = 0  # workers

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
        found += WITH_DOUBTS if world.header.status == states.STUCK else ()
        allowed = self.scene.moves
        return found if allowed is None else tuple(move for move in found if move in allowed)

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
