"""One instance under its lock: its rows, what follows from what has happened, and the record of it. Pure.

The verbs stand in `attempts`, `approvals`, `escalation`, `compensation` and `operators`; all of them change a
row through `Instance.move`, which holds the transition to the table in `states` and numbers the history entry.
`store/transitions.py` loads an instance, lets a verb work on it, and writes the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from orchestrator import states
from orchestrator.definition import ServiceStep
from orchestrator.plan import Plan
from orchestrator.rows import Entry, Header, Row
from orchestrator.states import Phase

Key = tuple[str, Phase]

CONDITION, ENDED = "condition", "ended"  # reasons why a step is SKIPPED


class Instance:
    def __init__(
        self,
        header: Header,
        rows: Iterable[Row],
        plan: Plan,
        now: datetime,
        *,
        covered: frozenset[str] = frozenset(),
        worker: str | None = None,
    ) -> None:
        """`covered`: steps that a canvas already carries on to, so that they are born published."""
        self.header = self.loaded_header = header
        self.plan, self.now = plan, now
        self._covered, self._worker = covered, worker
        self.loaded: Mapping[Key, Row] = {row.key: row for row in rows}
        self._rows: dict[Key, Row] = dict(self.loaded)
        self.entries: list[Entry] = []

    # -- questions

    def row(self, step: str, phase: Phase = "do") -> Row | None:
        return self._rows.get((step, phase))

    def rows(self, phase: Phase | None = None) -> Iterator[Row]:
        return (row for row in self._rows.values() if phase is None or row.phase == phase)

    def changed(self) -> Iterator[Row]:
        return (row for key, row in self._rows.items() if row is not self.loaded.get(key))

    @property
    def is_over(self) -> bool:
        return states.is_terminal(self.header.status)

    @property
    def is_falling(self) -> bool:
        return self.header.outcome is not None

    # -- changes

    def move(self, row: Row, verb: str, **changes: Any) -> Row:
        """Take a row along one edge of the table, and write the history entry."""
        state = states.target(verb, row.state)
        changes.setdefault("reason", None)
        moved = replace(row, state=state, **(self._stamps(row, state, changes.get("due_at")) | changes))
        self._rows[row.key] = moved
        if self._is_shown(row.step):
            self._record(moved, verb, output=changes.get("output"), error=changes.get("error"))
        return self._rows[row.key]

    def amend(self, row: Row, **changes: Any) -> Row:
        """Change what is not a state."""
        self._rows[row.key] = replace(row, **changes)
        return self._rows[row.key]

    def _stamps(self, row: Row, state: str, due_at: datetime | None) -> dict[str, Any]:
        stamps: dict[str, Any] = {}
        if row.state in states.CLAIMABLE and state != states.RUNNING:
            stamps["published_at"] = None  # nobody has claimed by its message, so it has overtaken none
        if state in states.CLAIMABLE:
            stamps["ready_at"] = due_at or self.now
        if state != states.RUNNING:
            stamps |= {"lease_until": None, "limit_until": None}
        if state not in states.ACTIVE:
            stamps |= {"ended_at": self.now, "done_seq": self._next_seq}
        return stamps

    @property
    def _next_seq(self) -> int:
        return self.header.history_seq + len(self.entries) + 1

    def _is_shown(self, step: str) -> bool:
        block = self.plan.block(step)
        return block is None or block.written

    def _record(self, row: Row, verb: str, *, output: Any, error: str | None) -> None:
        """`output` and `error` are this transition's own: a row still carries those of one before it in the transaction."""
        entry = Entry(
            seq=self._next_seq, verb=verb, status=row.state, step=row.step, phase=row.phase, reason=row.reason,
            attempt=row.attempt, generation=row.generation, service=row.service, output=output, error=error or None,
            worker=self._worker,
        )  # fmt: skip
        self.entries.append(entry)

    def note(self, verb: str, status: str, *, reason: str | None = None, **changes: Any) -> None:
        """Take the instance itself along one edge, and write the history entry."""
        source = self.header.status
        if source not in states.INSTANCE[verb].sources or status != states.INSTANCE[verb].target:
            raise ValueError(f"{verb} is not allowed from {source or 'unborn'} to {status}")
        self.entries.append(Entry(seq=self._next_seq, verb=verb, status=status, reason=reason, worker=self._worker))
        self.header = replace(self.header, status=status, reason=reason, **changes)

    def mark(self, **changes: Any) -> None:
        """Set columns of the instance that are not its status."""
        self.header = replace(self.header, **changes)

    # -- what follows

    def begin(self) -> None:
        self.note("start", states.RUNNING, started_at=self.now)
        self.enter(self.plan.first)

    def enter(self, step: str) -> None:
        """The step's turn has come. In a later life, what has ended well stays as it is."""
        row = self.row(step)
        while row is not None and self._stands(row):
            after = self.plan.place(step).after
            if after is None:
                self.leave(step)
                return
            step, row = after, self.row(after)
        self._begin_step(step, row)

    def _stands(self, row: Row) -> bool:
        """Ended well in an earlier life, and not undone since. A block is gone through again, for what is inside it."""
        if row.state == states.SUCCEEDED:
            return self.plan.block(row.step) is None
        return row.state == states.SKIPPED and row.reason != ENDED

    def _begin_step(self, step: str, row: Row | None) -> None:
        if (block := self.plan.block(step)) and block.when is None:
            self.open(step)
        else:
            self._ready(step, row)

    def _ready(self, step: str, row: Row | None) -> None:
        published = self.now if step in self._covered else None
        if row is None:
            self.move(self._new(step), "ready", published_at=published)
        elif row.uncertain and row.state != states.COMPENSATED and row.decision is None:
            self._repeat(step, row, published)
        else:
            self.move(row, "renew", **next_generation(row, self._new(step)) | {"published_at": published})

    def _repeat(self, step: str, row: Row, published: datetime | None) -> None:
        """What may have been done keeps its key; where no key helps, a person has to tell first. To tell somebody twice
        who is to decide (`pause`) does no harm."""
        lane = self.plan.lane(row.service)
        if lane.idempotency == "none" and not self.plan.service(step).pause:
            self.move(row, "doubt", reason="uncertain", error="it may have been done in an earlier life", ended_at=None,
                      done_seq=None)  # fmt: skip
            return
        due = row.lost_until if lane.idempotency == "query" else None
        self.move(row, "renew", **same_generation(row) | {"published_at": published, "due_at": due})

    def _new(self, step: str) -> Row:
        place = self.plan.place(step)
        operation = place.step.operation if isinstance(place.step, ServiceStep) else None
        return Row(
            step=step, phase="do", order=place.order, queue=self.plan.queue(step),
            service=str(operation) if operation else None,
        )  # fmt: skip

    def open(self, block: str) -> None:
        """Open a block: its branches' first steps have their turn."""
        row = self.row(block) or self._new(block)
        verb = "reopen" if row.state in (states.SUCCEEDED, states.SKIPPED) else "open"
        heads = self.plan.heads(block)
        self.move(row, verb, branches_left=len(heads), lease_until=None, limit_until=None)
        for head in heads:
            self.enter(head)

    def leave(self, step: str) -> None:
        """The step has ended well: its successor has its turn, or its branch has arrived at the join."""
        place = self.plan.place(step)
        if place.after is not None:
            self.enter(place.after)
        elif place.block is not None:
            self._arrive(place.block)

    def _arrive(self, block: str) -> None:
        row = self._rows[block, "do"]
        row = self.amend(row, branches_left=row.branches_left - 1)
        if row.branches_left == 0:
            self.move(row, "succeed")
            self.leave(block)

    # -- the status shown

    def settle(self) -> None:
        """Let the instance's status follow from its rows. Called once, after the verbs of a transaction."""
        if self.is_over:
            return
        if not self.is_falling and not self._any(states.ACTIVE):
            self.note("complete", states.COMPLETED, ended_at=self.now)
        elif self.header.suspended_at is not None:
            self._show(states.SUSPENDED, None)
        else:
            self._show(*self._standing())

    def _standing(self) -> tuple[str, str | None]:
        if any(row.state == states.STUCK for row in self.rows("do")):
            return states.STUCK, "undo_failed"
        if not self._any(states.CLAIMABLE | {states.RUNNING}):
            doubtful = next((row for row in self.rows() if row.state == states.UNKNOWN), None)
            if doubtful is not None:
                return states.STUCK, doubtful.reason or "uncertain"
        if self.is_falling:
            return states.COMPENSATING, self.header.cause
        return (states.RUNNING if self._any(states.CLAIMABLE | {states.RUNNING}) else states.WAITING), None

    def _any(self, wanted: frozenset[str]) -> bool:
        return any(
            row.state in wanted for row in self.rows() if row.state != states.RUNNING or self.plan.block(row.step) is None
            or row.is_leased
        )  # fmt: skip

    def _show(self, status: str, reason: str | None) -> None:
        """A status that merely follows from the rows: shown, and no entry of its own in the history."""
        if status != self.header.status and status not in _shown_after(self.header.status):
            raise ValueError(f"an instance does not go from {self.header.status} to {status}")
        if (status, reason) != (self.header.status, self.header.reason):
            self.header = replace(self.header, status=status, reason=reason)


def _shown_after(status: str) -> set[str]:
    return {edge.target for edge in states.INSTANCE.values() if status in edge.sources}


def next_generation(row: Row, new: Row) -> dict[str, Any]:
    """What `renew` changes when it has not been done, or was undone: a new key, and everything from the beginning."""
    return {
        "service": new.service, "queue": new.queue, "generation": row.generation + 1, "tries": 0, "losses": 0,
        "rounds": 0, "alone": False, "escalated": False, "uncertain": False, "uncertain_before": False, "decision": None,
        "published_at": None, "clears": True, "lost_until": None, "started_at": None, "due_at": None, "budget_until": None, "ended_at": None, "done_seq": None,
        "branches_left": 0,
    }  # fmt: skip


def same_generation(row: Row) -> dict[str, Any]:
    """What `renew` changes when it may have been done: the same key, to whoever had it, and its age still counts."""
    kept = {
        name: getattr(row, name)
        for name in ("generation", "escalated", "uncertain", "uncertain_before", "started_at", "lost_until")
    }
    return next_generation(row, row) | kept | {"clears": False}
