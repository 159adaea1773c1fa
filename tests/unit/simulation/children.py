"""Sub-workflows, each as little more than its status; who is told what, and when. Stands for `children` and `store/family`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from orchestrator import kinship, states
from orchestrator.attempts import Attempt
from orchestrator.kinship import End
from tests.unit.simulation.service import Effect

if TYPE_CHECKING:
    from tests.unit.simulation.world import World


@dataclass
class Child:
    step: str
    generation: int
    status: str = states.RUNNING
    is_told: bool = False

    @property
    def is_over(self) -> bool:
        return states.is_terminal(self.status)


@dataclass
class Children:
    found: dict[tuple[str, int], Child] = field(default_factory=dict)

    def start(self, world: World, attempt: Attempt) -> Child | None:
        """`children.start`: the one there is, or a new one, unless the parent has fallen or somebody else has the step."""
        known = self.found.get((attempt.step, attempt.generation))
        header, row = world.header, world.rows[attempt.step, "do"]
        has_fallen = header.outcome is not None or header.ended_at is not None
        is_held = row.state == states.RUNNING and row.attempt == attempt.attempt
        if known is not None or has_fallen or not is_held:
            return known
        child = self.found[attempt.step, attempt.generation] = Child(attempt.step, attempt.generation)
        return child

    def recall(self, world: World, attempt: Attempt) -> Child | None:
        """`children.recall` and `kinship.recall`."""
        child = self.found.get((attempt.step, world.rows[attempt.step, "do"].generation))
        if child is not None:
            child.is_told = False
            if child.status == states.COMPLETED:
                child.status = states.COMPENSATING
        return child

    def abandon(self, world: World) -> int:
        """ABANDONED of `store/family`, and `kinship.abandon`."""
        header = world.header
        if header.outcome is None or header.ended_at is not None:
            return 0
        left = [child for child in self.found.values() if child.status == states.RUNNING]
        for child in left:
            child.status = states.CANCELLED
        return len(left)

    def move(self, world: World, child: Child, status: str) -> None:
        """A child ends by itself: one that is being undone when that is done."""
        key = f"{child.step}:g{child.generation}"
        if child.status == states.COMPENSATING:
            child.status = states.COMPENSATED
            world.service.ledger.append(Effect(child.step, "undo", key + ":undo", "effect"))
        elif child.status == states.RUNNING:
            child.status = status
            if status == states.COMPLETED:
                world.service.ledger.append(Effect(child.step, "do", key + ":do", "effect"))

    def tell(self, world: World, *, is_lost: bool = False) -> int:
        """`children._tell`; `is_lost`: it dies before it is noted that the parent was told."""
        untold = [child for child in self.found.values() if child.is_over and not child.is_told]
        for child in untold:
            output = {"instanceId": "child", "status": child.status}
            end = End(step=child.step, generation=child.generation, status=child.status, output=output, error="no")
            before = world.rows[child.step, "do"]
            world.transition(partial(kinship.learn, end=end), "child", is_narrow=True)
            is_its_own = before.generation == child.generation
            assert is_its_own or world.rows[child.step, "do"] is before, (
                f"FAMILY: {child} is not {before.step}'s any more"
            )
            child.is_told = not is_lost
        return len(untold)
