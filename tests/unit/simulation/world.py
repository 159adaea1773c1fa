"""One instance in memory, the broker's messages, the clock: what Postgres, the dispatcher and the sweep do with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from orchestrator import states, sweep
from orchestrator.approvals import Answer
from orchestrator.attempts import Attempt
from orchestrator.clock import later
from orchestrator.instance import Instance, Partial
from orchestrator.plan import Plan
from orchestrator.rows import Entry, Header, Row
from orchestrator.states import Phase
from orchestrator.store.statements import WRITE_ONLY
from orchestrator.system import System
from tests.unit.flying import EPOCH, TRACE
from tests.unit.simulation import canvas
from tests.unit.simulation.canvas import Sent
from tests.unit.simulation.children import Children
from tests.unit.simulation.choices import Choices
from tests.unit.simulation.service import Fate, Service
from tests.unit.simulation.swift import replace

T = TypeVar("T")
Key = tuple[str, Phase]

LEASE, GRACE, LOSSES = 30.0, 60.0, 2
SWEEPS_LOST = sweep._lose(cast("System", SimpleNamespace(settings=SimpleNamespace(losses=LOSSES))))
HEADER = Header(id=TRACE, tenant="city", workflow_id="flight", version_id=TRACE[:-1] + "2", version=1)
FORGOTTEN: dict[str, Any] = {**dict.fromkeys(WRITE_ONLY), "clears": False}


@dataclass(frozen=True)
class Undo:
    """The message that carries a compensation."""

    step: str
    queue: str


Message = Sent | Undo


class LostRace(AssertionError):
    """A guard of the store would not have held."""


@dataclass
class World:
    plan: Plan
    choices: Choices
    on_commit: Callable[[World, Header, list[Entry], str], None]
    header: Header = HEADER
    rows: dict[Key, Row] = field(default_factory=dict)
    history: list[Entry] = field(default_factory=list)
    now: datetime = EPOCH
    broker: list[Message] = field(default_factory=list)
    service: Service = field(default_factory=Service)
    children: Children = field(default_factory=Children)
    faults: Counter[str] = field(default_factory=Counter)
    said: dict[tuple[str, str, Phase, int], int] = field(default_factory=dict)  # what expressions say, once and for all
    listed: dict[str, list[Any]] = field(default_factory=dict)  # the items of loops
    answers: list[tuple[Attempt, Answer]] = field(
        default_factory=list
    )  # callbacks that services have made, or tried to
    settled: set[tuple[str, int]] = field(default_factory=set)  # steps and generations that people have decided
    is_fair: bool = False  # no faults any more

    # -- Postgres

    def transition(self, verb: Callable[[Instance], T], origin: str, *, covered: frozenset[str] = frozenset(),
                   worker: str | None = None, is_narrow: bool = False, is_undone: bool = False) -> T:  # fmt: skip
        """`transitions.transition`: nothing is kept when the verb raises; what was not loaded is loaded when it is needed.
        `is_undone`: the connection is lost before the commit."""
        is_narrow = is_narrow and self.header.outcome is None and self.header.life == 1
        try:
            instance, result = self._work(verb, covered, worker, is_narrow=is_narrow)
        except Partial:
            instance, result = self._work(verb, covered, worker, is_narrow=False)
        instance.settle()
        if not is_undone:
            self._write(instance, origin)
        return result

    def _work(self, verb: Callable[[Instance], T], covered: frozenset[str], worker: str | None, *,
              is_narrow: bool) -> tuple[Instance, T]:  # fmt: skip
        rows = [row for row in self.rows.values() if not (is_narrow and _is_left_out(row))]
        instance = Instance(self.header, rows, self.plan, self.now, covered=covered, worker=worker,
                            is_whole=not is_narrow)  # fmt: skip
        return instance, verb(instance)

    def _write(self, instance: Instance, origin: str) -> None:
        """WRITE of `store/statements`, with its guards."""
        before = self.header
        for row in instance.changed():
            if row.key not in instance.loaded and row.key in self.rows:
                raise LostRace(f"{row.key} is born twice")
            if isinstance(row.output, dict) and "items" in row.output:
                self.listed[row.step] = row.output["items"]
            self.rows[row.key] = replace(row, **FORGOTTEN)
        self.history += instance.entries
        self.header = replace(instance.header, history_seq=before.history_seq + len(instance.entries))
        self.on_commit(self, before, instance.entries, origin)

    def present(self, instance: Instance, key: Key) -> Row:
        row = instance.row(*key)
        assert row is not None
        return row

    def in_state(self, *wanted: str) -> list[Row]:
        return [row for row in self.rows.values() if row.state in wanted]

    # -- dispatcher

    def publish(self, *, is_lost: bool = False) -> int:
        """PUBLISH of `store/due`, and after its commit the messages; `is_lost`: it dies in between."""
        found = [row for row in self.rows.values() if self._is_to_be_published(row)]
        for row in found:
            self.amend(row, published_at=self.now)
        if not is_lost:
            self.broker += [message for row in found for message in self._messages(row)]
        return len(found)

    def _is_to_be_published(self, row: Row) -> bool:
        return (
            row.state in states.CLAIMABLE and row.published_at is None and row.deferred is None
            and row.ready_at is not None and row.ready_at <= self.now and self.header.suspended_at is None
        )  # fmt: skip

    def _messages(self, row: Row) -> list[Message]:
        if row.phase == "undo":
            return [Undo(row.step, row.queue)]
        return list(canvas.send(canvas.compile(self.plan, row.step)))

    def republish(self, *, is_surely: bool = False) -> int:
        """REPUBLISH of `store/due`. What other instances' claims say of the watermark nobody knows here, so it may come
        to this whenever the grace has passed; `is_surely`: only when the broker holds nothing."""
        found = [
            row for row in self.in_state(*states.CLAIMABLE)
            if row.published_at is not None and row.published_at < later(self.now, -GRACE)
            and not (is_surely and any(message.queue == row.queue for message in self.broker))
        ]  # fmt: skip
        for row in found:
            self.amend(row, published_at=None)
        return len(found)

    def unpublish(self, step: str, phase: Phase) -> None:
        """UNPUBLISH of `store/due`."""
        row = self.rows.get((step, phase))
        if row is not None and row.state in states.CLAIMABLE:
            self.amend(row, published_at=None)

    def amend(self, row: Row, **changes: Any) -> None:
        """What is written without a transition: marks and leases, never a state."""
        self.rows[row.key] = replace(row, **changes)

    # -- leases

    def extend(self, worker: str) -> None:
        """EXTEND of `store/due`."""
        for row in self.in_state(states.RUNNING):
            if row.worker == worker and row.lease_until is not None and row.lease_until > self.now:
                assert row.limit_until is not None
                self.amend(row, lease_until=min(later(self.now, LEASE), row.limit_until))

    def renew(self, values: dict[str, Any]) -> int:
        """RENEW of `store/due`: how many rows it has found."""
        row = self.rows.get((values["step"], values["phase"]))
        if (
            row is None or row.state != states.RUNNING or row.attempt != values["attempt"]
            or row.worker != values["worker"] or row.lease_until is None or row.lease_until <= self.now
        ):  # fmt: skip
            return 0
        limit, lease = values["limit"], values["lease"]
        self.amend(row, limit_until=later(self.now, limit), lease_until=later(self.now, min(lease, limit)))
        return 1

    # -- sweep (`orchestrator/sweep`)

    def sweep_lost(self) -> bool:
        return self.has_lost() and self.transition(SWEEPS_LOST, "sweep")

    def sweep_overdue(self) -> bool:
        return self.has_overdue() and self.transition(sweep._time_out, "deadline")

    def sweep_deadline(self) -> bool:
        return self.is_past_deadline() and self.transition(sweep._fall, "deadline of all")

    def has_lost(self) -> bool:
        """LOST of `store/due`."""
        return any(row.is_leased and row.lease_until and row.lease_until < self.now for row in self.rows.values())

    def has_overdue(self) -> bool:
        """OVERDUE of `store/due`."""
        return any(row.state == states.WAITING and row.due_at and row.due_at <= self.now for row in self.rows.values())

    def is_past_deadline(self) -> bool:
        """DEADLINES of `store/due`."""
        header = self.header
        is_past = header.deadline_at is not None and header.deadline_at <= self.now
        return is_past and not header.outcome and not header.ended_at

    def wait(self, seconds: float) -> None:
        """The clock moves; what was on its way to a service has arrived by its limit, or never does."""
        self.now = later(self.now, seconds)
        for request in [one for one in self.service.flying if one.limit <= self.now]:
            fates: tuple[Fate, ...] = ("done",) if self.is_fair else ("done", "unseen", "lost")
            self.service.deal(request, self.choices.among(fates), request.limit)


def _is_left_out(row: Row) -> bool:
    """READ_NARROW of `store/statements`."""
    return row.step.endswith("]") and row.state in (states.SUCCEEDED, states.SKIPPED, states.FAILED)
