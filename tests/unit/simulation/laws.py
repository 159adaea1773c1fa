"""What no history may say, read as it grows, transition by transition.

Two of these laws stand for themselves, for everything else leans on them:

- **The join law**: what follows a join begins exactly once, after all branches have ended, whichever transition ended the
  last of them. If it began before, it would read results that are not there yet; if twice, all that follows would be done
  twice; if never, the instance would hang. The engine counts (`branches_left`); the law does not: it looks at what has ended.
- **The reverse-order law**: what is undone is undone in the exact reverse of the order in which it was completed, late
  landings of siblings included, for what was done later may rest upon what was done before.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from orchestrator import states
from orchestrator.definition import BranchesStep, EndStep, ForEachStep, ServiceStep, WorkflowStep
from orchestrator.iterations import id_of, named, numbers_of
from orchestrator.plan import Plan
from orchestrator.rows import Entry, Header, Row
from orchestrator.states import Phase

if TYPE_CHECKING:
    from tests.unit.simulation.world import World

BEGINS = frozenset({"ready", "renew"})
ENDS = frozenset({"succeed", "resolve", "skip", "elapse"})
OVER = frozenset({states.SUCCEEDED, states.FAILED, states.SKIPPED})


class Map:
    """Who stands before whom in a plan, as it is written."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.shown = {
            name: not isinstance(step := plan.place(name).step, BranchesStep) or step.written for name in plan.ids
        }

    @cached_property
    def before(self) -> dict[str, str]:
        return {after: name for name in self._plan.ids if (after := self._plan.place(name).after) is not None}

    def previous(self, step: str) -> str | None:
        found = self.before.get(id_of(step))
        return named(found, numbers_of(step)) if found is not None else None


@dataclass
class JoinLaw:
    """See above. Also what a sequence means: a step begins when the one before it has ended."""

    plan: Plan
    map: Map
    states: dict[tuple[str | None, Phase | None], str]  # as the history tells them

    def begins(self, step: str) -> bool:
        """What follows a join, or another step, may begin. Returns whether it follows a join."""
        before = self.map.previous(step)
        assert before is None or self.is_over(before), f"JOIN LAW: {step} begins before {before} has ended"
        around = self.plan.around(step)
        if before is None and around is not None:
            if self.map.shown[id_of(around)]:
                assert self.states.get((around, "do")) == states.RUNNING, f"JOIN LAW: {step} begins in a closed block"
            else:
                self.begins(around)
        return before is not None and isinstance(self.plan.place(before).step, BranchesStep)

    def is_over(self, step: str) -> bool:
        found, state = self.plan.place(step).step, self.states.get((step, "do"))
        if state == states.SKIPPED or (state == states.FAILED and getattr(found, "on_error", "fail") == "continue"):
            return True
        if not isinstance(found, BranchesStep):
            return state == states.SUCCEEDED
        return (not found.written or state == states.SUCCEEDED) and self._are_over(found, step)

    def _are_over(self, found: BranchesStep, step: str) -> bool:
        return all(self.is_over(named(branch.steps[-1].id, numbers_of(step))) for branch in found.branches)


@dataclass
class ReverseOrderLaw:
    """See above."""

    ended: dict[str, int] = field(default_factory=dict)  # the number of the entry with which a step ended
    undone: list[tuple[int, str]] = field(default_factory=list)  # in the order of this life's undoing

    def undoes(self, step: str) -> None:
        self.undone.append((self.ended[step], step))
        assert self.undone == sorted(self.undone, reverse=True), f"REVERSE-ORDER LAW: {self.undone}"


