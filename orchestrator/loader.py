"""Text → definition. All that is wrong with a text is reported at once, with its place and a mend.

What an expression may name: a step that has completed by then for certain: one earlier in its own
sequence, one before a block that encloses it, and all inside earlier blocks; not the other branches
of its own block. A step that may be skipped (it, or a block around it, has `when`; or it is skipped
at its timeout) may be named only in an expression that also asks `has(steps.<id>…)`. Inside a block
the block's own `when` is certain to have been true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from orchestrator import expression
from orchestrator.definition import (
    Branch,
    BranchesStep,
    Compensation,
    Definition,
    Escalation,
    Expression,
    Operation,
    Retry,
    ServiceStep,
    Step,
    Template,
    TimeoutAction,
)
from orchestrator.errors import Invalid, Problem
from orchestrator.lane import Lane
from orchestrator.language import input_schema, shape
from orchestrator.language.schema import WrittenCompensation, WrittenDefinition, WrittenRetry, WrittenStep
from orchestrator.language.sequences import neighbours, together, written_ids
from orchestrator.language.text import LIMIT, Composed, Path, compose

MAX_NESTING = 8  # branches within branches
SERVICE_KEYS = frozenset(
    {"service", "input", "compensate", "retry", "timeout", "onTimeout", "escalate", "pause", "onReject"}
)
NO_ID = "unnamed"  # of a step whose id cannot be read: it is reported, and the rest is checked

Known: TypeAlias = dict[str, bool]  # step id → may it have been skipped?


def load(
    text: str,
    *,
    file: str | None = None,
    lanes: Mapping[str, Lane] | None = None,
    limit: int = LIMIT,
    strict: bool = True,
) -> Definition:
    """Read a definition. Raises Invalid with every problem of the text; `limit` is in bytes.

    `lanes` says what a bare `service: lane` calls, and who a step is escalated to. A worker that reads
    a stored version again passes `strict=False`: a lane that has been removed since is then no error,
    unless an escalation has no target without it. Without `lanes` no lane is checked.
    """
    composed = compose(text, file=file, limit=limit)
    reading = _Reading(composed=composed, lanes=lanes or {}, strict=strict and lanes is not None)
    definition = reading.definition()
    if definition is None or reading.problems:
        unique = dict.fromkeys(reading.problems)
        raise Invalid(sorted(unique, key=lambda problem: (problem.line or 0, problem.column or 0)))
    return definition


def read_document(text: str, file: str | None = None) -> Composed:
    """YAML or JSON as data with positions, whatever it describes. Raises Invalid."""
    return compose(text, file=file)


@dataclass(kw_only=True)
class _Reading:
    """One text being read: what is known of it, and the problems found so far."""

    composed: Composed
    lanes: Mapping[str, Lane]
    strict: bool
    problems: list[Problem] = field(default_factory=list)
    ids: dict[str, Path] = field(default_factory=dict)  # every step's, wherever it stands
    compensate_on: str = "completed"

    def report(self, path: Path, message: str, hint: str | None = None, *, at_key: bool = False) -> None:
        self.problems.append(self.composed.problem(path, message, hint, at_key=at_key))

    def definition(self) -> Definition | None:
        data = self.composed.data
        head = {**data, "steps": []} if isinstance(data, dict) and isinstance(data.get("steps"), list) else data
        written, problems = shape.read(WrittenDefinition, head, (), self.composed, {"id": "unnamed", "steps": []})
        self.problems += problems
        if written is None:
            return None
        self.compensate_on = written.compensate_on
        self._input_schema(written)
        items = data.get("steps")
        self._collect_ids(items if isinstance(items, list) else [], ("steps",))
        steps = self._sequence(items, ("steps",), {}, 0)[0] if isinstance(items, list) else ()
        return Definition(
            id=written.id,
            steps=steps,
            title=written.title,
            input=written.input,
            deadline=written.deadline,
            business_key=self._expression(written.business_key, ("businessKey",), {}),
            compensate_on=written.compensate_on,
        )

    def _input_schema(self, written: WrittenDefinition) -> None:
        for path, message in input_schema.problems(written.input or {}):
            self.report(("input", *path), f"`input` is not a valid JSON Schema: {message}")

    def _collect_ids(self, items: list[Any], path: Path) -> None:
        for step_id, at in written_ids(items, path):
            if step_id in self.ids:
                line, _ = self.composed.where(self.ids[step_id])
                self.report(
                    at,
                    f"duplicate step id `{step_id}`",
                    f"the first one stands on line {line}; ids are unique in the whole workflow, branches included",
                )
            self.ids.setdefault(step_id, at)

    # --- sequences and blocks ---------------------------------------------------------------------

    def _sequence(self, items: list[Any], path: Path, known: Known, depth: int) -> tuple[tuple[Step, ...], Known]:
        """The steps, and the ids that are known once they have ended."""
        if not items:
            self.report(path, "there is no step here", "write at least one, with an id and a service", at_key=True)
        steps: list[Step] = []
        completed: Known = {}
        for group in neighbours(items):
            before = known | completed
            read = [self._step(items[at], (*path, at), before, depth) for at in group]
            steps += together([step for step, _ in read if step is not None])
            for _, done in read:
                completed |= done
        return tuple(steps), completed

    def _step(self, data: Any, path: Path, known: Known, depth: int) -> tuple[Step | None, Known]:
        blocks = data.get("branches") if isinstance(data, dict) else None
        shell = {**data, "branches": _emptied(blocks)} if isinstance(blocks, dict) else data
        written, problems = shape.read(WrittenStep, shell, path, self.composed, {"id": NO_ID})
        self.problems += problems
        if written is None:
            return None, {}
        if "branches" in data:
            return self._branches(written, data, path, known, depth)
        step = self._service(written, data, path, known)
        return step, {step.id: _may_be_skipped(step)} if step.id in self.ids else {}

    def _branches(
        self, written: WrittenStep, data: dict[str, Any], path: Path, known: Known, depth: int
    ) -> tuple[Step, Known]:
        for key in SERVICE_KEYS & set(data):
            self.report((*path, key), f"`{key}` does not go with `branches`", "put it on a step inside", at_key=True)
        when = self._when(written, path, known)
        branches: list[Branch] = []
        completed: Known = {}
        for name, items in self._branch_items(data["branches"], (*path, "branches"), depth):
            steps, done = self._sequence(items, (*path, "branches", name), known, depth + 1)
            branches.append(Branch(name=name, steps=steps))
            completed |= done
        if when is not None:
            completed = dict.fromkeys(completed, True)  # after the block; inside it, `when` was true
        return BranchesStep(id=written.id, branches=tuple(branches), title=written.title, when=when), completed

    def _branch_items(self, blocks: Any, path: Path, depth: int) -> list[tuple[str, list[Any]]]:
        if not isinstance(blocks, dict):
            return []  # its shape has been reported
        if depth >= MAX_NESTING:
            self.report(path, f"branches are nested deeper than {MAX_NESTING} levels", "flatten them", at_key=True)
            return []
        if not blocks:
            self.report(path, "there is no branch here", "write each as `name: [steps]`", at_key=True)
        return [(name, items) for name, items in blocks.items() if isinstance(items, list)]

    # --- one service step -------------------------------------------------------------------------

    def _service(self, written: WrittenStep, data: dict[str, Any], path: Path, known: Known) -> ServiceStep:
        self._check_keys(data, path)
        operation = self._operation(written.service, written.id, (*path, "service")) if written.service else None
        retry = _retry(written.retry)
        on_timeout = written.on_timeout or TimeoutAction()
        self._check_decide(on_timeout, written, (*path, "onTimeout"))
        return ServiceStep(
            id=written.id,
            title=written.title,
            when=self._when(written, path, known),
            operation=operation,
            input=self._template(written.input, "input" in data, (*path, "input"), known),
            compensation=self._compensation(written, path, known),
            retry=retry,
            timeout=written.timeout,
            on_timeout=on_timeout,
            escalation=self._escalation(written, operation, path),
            pause=written.pause,
            on_reject=written.on_reject or "fail",
        )

    def _check_keys(self, data: dict[str, Any], path: Path) -> None:
        """What one key asks of the others. It looks at what was written: a key with a problem is there, too."""
        if not set(data) & {"service", "branches"} and data.get("pause") is not True and not self._has_unread(data):
            self.report(
                path, "a step needs `service`, `pause: true` or `branches`", "say which lane.operation it calls"
            )
        if "service" not in data and data.get("pause") is True:
            for key in sorted(set(data) & {"input", "compensate", "retry"}):
                self.report((*path, key), f"`{key}` needs a `service`", "this step calls none", at_key=True)
        if "onReject" in data and data.get("pause") is not True:
            self.report((*path, "onReject"), "`onReject` needs `pause: true`", at_key=True)
        if "onTimeout" in data and "timeout" not in data:
            self.report(
                (*path, "onTimeout"), "`onTimeout` needs a `timeout`", "add one, as in timeout: 48h", at_key=True
            )
        if "escalate" in data and data.get("onTimeout") != "escalate":
            self.report((*path, "escalate"), "`escalate` has no effect here", "add onTimeout: escalate", at_key=True)

    def _has_unread(self, data: dict[str, Any]) -> bool:
        """Is a key reported already that may be what this step does (`switch`, `servce`)?"""
        return bool(set(data) - {"id", *(field.alias for field in WrittenStep.model_fields.values())})

    def _check_decide(self, action: TimeoutAction, written: WrittenStep, path: Path) -> None:
        if action.kind == "decide" and not written.pause:
            self.report(path, "`decide` answers for a person: it needs `pause: true`", "or write fail, skip or retry")

    def _compensation(self, written: WrittenStep, path: Path, known: Known) -> Compensation | None:
        undo: WrittenCompensation | None = written.compensate
        if undo is None:
            return None
        path = (*path, "compensate")
        data = self.composed.data_at(path)
        # its own step: undone as attempted, it may have left no result
        known = {**known, written.id: self.compensate_on == "attempted"}
        given = isinstance(data, dict) and "input" in data
        return Compensation(
            operation=self._operation(undo.service, written.id, (*path, "service")),
            input=self._template(undo.input, given, (*path, "input"), known),
            retry=_retry(undo.retry) if undo.retry else None,
            timeout=undo.timeout,
        )

    def _escalation(self, written: WrittenStep, operation: Operation | None, path: Path) -> Escalation | None:
        if written.on_timeout is None or written.on_timeout.kind != "escalate":
            return None
        at, escalate = (*path, "escalate"), written.escalate
        action = (escalate.on_timeout if escalate else None) or TimeoutAction()
        self._check_decide(action, written, (*at, "onTimeout"))
        if action.kind == "escalate":
            self.report((*at, "onTimeout"), "an escalation is not escalated again", "write fail, skip or retry")
        if escalate and escalate.on_timeout and "timeout" not in self.composed.data_at(at):
            self.report((*at, "onTimeout"), "`onTimeout` needs a `timeout`", "add one beside it", at_key=True)
        target = self._target(written, operation, path)
        return (
            Escalation(to=target, timeout=escalate.timeout if escalate else None, on_timeout=action) if target else None
        )

    def _target(self, written: WrittenStep, operation: Operation | None, path: Path) -> Operation | None:
        if written.escalate and written.escalate.to:
            return self._operation(written.escalate.to, written.id, (*path, "escalate", "to"))
        lane = self.lanes.get(operation.lane) if operation else None
        if lane and lane.backup:
            return self._operation(lane.backup, written.id, (*path, "service"))
        if "to" not in (self.composed.data_at((*path, "escalate")) or {}):
            whose = f"lane `{operation.lane}` has no `backup`" if operation else "the step has no lane"
            self.report(
                (*path, "onTimeout"),
                f"there is nobody to escalate to: {whose}",
                "add escalate: {to: lane.operation}, or give the lane a backup in the services file",
            )
        return None

    def _operation(self, text: str, step_id: str, path: Path) -> Operation:
        name, _, operation = text.partition(".")
        lane = self.lanes.get(name)
        if lane is None and self.strict:
            self.report(
                path,
                f"unknown service lane `{name}`",
                shape.nearest(name, self.lanes)
                or f"lanes are registered in the services file; known: {', '.join(self.lanes) or 'none'}",
            )
        return Operation(lane=name, name=operation or (lane.operation if lane else None) or step_id)

    # --- expressions ------------------------------------------------------------------------------

    def _when(self, written: WrittenStep, path: Path, known: Known) -> Expression | None:
        return self._expression(written.when, (*path, "when"), known, boolean=True)

    def _expression(self, source: str | None, path: Path, known: Known, *, boolean: bool = False) -> Expression | None:
        if source is None:
            return None
        problems, steps = expression.check(source, known=known, boolean=boolean, elsewhere=self.ids)
        for problem in problems:
            self.report(path, f"`{path[-1]}`: {problem}")
        return Expression(source=source, steps=steps)

    def _template(self, value: Any, given: bool, path: Path, known: Known) -> Template | None:
        if not given:
            return None
        problems, steps = expression.check_template(value, known=known, elsewhere=self.ids)
        for inner, problem in problems:
            self.report((*path, *inner), problem)
        return Template(value=value, steps=steps)


def _emptied(blocks: dict[str, Any]) -> dict[str, Any]:
    """The branches without their steps, which are read one by one."""
    return {name: [] if isinstance(items, list) else items for name, items in blocks.items()}


def _may_be_skipped(step: ServiceStep) -> bool:
    actions = [step.on_timeout, *([step.escalation.on_timeout] if step.escalation else [])]
    return step.when is not None or any(action.kind == "skip" for action in actions)


def _retry(written: WrittenRetry | None) -> Retry:
    return Retry(**dict(written)) if written else Retry()
