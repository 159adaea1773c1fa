"""Builders for the tests of the pure core: definitions from a few words, and an instance that lives in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from orchestrator import attempts, conclusions, flow, states
from orchestrator.attempts import Attempt
from orchestrator.calls import Result
from orchestrator.clock import later
from orchestrator.definition import (
    Branch,
    BranchesStep,
    Compensation,
    Definition,
    Expression,
    Operation,
    ServiceStep,
    Step,
)
from orchestrator.instance import Instance, Partial
from orchestrator.lane import Lane, Reply
from orchestrator.plan import Plan
from orchestrator.rows import Entry, Header, Row
from orchestrator.states import Phase
from orchestrator.store.statements import WRITE_ONLY
from orchestrator.system import System

T = TypeVar("T")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
TRACE = "0190f2d37bfc7a1e8c00000000000001"
LEASE, LIMIT = 30.0, 12.0

# One lane of each kind; a step that names none goes to the one that honours the key.
LANES: Mapping[str, Lane] = {
    **{kind: Lane(name=kind, transport="local", idempotency=kind) for kind in ("key", "query", "safe", "none")},
    "forgetful": Lane(name="forgetful", transport="local", idempotency="key", key_ttl=60.0),
    "service": Lane(name="service", transport="http", idempotency="key"),
    "harmless": Lane(name="harmless", transport="http", idempotency="safe"),
    "other": Lane(name="other", transport="local", queue="others"),
}
TRUE = Expression(source="true")


def operation(text: str) -> Operation:
    lane, _, name = text.partition(".")
    return Operation(lane=lane, name=name)


def service(name: str, call: str | None = None, *, undo: str | None = None, **rest: Any) -> ServiceStep:
    """A step that calls `call` (default: the lane that honours the key), undone by `undo`."""
    compensation = Compensation(operation=operation(undo)) if undo else None
    return ServiceStep(id=name, operation=operation(call or f"key.{name}"), **{"compensation": compensation, **rest})


def gate(name: str, **rest: Any) -> ServiceStep:
    """A bare pause: it tells nobody, and waits for a decision."""
    return ServiceStep(id=name, pause=True, **rest)


def block(name: str, *branches: Step | tuple[Step, ...], **rest: Any) -> BranchesStep:
    made = [Branch(name=f"b{at}", steps=one if isinstance(one, tuple) else (one,)) for at, one in enumerate(branches)]
    return BranchesStep(id=name, branches=tuple(made), **rest)


def plan_of(*steps: Step, **rest: Any) -> Plan:
    return Plan(Definition(id="flight", steps=steps, **rest), LANES)


def tower(lanes: Mapping[str, Lane] = LANES) -> System:
    """As much of a System as recording a result asks for."""
    return cast("System", SimpleNamespace(lanes=lanes, chance=lambda: 0.0))


DONE = Reply(outcome="done", output={"ok": True})


def reply(outcome: Any, **rest: Any) -> Reply:
    return Reply(outcome=outcome, **rest)


def _is_left_out(row: Row) -> bool:
    """By the statement READ_NARROW of `store/transitions`."""
    return row.step.endswith("]") and row.state in (states.SUCCEEDED, states.SKIPPED, states.FAILED)


@dataclass
class Flight:
    """An instance and its history in memory: `apply` does what `store/transitions` does around a verb."""

    plan: Plan
    header: Header = field(default_factory=lambda: Header(
        id=TRACE, tenant="city", workflow_id="flight", version_id="v", version=1))  # fmt: skip
    rows: dict[tuple[str, Phase], Row] = field(default_factory=dict)
    history: list[Entry] = field(default_factory=list)
    now: datetime = EPOCH

    @classmethod
    def of(cls, *steps: Step, **rest: Any) -> Flight:
        """Started, with its first step READY."""
        flight = cls(plan_of(*steps, **rest))
        flight.apply(flow.begin)
        return flight

    def apply(self, verb: Callable[[Instance], T], *, covered: frozenset[str] = frozenset()) -> T:
        """Nothing is kept when the verb raises; what is never loaded is forgotten, as the store does."""
        instance, result = self._work(verb, covered)
        instance.settle()
        forgotten: dict[str, Any] = {**dict.fromkeys(WRITE_ONLY), "clears": False}
        self.rows = {row.key: replace(row, **forgotten) for row in instance.rows()}
        self.history += instance.entries
        self.header = replace(instance.header, history_seq=self.header.history_seq + len(instance.entries))
        return result

    def _work(self, verb: Callable[[Instance], T], covered: frozenset[str]) -> tuple[Instance, T]:
        """As a leg does: first without the iterations that have ended, and with them only when the verb asks for them.
        Both have to come to the same."""
        whole = Instance(self.header, self.rows.values(), self.plan, self.now, covered=covered, worker="w1")
        result = verb(whole)
        if self.header.outcome is None and self.header.life == 1:
            live = [row for row in self.rows.values() if not _is_left_out(row)]
            narrow = Instance(self.header, live, self.plan, self.now, covered=covered, worker="w1", is_whole=False)
            with suppress(Partial):
                assert verb(narrow) == result
                assert list(narrow.changed()) == list(whole.changed())
                assert (narrow.entries, narrow.header) == (whole.entries, whole.header)
        return whole, result

    # -- looking

    @property
    def status(self) -> str:
        return self.header.status

    def row(self, step: str, phase: Phase = "do") -> Row:
        return self.rows[step, phase]

    def state(self, step: str, phase: Phase = "do") -> str:
        return self.rows[step, phase].state if (step, phase) in self.rows else states.UNBORN

    def states(self, phase: Phase = "do") -> dict[str, str]:
        return {row.step: row.state for row in self.rows.values() if row.phase == phase}

    def verbs(self, step: str, phase: Phase = "do") -> list[str]:
        return [entry.verb for entry in self.history if (entry.step, entry.phase) == (step, phase)]

    def undone(self) -> list[str]:
        """Steps in the order in which they were undone."""
        return [entry.step for entry in self.history if entry.step and entry.status == states.COMPENSATED]

    # -- doing

    def wait(self, seconds: float) -> None:
        self.now = later(self.now, seconds)

    def claim(self, step: str, phase: Phase = "do", *, alone: bool = True) -> Attempt | None:
        return self.apply(lambda instance: attempts.claim(
            instance, step, phase, worker="w1", lease=LEASE, limit=LIMIT, alone=alone))  # fmt: skip

    def land(self, attempt: Attempt, result: Result = DONE, *, covered: frozenset[str] = frozenset()) -> bool:
        """Record what came of an attempt, as a leg does; false when that changed nothing: it is somebody else's by now."""

        def verb(instance: Instance) -> bool:
            conclusions.conclude(tower(), instance, attempt, result)
            return bool(instance.entries)

        return self.apply(verb, covered=covered)

    def run(self, step: str, result: Result = DONE, phase: Phase = "do") -> Attempt:
        """Claim and land."""
        attempt = self.claim(step, phase)
        assert attempt is not None, f"{step} cannot be claimed: {self.states(phase)}"
        self.land(attempt, result)
        return attempt

    def on(self, step: str, verb: Callable[..., T], phase: Phase = "do", **rest: Any) -> T:
        """A verb that takes the instance and a row."""
        return self.apply(lambda instance: verb(instance, cast("Row", instance.row(step, phase)), **rest))

    def lose(self, step: str, phase: Phase = "do", *, losses: int = 3) -> None:
        """Its lease runs out, and the sweep sees it."""
        self.wait(LEASE + 1)
        self.on(step, attempts.lose, phase, losses=losses)

    def hand_over(self, step: str, phase: Phase = "do", *, losses: int = 3) -> None:
        """Its worker is told to stop while it calls."""
        self.on(step, attempts.lose, phase, losses=losses, handed_over=True)

    def fall(self) -> None:
        """The step `last` fails for certain."""
        self.run("last", reply("rejected", error="no"))
