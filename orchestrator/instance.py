"""One instance under its lock: its rows, the status that follows from them, and the record of what happens. Pure.

The verbs stand in `attempts`, `blocks`, `approvals`, `escalation`, `compensation`, `kinship` and `operators`, and who
comes next in `flow`; all of them change a row through `Instance.move`, which holds the transition to the table in
`states` and numbers the history entry. `store/transitions.py` loads an instance, lets a verb work on it, and writes the
difference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from orchestrator import states
from orchestrator.definition import BranchesStep
from orchestrator.plan import Plan
from orchestrator.rows import Entry, Header, Row
from orchestrator.states import Phase

Key = tuple[str, Phase]

CONDITION, ENDED = "condition", "ended"  # reasons why a step is SKIPPED
CHANGED = "changed"  # of a step that stood in an earlier life: its way, or the item of its loop, is another in this one
CHILD = "child"  # the sub-workflow has not completed, and that is known
ENDING = "ended"  # the outcome of an instance that has reached an `end`


class Partial(Exception):
    """A verb needs rows that were not loaded. No error: the transition loads them and lets the verb work again."""


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
        is_whole: bool = True,
    ) -> None:
        """`covered`: steps that a canvas already carries on to, so that they are born published. `is_whole`: false when
        the iterations that have ended were not loaded."""
        self.header = self.loaded_header = header
        self.plan, self.now = plan, now
        self.covered, self._worker = covered, worker
        self._is_whole = is_whole
        self.turns: deque[tuple[Callable[[Instance, str], None], str]] = deque()  # that are still to come (`flow`)
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

    @property
    def is_ending(self) -> bool:
        """An `end` was reached: it will complete once what runs has drained, and undoes nothing."""
        return self.header.outcome == ENDING

    @property
    def has_news(self) -> bool:
        """Whether its parent, or its children, have to learn of what has happened."""
        has_ended = self.is_over and self.header.ended_at != self.loaded_header.ended_at
        has_fallen = self.is_falling and self.header.outcome != self.loaded_header.outcome
        return (has_ended and self.header.parent_id is not None) or (has_fallen and self.plan.has_children)

    def need_all(self) -> None:
        """For a verb that looks at every step. Raises Partial when not all were loaded."""
        if not self._is_whole:
            raise Partial

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
        stamps: dict[str, Any] = {"gate": None, "deferred": None}
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
        found = self.plan.place(step).step
        return not isinstance(found, BranchesStep) or found.written

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
        if self.is_falling and not self.is_ending:
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
