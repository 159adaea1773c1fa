"""Many schedules, one after the other; what they have reached; and the one that fails, shrunk."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from orchestrator.plan import Plan
from tests.unit.simulation.choices import Choices, Shrinker
from tests.unit.simulation.scenes import ANYTHING, Scene
from tests.unit.simulation.schedule import Schedule
from tests.unit.simulation.swift import swiftly
from tests.unit.simulation.worker import on_its_clock

SHARED = 8  # schedules of one definition


@dataclass
class Reached:
    """What a number of schedules has come to."""

    schedules: int = 0
    transitions: int = 0
    seconds: float = 0.0
    edges: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    joins: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)

    def add(self, schedule: Schedule) -> None:
        self.schedules += 1
        self.transitions += schedule.laws.seen
        self.edges.update(schedule.laws.edges)
        self.faults.update(schedule.world.faults)
        self.joins.update(schedule.laws.joins)
        self.ends[schedule.world.header.status] += 1


@dataclass
class Broken(Exception):
    """A schedule that violates a law."""

    numbers: list[int]
    error: Exception
    number: int  # of schedules until it

    def __str__(self) -> str:
        return f"{type(self.error).__name__}: {self.error}\nnumbers: {self.numbers}"


def fly(choices: Choices, scene: Scene = ANYTHING, *, trace: list[str] | None = None) -> Schedule:
    """A whole schedule, its definition included."""
    schedule = Schedule.of(scene.plan(choices), choices, scene, trace=trace)
    schedule.fly()
    return schedule


def explore(seed: int | str, schedules: int, scene: Scene = ANYTHING, *, seconds: float = 1e9) -> Reached:
    """Raises Broken for the first that violates a law."""
    reached, began = Reached(), time.process_time()
    drawn, plan = _drawn(seed, 0, scene)
    with ExitStack() as stack:
        stack.enter_context(swiftly())
        stack.enter_context(on_its_clock())
        for number in range(schedules):
            if number % SHARED == 0:
                if time.process_time() - began > seconds:
                    break
                drawn, plan = _drawn(seed, number, scene)
            choices = Choices.seeded(f"{seed}:{number}")
            schedule = Schedule.of(plan, choices, scene)
            try:
                schedule.fly()
            except Exception as error:
                raise Broken([*drawn.taken, *choices.taken], error, number + 1) from error
            reached.add(schedule)
    reached.seconds = time.process_time() - began
    return reached


def _drawn(seed: int | str, number: int, scene: Scene) -> tuple[Choices, Plan]:
    choices = Choices.seeded(f"{seed}:{number}:definition")
    return choices, scene.plan(choices)


def replay(numbers: Sequence[int], scene: Scene = ANYTHING, *, trace: list[str] | None = None) -> Exception | None:
    """The error that these numbers end in, if they do."""
    with swiftly(), on_its_clock():
        try:
            fly(Choices.of(numbers), scene, trace=trace)
        except Exception as error:  # noqa: BLE001  # that is what is looked for
            return error
    return None


def shrink(broken: Broken, scene: Scene = ANYTHING, *, tries: int = 5_000) -> list[int]:
    """The shortest list that violates the same law."""
    wanted = kind_of(broken.error)
    return Shrinker(lambda numbers: kind_of(replay(numbers, scene)) == wanted, broken.numbers, tries).run()


def kind_of(error: BaseException | None) -> str | None:
    """The law, or the kind of error; what comes after it differs from schedule to schedule."""
    return f"{type(error).__name__} {str(error).partition(':')[0][:24]}" if error is not None else None


def told(numbers: Sequence[int], scene: Scene = ANYTHING) -> str:
    """A schedule for people: the definition, what happened, what was violated."""
    lines: list[str] = []
    plan = scene.plan(Choices.of(numbers))
    error = replay(numbers, scene, trace=lines)
    steps = "\n".join(f"  {step}" for step in plan.definition.steps)
    return "\n".join([steps, *lines[-160:], f"{type(error).__name__}: {error}"])
