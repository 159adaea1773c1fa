"""Random flights, flown at random on a clock of our own: what must hold after every step of any of them.

`HYPOTHESIS_PROFILE=thorough` flies many more.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import (
    approvals,
    attempts,
    calls,
    compensation,
    conclusions,
    control,
    escalation,
    flow,
    kinship,
    operators,
    states,
)
from orchestrator.approvals import Answer
from orchestrator.attempts import Attempt
from orchestrator.calls import Result
from orchestrator.clock import later
from orchestrator.definition import (
    Block,
    BranchesStep,
    Case,
    Compensation,
    Decision,
    Definition,
    EndStep,
    Escalation,
    ForEachStep,
    RepeatStep,
    Retry,
    ServiceStep,
    Step,
    SwitchStep,
    TimeoutAction,
    WaitStep,
    WorkflowStep,
    walk,
)
from orchestrator.errors import Conflict
from orchestrator.instance import Instance
from orchestrator.iterations import id_of, named, numbers_of
from orchestrator.lane import Reply
from orchestrator.operators import Verdict
from orchestrator.plan import Plan
from orchestrator.rows import Entry, Row
from orchestrator.states import Phase
from tests.unit.flying import DONE, LANES, TRUE, Flight, block, operation, plan_of, reply, tower

T = TypeVar("T")

FLIGHTS = 3000 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 150
MOVES = 60

# -- random definitions

KINDS = ("key", "query", "safe", "none", "forgetful")
ACTIONS = (
    TimeoutAction(), TimeoutAction(kind="skip"), TimeoutAction(kind="retry"), TimeoutAction(kind="escalate"),
    TimeoutAction(kind="decide", decision="approved"), TimeoutAction(kind="decide", decision="rejected"),
)  # fmt: skip


@st.composite
def services(draw: st.DrawFn, name: str) -> ServiceStep:
    pause = draw(st.sampled_from((False, False, False, True)))
    call = draw(st.sampled_from((*KINDS, *((None,) if pause else ()))))
    undo = draw(st.sampled_from((None, *KINDS[:2], *KINDS)))
    action = draw(st.sampled_from(ACTIONS))
    timeout = draw(st.sampled_from((None, 50.0))) if action.kind == "fail" else 50.0
    backup = Escalation(to=operation(f"{draw(st.sampled_from(KINDS))}.backup"), timeout=draw(st.sampled_from((None, 50.0))),
                        on_timeout=draw(st.sampled_from(ACTIONS[:3])))  # fmt: skip
    return ServiceStep(
        id=name, when=draw(st.sampled_from((None, None, TRUE))), operation=operation(f"{call}.{name}") if call else None,
        compensation=Compensation(operation=operation(f"{undo}.{name}")) if undo else None,
        retry=Retry(max=draw(st.integers(0, 2))), timeout=timeout, on_timeout=action,
        escalation=backup if action.kind == "escalate" else None, pause=pause,
        on_reject=draw(st.sampled_from(("fail", "continue"))), on_error=draw(st.sampled_from(("fail", "fail", "continue"))),
    )  # fmt: skip


@st.composite
def leaves(draw: st.DrawFn, name: str) -> Step:
    """A step with nothing inside it; most call a service."""
    kind = draw(st.sampled_from((*["service"] * 12, "wait", "wait", "workflow", "workflow", "end", "fail")))
    when = draw(st.sampled_from((None, TRUE)))
    if kind == "wait":
        return WaitStep(id=name, seconds=100.0, when=when)
    if kind == "workflow":
        return WorkflowStep(id=name, workflow="child", when=when, on_error=draw(st.sampled_from(("fail", "continue"))))
    if kind in ("end", "fail"):
        return EndStep(id=name, kind="end" if kind == "end" else "fail", reason="enough", when=TRUE)
    return draw(services(name))


@st.composite
def blocks(draw: st.DrawFn, name: str, depth: int) -> Step:
    kind = draw(st.sampled_from(("branches", "branches", "switch", "forEach", "repeat")))
    when = draw(st.sampled_from((None, TRUE)))
    if kind == "forEach":
        return ForEachStep(id=name, items=TRUE, concurrency=draw(st.integers(1, 3)), when=when,
                           steps=draw(sequences(f"{name}i", depth - 1)))  # fmt: skip
    if kind == "repeat":
        return RepeatStep(id=name, until=TRUE, max=draw(st.integers(1, 3)), when=when,
                          on_error=draw(st.sampled_from(("fail", "continue"))),
                          steps=draw(sequences(f"{name}r", depth - 1)))  # fmt: skip
    inside = [draw(sequences(f"{name}{branch}", depth - 1)) for branch in range(draw(st.integers(2, 3)))]
    if kind == "switch":
        return SwitchStep(id=name, cases=tuple(Case(steps=steps, when=TRUE) for steps in inside), when=when)
    written = draw(st.booleans())
    return block(name, *inside, written=written, when=when if written else None)


@st.composite
def sequences(draw: st.DrawFn, prefix: str, depth: int) -> tuple[Step, ...]:
    steps: list[Step] = []
    for at in range(draw(st.integers(1, 3 if depth else 2))):
        name = f"{prefix}{'abc'[at]}"
        if depth and draw(st.booleans()):
            steps.append(draw(blocks(name, depth)))
        else:
            steps.append(draw(leaves(name)))
    return tuple(steps)


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    return Definition(id="flight", steps=draw(sequences("", 2)), deadline=draw(st.sampled_from((None, 500.0))),
                      compensate_on=draw(st.sampled_from(("completed", "completed", "attempted"))))  # fmt: skip


# -- the laws


@dataclass
class Laws:
    """Reads the history as it grows, and knows what no history may say."""

    plan: Plan
    seen: int = 0
    life: int = 1
    is_falling: bool = False
    is_ending: bool = False  # an `end` was reached: nothing begins any more, and nothing is undone
    state: dict[tuple[str | None, Phase | None], str] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)  # number of the entry with which a step ended
    undone: list[int] = field(default_factory=list)  # those numbers, in the order of this life's undoing
    counts: Counter[tuple[int, str | None, Phase | None, str]] = field(default_factory=Counter)
    decisions: dict[tuple[str, Phase, int], str] = field(default_factory=dict)

    def check(self, flight: Flight, *, was_suspended: bool) -> None:
        for entry in flight.history[self.seen :]:
            self.seen += 1
            assert entry.seq == self.seen, "history is numbered without a gap"
            if entry.step is None:
                self._read_instance(entry)
            else:
                assert not (entry.verb == "claim" and was_suspended), "nothing is claimed on a suspended instance"
                self._read_step(entry)
        assert flight.header.history_seq == self.seen
        self._compare(flight)
        self._is_alive(flight)

    def _read_instance(self, entry: Entry) -> None:
        assert entry.status == states.INSTANCE[entry.verb].target
        if entry.verb == "restart":
            self.life, self.is_falling, self.undone = self.life + 1, False, []
            assert not self.is_ending, "what has completed is over"
        elif entry.verb == "fall":
            assert not self.is_falling, "an instance falls once a life"
            self.is_falling = True

    def _read_step(self, entry: Entry) -> None:
        assert entry.step is not None
        key = entry.step, entry.phase
        assert states.target(entry.verb, self.state.get(key, "")) == entry.status
        if entry.verb == "claim":
            assert self._may_claim(entry), "a falling instance is only undone"
        if (entry.phase == "do" and entry.verb in ("ready", "renew", "reopen")) or self._is_opened_at_once(entry):
            self._may_begin(entry.step)
        self._count(entry)
        self.state[key] = entry.status
        step = self.plan.place(entry.step).step
        self.is_ending |= isinstance(step, EndStep) and step.kind == "end" and entry.verb == "succeed"
        if entry.phase == "do" and entry.status in (states.SUCCEEDED, states.FAILED, states.SKIPPED):
            self.ended[entry.step] = entry.seq

    def _may_claim(self, entry: Entry) -> bool:
        """A lost leg may have started a child: it is looked for even when the instance falls."""
        looks_for_child = isinstance(self.plan.place(entry.step or "").step, WorkflowStep) and (entry.attempt or 0) > 1
        return (entry.phase == "undo") == self.is_falling or looks_for_child

    def _is_opened_at_once(self, entry: Entry) -> bool:
        return entry.verb == "open" and self.state.get((entry.step, "do")) is None

    def _count(self, entry: Entry) -> None:
        """Each step begins, ends well and is undone once a life: so is each join passed."""
        group = {"ready": "begin", "renew": "begin", "succeed": "end", "resolve": "end", "skip": "end",
                 "elapse": "end"}.get(entry.verb)  # fmt: skip
        if entry.phase == "undo":
            if group == "begin" and not self.counts[self.life, entry.step, "undo", "begin"]:
                assert entry.step is not None
                self.undone.append(self.ended[entry.step])
                assert self.undone == sorted(self.undone, reverse=True), "undone in reverse order of completion"
                self.counts[self.life, entry.step, "undo", "begin"] += 1
            group = "end" if group == "end" else None
        if group or entry.verb == "compensate":
            self.counts[self.life, entry.step, entry.phase, group or entry.verb] += 1
            assert self.counts[self.life, entry.step, entry.phase, group or entry.verb] == 1, (entry, self.life)

    def _may_begin(self, step: str) -> None:
        assert not self.is_falling, "a falling instance begins nothing"
        assert not self.is_ending, "neither does one that has reached an `end`"
        before = self._before(step)
        assert before is None or self._is_over(before), f"{step} begins when {before} has ended"
        around = self.plan.around(step)
        if before is None and around is not None:
            if self._is_shown(around):
                assert self.state[around, "do"] == states.RUNNING, "what is inside a block begins when it is open"
            else:
                self._may_begin(around)

    def _before(self, step: str) -> str | None:
        found = next((name for name in self.plan.ids if self.plan.place(name).after == id_of(step)), None)
        return named(found, numbers_of(step)) if found is not None else None

    def _is_over(self, step: str) -> bool:
        found, state = self.plan.place(step).step, self.state.get((step, "do"))
        if state == states.SKIPPED or (state == states.FAILED and getattr(found, "on_error", "fail") == "continue"):
            return True
        if not isinstance(found, BranchesStep):
            return state == states.SUCCEEDED
        is_joined = not found.written or state == states.SUCCEEDED
        lasts = (named(branch.steps[-1].id, numbers_of(step)) for branch in found.branches)
        return is_joined and all(self._is_over(last) for last in lasts)

    def _compare(self, flight: Flight) -> None:
        rows = {(row.step, row.phase): row.state for row in flight.rows.values() if self._is_shown(row.step)}
        assert rows == self.state, "the history, replayed, gives the rows"
        assert sum(row.state in states.ACTIVE for row in flight.rows.values() if row.phase == "undo") <= 1
        for row in flight.rows.values():
            loop = self.plan.place(row.step).step
            if isinstance(loop, ForEachStep) and row.state == states.RUNNING and not row.is_leased:
                assert row.begun - (row.items - row.branches_left) <= loop.concurrency, (
                    "no more iterations than allowed"
                )
            if row.decision is not None:
                won = self.decisions.setdefault((row.step, row.phase, row.generation), row.decision)
                assert won == row.decision, "a decision has one winner"

    def _is_shown(self, step: str) -> bool:
        found = self.plan.place(step).step
        return not isinstance(found, BranchesStep) or found.written

    def _is_alive(self, flight: Flight) -> None:
        """Something can still happen by itself, or it is visible that a person has to act."""
        if states.is_terminal(flight.status) or flight.status in (states.STUCK, states.SUSPENDED):
            return
        phase = "undo" if self.is_falling else "do"
        found = (row for row in flight.rows.values() if not self.is_ending or row.attempt)
        assert any(row.is_leased or row.state == states.WAITING or (row.state in states.CLAIMABLE and row.phase == phase)
                   or (row.state in states.CLAIMABLE and isinstance(self.plan.place(row.step).step, WorkflowStep))
                   for row in found), (flight.status, flight.rows)  # fmt: skip


@dataclass
class Debts:
    """What services may have done, by step and generation: all of it that can be undone has to be."""

    owed: dict[str, set[int]] = field(default_factory=dict)
    doubted: set[str] = field(default_factory=set)  # keys on the lane that can neither be asked nor repeated

    def add(self, attempt: Attempt, *, uncertain: bool) -> None:
        if attempt.service is None:
            return
        lane = attempt.service.partition(".")[0]
        if attempt.phase == "do" and lane != "safe":
            self.owed.setdefault(attempt.step, set()).add(attempt.generation)
        if uncertain and lane == "none":
            self.doubted.add(attempt.key)

    def settle(self, step: str, generation: int) -> None:
        self.owed.get(step, set()).discard(generation)


# -- flying


@dataclass
class Pilot:
    flight: Flight
    laws: Laws
    debts: Debts = field(default_factory=Debts)
    attempts: list[Attempt] = field(default_factory=list)  # all that were ever made
    doomed: str | None = None  # a step that its service rejects in the first life, when it is asked well

    @classmethod
    def of(cls, definition: Definition, doomed: int = 0) -> Pilot:
        """`doomed`: which step from the end is rejected."""
        plan = plan_of(*definition.steps, deadline=definition.deadline, compensate_on=definition.compensate_on)
        flight = Flight(plan)
        pilot = cls(flight, Laws(plan), doomed=plan.ids[-1 - doomed % len(plan.ids)])
        pilot._do(flow.begin)
        return pilot

    def _do(self, verb: Callable[[Instance], T]) -> T:
        was_suspended = self.flight.header.suspended_at is not None
        header, rows = self.flight.header, self.flight.rows
        found = self.flight.apply(verb)
        if states.is_terminal(header.status) and self.flight.header.life == header.life:
            assert (self.flight.header, self.flight.rows) == (header, rows), "what has ended never changes"
        self.laws.check(self.flight, was_suspended=was_suspended)
        return found

    def _inspect(self) -> None:
        """At the end of a life: what was done is undone; or all is done that there was to do, what had been undone again."""
        ways = any(isinstance(step, SwitchStep | ForEachStep) for step in walk(self.flight.plan.definition.steps))
        if self.flight.status == states.COMPLETED and not self.laws.is_ending and not ways:
            assert states.COMPENSATED not in self.flight.states().values(), (
                "nothing stays undone in an instance that completes"
            )
        if self.flight.status == states.COMPLETED or not states.is_terminal(self.flight.status):
            return
        for row in self.flight.rows.values():
            step = self.flight.plan.place(row.step).step
            if row.phase == "do" and isinstance(step, WorkflowStep):
                assert row.state not in (states.SUCCEEDED, states.WAITING), f"the child of {row.step} was not undone"
            if row.phase == "do" and isinstance(step, ServiceStep) and step.compensation is not None:
                assert row.state != states.SUCCEEDED, f"{row.step} was done and not undone"
                assert row.state == states.COMPENSATED or not self.debts.owed.get(row.step), (
                    f"{row.step} may have been done"
                )

    # -- moves: each takes two small numbers, which choose among what is there

    def move(self, name: str, which: int, how: int) -> None:
        getattr(self, f"_move_{name}")(which, how)
        self._tidy()

    def _tidy(self) -> None:
        self._inspect()
        for step in [step for step in self.debts.owed if self.flight.state(step) == states.COMPENSATED]:
            del self.debts.owed[step]

    def _rows(self, *wanted: str) -> list[Row]:
        return [row for row in self.flight.rows.values() if row.state in wanted]

    def _move_claim(self, which: int, how: int) -> None:
        if rows := self._rows(*states.CLAIMABLE):
            self._claim(rows[which % len(rows)], alone=how % 2 == 0)

    def _claim(self, row: Row, *, alone: bool = True) -> None:
        attempt = self._do(lambda instance: attempts.claim(
            instance, row.step, row.phase, worker="w1", lease=30.0, limit=12.0, alone=alone))  # fmt: skip
        if attempt is not None:
            assert attempt.key not in self.debts.doubted, "the machine never repeats what it can neither ask nor repeat"
            self.attempts.append(attempt)

    def _move_claim_nonsense(self, which: int, how: int) -> None:
        """A message that fits nothing: it claims only what is there to be claimed."""
        name = self.flight.plan.ids[which % len(self.flight.plan.ids)]
        phase: Phase = "undo" if how % 2 else "do"
        if self.flight.state(name, phase) not in states.CLAIMABLE:
            before = self.flight.rows
            claim = attempts.claim
            assert self._do(lambda instance: claim(instance, name, phase, worker="w2", lease=30.0, limit=12.0)) is None
            assert self.flight.rows == before

    def _held(self) -> list[Attempt]:
        return [one for one in self.attempts if self._is_held(one)]

    def _is_held(self, attempt: Attempt) -> bool:
        row = self.flight.rows.get((attempt.step, attempt.phase))
        return row is not None and row.is_leased and row.attempt == attempt.attempt

    def _move_finish(self, which: int, how: int) -> None:
        if held := self._held():
            attempt = held[which % len(held)]
            self._land(attempt, self._result(attempt, how))

    def _move_finish_well(self, which: int, _: int) -> None:
        if held := self._held():
            attempt = held[which % len(held)]
            self._land(attempt, self._good(attempt))

    def _good(self, attempt: Attempt) -> Result:
        step = self.flight.plan.place(attempt.step).step
        if not isinstance(step, ServiceStep):
            return self._controlled(step, attempt)
        if step.id == self.doomed and attempt.service and attempt.phase == "do" and self.laws.life == 1:
            return reply("rejected", error="doomed")
        return DONE if attempt.service else calls.Waits()

    def _controlled(self, step: Step, attempt: Attempt, how: int = 0) -> Result:  # noqa: PLR0911  # one a kind
        """What a step that calls no service comes to. In a later life a `fail` is passed by."""
        match step:
            case EndStep(kind=kind):
                return calls.Skipped() if kind == "fail" and self.laws.life > 1 else control.Ends()
            case SwitchStep(cases=cases):
                return control.Chosen(case=how % (len(cases) + 1) if how % (len(cases) + 1) < len(cases) else None)
            case ForEachStep():
                return control.Listed(items=["item"] * (how + 2) if how < 4 else [])
            case RepeatStep():
                return control.Checked(is_done=how % 2 == 0) if attempt.begun else control.Opened()
            case WaitStep():
                return control.Sleeps(until=later(attempt.now, 100.0))
            case WorkflowStep():
                return control.AwaitsChild(id="child")
            case _:
                return control.Opened()

    def _result(self, attempt: Attempt, how: int) -> Result:
        step = self.flight.plan.place(attempt.step).step
        skips = [calls.Skipped()] if step.when and attempt.phase == "do" and not attempt.begun else []
        fails = [] if attempt.uncertain else [calls.Inexpressible(error="no such member")]  # it fails at once or never
        found: list[Result] = [self._good(attempt), *skips, *fails]
        if not isinstance(step, ServiceStep):
            found = [self._controlled(step, attempt, how // 3), *found] if attempt.phase == "do" else found[:1]
        if attempt.service:
            found += [reply("done", output={"later": 1}, later=True), reply("refused", retry_after=5.0), reply("not_sent"),
                      reply("uncertain"), reply("uncertain", may_retry=False), reply("rejected", error="no")]  # fmt: skip
            found += [calls.Overdue()] if attempt.budget_until else []
        return found[how % len(found)]

    def _land(self, attempt: Attempt, result: Result) -> None:
        outcome = getattr(result, "outcome", None)
        if outcome in ("done", "uncertain"):
            self.debts.add(attempt, uncertain=outcome == "uncertain")
        elif outcome == "rejected" and attempt.phase == "do" and not self._is_doubted(attempt):
            self.debts.settle(attempt.step, attempt.generation)
        assert self._do(lambda instance: self._conclude(instance, attempt, result))

    def _is_doubted(self, attempt: Attempt) -> bool:
        """A rejection tells nothing of an earlier attempt with the same key, unless that was asked about before."""
        return attempt.uncertain and LANES[(attempt.service or "").partition(".")[0]].idempotency in ("key", "none")

    def _conclude(self, instance: Instance, attempt: Attempt, result: Result) -> bool:
        conclusions.conclude(tower(), instance, attempt, result)
        return bool(instance.entries)

    def _move_finish_stale(self, which: int, how: int) -> None:
        """What comes back after it was taken over, or decided, changes nothing."""
        stale = [one for one in self.attempts if not self._is_held(one) and not self._is_unsettled(one)]
        stale = [one for one in stale if self.flight.row(one.step, one.phase).is_leased] or stale
        if stale:
            attempt, before = stale[which % len(stale)], (self.flight.header, self.flight.rows)
            assert not self._do(lambda instance: self._conclude(instance, attempt, self._result(attempt, how)))
            assert (self.flight.header, self.flight.rows) == before

    def _is_unsettled(self, attempt: Attempt) -> bool:
        """Lost, nobody knows what it did, and nobody has tried again."""
        row = self.flight.row(attempt.step, attempt.phase)
        return row.state == states.UNKNOWN and row.attempt == attempt.attempt

    def _move_finish_late(self, which: int, how: int) -> None:
        """The latest attempt of a step that is UNKNOWN comes back after all: what it tells for certain settles it."""
        if late := [one for one in self.attempts if self._is_unsettled(one)]:
            attempt, before = late[which % len(late)], (self.flight.header, self.flight.rows)
            result = self._result(attempt, how)
            tells = isinstance(result, Reply) and (
                result.outcome == "done" or (result.outcome == "rejected" and not attempt.uncertain)
            )
            if isinstance(result, Reply) and tells:
                self._note_late(attempt, result)
            assert self._do(lambda instance: self._conclude(instance, attempt, result)) == tells
            assert tells or (self.flight.header, self.flight.rows) == before

    def _note_late(self, attempt: Attempt, answer: Reply) -> None:
        if answer.outcome == "done":
            self.debts.add(attempt, uncertain=answer.later)
        elif attempt.phase == "do" and not self._is_doubted(attempt):
            self.debts.settle(attempt.step, attempt.generation)

    def _move_release(self, which: int, _: int) -> None:
        if held := self._held():
            attempt = held[which % len(held)]
            self._do(lambda instance: attempts.release(instance, self._present(instance, attempt.step, attempt.phase)))

    def _present(self, instance: Instance, step: str, phase: Phase) -> Row:
        row = instance.row(step, phase)
        assert row is not None
        return row

    def _move_lose(self, which: int, how: int) -> None:
        """A worker dies; its lease runs out. `how` many losses quarantine."""
        if held := self._held():
            attempt = held[which % len(held)]
            self.flight.wait(31.0)
            self.debts.add(attempt, uncertain=True)
            self._do(lambda instance: attempts.lose(
                instance, self._present(instance, attempt.step, attempt.phase), losses=1 + how % 3))  # fmt: skip

    def _move_callback(self, which: int, how: int) -> None:
        rows = [row for row in self.flight.rows.values() if isinstance(self._step(row), ServiceStep)]
        if not rows:
            return
        row = rows[which % len(rows)]
        generation = (None, row.generation, row.generation, max(1, row.generation - 1))[how % 4]
        self._answer(row, "rejected" if how & 4 else "approved", generation)

    def _answer(self, row: Row, decision: Decision, generation: int | None = None) -> None:
        given = Answer(decision=decision, result={"by": "hand"}, by="clerk")
        before = self.flight.header, self.flight.rows

        def verb(instance: Instance) -> str:
            ruling = approvals.rule(row, instance.header.status, given, generation)
            if ruling.kind == "made":
                approvals.decide(instance, self._present(instance, row.step, row.phase), given)
            return ruling.kind

        kind = self._do(verb)
        if kind != "made":
            assert (self.flight.header, self.flight.rows) == before, "who loses changes nothing"
        elif row.phase == "do" and row.service:
            self._note_decision(row, decision)

    def _note_decision(self, row: Row, decision: Decision) -> None:
        if decision == "rejected":
            self.debts.settle(row.step, row.generation)
        elif not row.service or not row.service.startswith("safe."):
            self.debts.owed.setdefault(row.step, set()).add(row.generation)

    def _step(self, row: Row) -> Step:
        return self.flight.plan.place(row.step).step

    def _move_child(self, which: int, how: int) -> None:
        """A child ends, perhaps before its parent has parked, and perhaps it has been told before."""
        rows = [row for row in self.flight.rows.values() if isinstance(self._step(row), WorkflowStep) and row.attempt]
        if rows:
            row = rows[which % len(rows)]
            self._end_child(row, states.COMPLETED if how % 3 else states.COMPENSATED)

    def _end_child(self, row: Row, status: str) -> None:
        generation = self.flight.row(row.step).generation
        output = {"instanceId": "child", "status": status}
        end = kinship.End(step=row.step, generation=generation, status=status, output=output, error="no")
        self._do(lambda instance: kinship.learn(instance, end))

    def _move_time(self, which: int, _: int) -> None:
        self.flight.wait((0.5, 5.0, 40.0, 70.0)[which % 4])

    def _move_deadline(self, which: int, _: int) -> None:
        """The sweep finds a wait that is due."""
        if rows := [row for row in self._rows(states.WAITING) if row.due_at]:
            row = rows[which % len(rows)]
            self.flight.now = max(self.flight.now, row.due_at or self.flight.now)
            self._do(lambda instance: escalation.time_out(instance, self._present(instance, row.step, row.phase)))

    def _move_fall(self, *_: int) -> None:
        """The deadline of the whole instance."""
        if self.flight.plan.definition.deadline and not states.is_terminal(self.flight.status):
            self._do(lambda instance: compensation.fall(instance, compensation.DEADLINE, "deadline"))

    def _move_cancel(self, which: int, _: int) -> None:
        if which % 4 == 0:  # now and then: most flights should get further
            self._order(operators.cancel)

    def _move_suspend(self, *_: int) -> None:
        self._order(operators.suspend)

    def _move_resume(self, *_: int) -> None:
        self._order(operators.resume)

    def _move_retry(self, *_: int) -> None:
        self._order(operators.retry)
        self.debts.doubted.clear()  # a person has ordered it

    def _move_resolve(self, which: int, how: int) -> None:
        if rows := self._rows(states.UNKNOWN):
            verdicts: tuple[Verdict, ...] = ("succeeded", "failed", "retry")
            self._resolve(rows[which % len(rows)], verdicts[how % 3])

    def _resolve(self, row: Row, verdict: Verdict) -> None:
        landed = self._order(lambda instance: operators.resolve(instance, row.step, verdict, by="clerk"))
        if landed and verdict == "retry":
            self.debts.doubted.clear()
        elif landed and row.phase == "do":
            self._note_decision(row, "approved" if verdict == "succeeded" else "rejected")

    def _order(self, verb: Callable[[Instance], None]) -> bool:
        """An order that does not fit is refused, and then nothing has changed (`apply` keeps nothing)."""
        try:
            self._do(verb)
        except Conflict as conflict:
            return not conflict.present
        return True

    # -- home

    def bring_home(self) -> None:
        """Every service answers and every person acts: so the instance ends."""
        for _ in range(600):
            if states.is_terminal(self.flight.status):
                return
            self._help()
        raise AssertionError(f"it never ends: {self.flight.status} {self.flight.states()} {self.flight.states('undo')}")

    def _help(self) -> None:
        if self.flight.header.suspended_at:
            self.move("resume", 0, 0)
        elif self._held():
            self.move("finish_well", 0, 0)
        elif rows := self._rows(*states.CLAIMABLE):
            row = rows[0]
            self.flight.now = max(self.flight.now, row.due_at or self.flight.now)
            self._claim(row)
        elif rows := self._rows(states.WAITING):
            self._end_wait(rows[0])
        elif rows := self._rows(states.UNKNOWN):
            self.flight.wait(60.0)
            needs_retry = isinstance(self._step(rows[0]), Block | EndStep) and not (
                self.laws.is_falling or self.laws.is_ending
            )
            is_child = isinstance(self._step(rows[0]), WorkflowStep) and rows[0].phase == "do"
            self._resolve(rows[0], "retry" if needs_retry or is_child else "succeeded")
        else:
            self.move("retry", 0, 0)
        self._tidy()

    def _end_wait(self, row: Row) -> None:
        step = self._step(row)
        if isinstance(step, WaitStep):
            self._move_deadline(0, 0)
        elif isinstance(step, WorkflowStep):
            self._end_child(row, states.CANCELLED if self.laws.is_falling or self.laws.is_ending else states.COMPLETED)
        else:
            self._answer(row, "approved", row.generation)


MOVE = st.tuples(
    st.sampled_from((
        *["claim"] * 6, *["finish_well"] * 5, *["finish"] * 3, "finish_stale", "finish_stale", "finish_late", "lose", "lose",
        "callback", "callback", "child", "child", "deadline", "time",
        "resolve", "release", "claim_nonsense", "suspend", "resume", "retry", "fall", "cancel",
    )), st.integers(0, 11), st.integers(0, 23),
)  # fmt: skip


@settings(max_examples=FLIGHTS, deadline=None, suppress_health_check=list(HealthCheck))
@given(definitions(), st.lists(MOVE, min_size=MOVES // 2, max_size=MOVES), st.integers(0, 30))
def test_whatever_happens_to_a_flight_the_promises_hold_and_it_can_be_brought_to_an_end(
    definition: Definition, moves: list[tuple[str, int, int]], doomed: int
) -> None:
    pilot = Pilot.of(definition, doomed)
    for name, which, how in moves:
        pilot.move(name, which, how)
    pilot.bring_home()
    if pilot.flight.status in (states.FAILED, states.COMPENSATED):
        pilot.move("retry", 0, 0)
        pilot.bring_home()
        assert pilot.flight.status == states.COMPLETED, "in another life, in which all answer, it completes"