@dataclass
class Laws:
    plan: Plan
    states: dict[tuple[str | None, Phase | None], str] = field(default_factory=dict)
    seen: int = 0
    life: int = 1
    is_falling: bool = False
    is_ending: bool = False  # an `end` was reached: nothing begins any more, and nothing is undone
    is_suspended: bool = False
    counts: Counter[tuple[int, str | None, Phase | None, str]] = field(default_factory=Counter)
    decisions: dict[tuple[str, Phase, int], str] = field(default_factory=dict)
    edges: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # (source, verb, kind) that were taken
    joins: Counter[str] = field(default_factory=Counter)  # by which kind of transition the last branch was ended

    def __post_init__(self) -> None:
        self.map = Map(self.plan)
        self.join = JoinLaw(self.plan, self.map, self.states)
        self.reverse = ReverseOrderLaw()

    def read(self, world: World, before: Header, entries: list[Entry], origin: str) -> None:
        was_suspended = before.suspended_at is not None
        if states.is_terminal(before.status) and not entries:
            assert world.header == before, "what has ended never changes"
        for entry in entries:
            self.seen += 1
            assert entry.seq == self.seen, "history is numbered without a gap"
            if entry.step is None:
                self._read_instance(entry, before)
            else:
                assert not (entry.verb == "claim" and was_suspended), "nothing is claimed on a suspended instance"
                self._read_step(entry, origin)
        assert world.header.history_seq == self.seen
        if world.header.status != before.status:
            self.edges[before.status, world.header.status, "shown"] += 1

    def _read_instance(self, entry: Entry, before: Header) -> None:
        assert entry.status == states.INSTANCE[entry.verb].target
        self.edges[before.status, entry.verb, "instance"] += 1
        if entry.verb == "restart":
            self.life, self.is_falling = self.life + 1, False
            self.reverse.undone = []
            assert not self.is_ending, "what has completed is over"
        elif entry.verb == "fall":
            assert not self.is_falling, "an instance falls once a life"
            self.is_falling = True
        elif entry.verb == "complete" and not self.is_ending:
            last = self.plan.definition.steps[-1].id
            assert self.join.is_over(last), f"JOIN LAW: it completes before {last} has ended"
        else:
            assert entry.verb in ("start", "suspend", "proceed", "drop") or entry.status in states.TERMINAL

    def _read_step(self, entry: Entry, origin: str) -> None:
        step, phase = entry.step, entry.phase
        assert step is not None
        source = self.states.get((step, phase), "")
        assert states.target(entry.verb, source) == entry.status
        self.edges[source, entry.verb, "step"] += 1
        if entry.verb in ("claim", "look"):
            assert self._may_claim(entry), "a falling instance is only undone"
        if phase == "do" and (entry.verb in BEGINS or entry.verb == "reopen" or (entry.verb == "open" and not source)):
            assert not self.is_falling, "a falling instance begins nothing"
            assert not self.is_ending, "neither does one that has reached an `end`"
            if self.join.begins(step):
                self.joins[origin] += 1
        self._count(entry)
        self.states[step, phase] = entry.status
        found = self.plan.place(step).step
        self.is_ending |= isinstance(found, EndStep) and found.kind == "end" and entry.verb == "succeed"
        if phase == "do" and entry.status in OVER:
            self.reverse.ended[step] = entry.seq

    def _may_claim(self, entry: Entry) -> bool:
        """A lost leg may have started a child: it is looked for even when the instance falls."""
        looks_for_child = isinstance(self.plan.place(entry.step or "").step, WorkflowStep) and (entry.attempt or 0) > 1
        return (entry.phase == "undo") == self.is_falling or looks_for_child

    def _count(self, entry: Entry) -> None:
        """Each step begins, ends well and is undone once a life: so is each join passed."""
        group = "begin" if entry.verb in BEGINS else "end" if entry.verb in ENDS else None
        if entry.phase == "undo":
            if group == "begin" and not self.counts[self.life, entry.step, "undo", "begin"]:
                assert entry.step is not None
                self.reverse.undoes(entry.step)
                self.counts[self.life, entry.step, "undo", "begin"] += 1
            group = "end" if group == "end" else None
        if group or entry.verb == "compensate":
            key = self.life, entry.step, entry.phase, group or entry.verb
            self.counts[key] += 1
            assert self.counts[key] == 1, f"JOIN LAW: {entry.verb} of {entry.step} twice in one life"

    def compare(self, world: World) -> None:
        """The history, replayed, gives the rows."""
        rows = {(row.step, row.phase): row.state for row in world.rows.values() if self.map.shown[id_of(row.step)]}
        assert rows == self.states, "the history, replayed, gives the rows"
        assert sum(row.state in states.ACTIVE for row in world.rows.values() if row.phase == "undo") <= 1

    def _is_forgotten(self, row: Row) -> bool:
        """Failed, although it may have been done and only a person can tell. One that was ordered again, and cannot be
        expressed then, has failed by itself; one that is skipped when its time is up is so by its author's will."""
        step = self.plan.place(row.step).step
        is_told = row.phase == "do" and isinstance(step, ServiceStep) and step.pause
        is_failed = row.state == states.FAILED and row.reason != "expression"
        return is_failed and row.uncertain and not is_told and self.plan.lane(row.service).idempotency == "none"

    def check_rows(self, world: World) -> None:
        for row in world.rows.values():
            assert not self._is_forgotten(row), f"DOUBT LAW: {row.step} is {row.state}, and may have been done"
            if row.items and not row.is_leased and row.state == states.RUNNING:
                loop = self.plan.place(row.step).step
                if isinstance(loop, ForEachStep):
                    under_way = row.begun - (row.items - row.branches_left)
                    assert under_way <= loop.concurrency, "no more iterations than allowed"
            if row.decision is not None:
                won = self.decisions.setdefault((row.step, row.phase, row.generation), row.decision)
                assert won == row.decision, "a decision has one winner"
