"""Reading sequences of steps, and what each kind of step holds.

Each `_…` reader of a kind gives the step, and what of it expressions may name afterwards:
- after a step, the step; not one that ends the instance, for nothing comes after it;
- after a block, all that is inside it, perhaps skipped where the block, or its case, has a condition;
- after a loop, its steps as lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from orchestrator.definition import (
    CONCURRENCY,
    Branch,
    BranchesStep,
    Case,
    EndStep,
    Expression,
    ForEachStep,
    RepeatStep,
    Step,
    SwitchStep,
    WaitStep,
    WorkflowStep,
)
from orchestrator.language import service, shape
from orchestrator.language.kinds import BLOCKS, kind_of, strays
from orchestrator.language.reading import Reading
from orchestrator.language.schema import WrittenCase, WrittenMoment, WrittenStep
from orchestrator.language.scope import Known, Named, Scope, looped, perhaps
from orchestrator.language.sequences import emptied, neighbours, never_goes_on, together
from orchestrator.language.text import Path

MAX_NESTING = 8  # blocks within blocks
NO_ID = "unnamed"  # of a step whose id cannot be read: it is reported, and the rest is checked


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a step is read, and what stands there: its keys as checked, and all that was written."""

    reading: Reading
    written: WrittenStep
    data: dict[str, Any]
    path: Path
    scope: Scope
    depth: int

    @property
    def when(self) -> Expression | None:
        return self.reading.condition(self.written.when, self.path, self.scope)

    @property
    def done(self) -> Known:
        """The step itself, as it may be named once it has ended."""
        is_known = self.written.id in self.reading.ids
        return {self.written.id: Named(may_be_skipped=self.written.when is not None)} if is_known else {}


Read: TypeAlias = tuple[Step, Known]


def sequence(reading: Reading, items: Any, path: Path, scope: Scope, depth: int) -> tuple[tuple[Step, ...], Known]:
    """The steps, and what is known of them once they have ended. What is no list has been reported by its shape."""
    if not isinstance(items, list):
        return (), {}
    if not items:
        reading.report(path, "there is no step here", "write at least one, with an id and a service", at_key=True)
    steps: list[Step] = []
    completed: Known = {}
    ended = False
    for group in neighbours(items):
        if ended:
            _report_unreachable(reading, (*path, group[0]))
        before = scope.after(completed)
        read = [found for at in group if (found := _step(reading, items[at], (*path, at), before, depth))]
        ended = any(never_goes_on(step) for step, _ in read)
        steps += together([step for step, _ in read])
        for _, done in read:
            completed |= done
    return tuple(steps), completed


def _report_unreachable(reading: Reading, path: Path) -> None:
    reading.report(
        path, "this step can never run: the instance has ended before it", "remove it, or give the end a `when`"
    )


def _step(reading: Reading, data: Any, path: Path, scope: Scope, depth: int) -> Read | None:
    shell = emptied(data) if isinstance(data, dict) else data
    written, problems = shape.read(WrittenStep, shell, path, reading.composed, {"id": NO_ID})
    reading.problems += problems
    if written is None:
        return None
    place = Place(reading=reading, written=written, data=data, path=path, scope=scope, depth=depth)
    kind = kind_of(data)
    _check_keys(place, kind)
    if kind in BLOCKS and depth >= MAX_NESTING:
        reading.report(
            (*path, kind), f"blocks are nested deeper than {MAX_NESTING} levels", "flatten them", at_key=True
        )
        return None
    return READERS.get(kind or "service", _service)(place)


def _check_keys(place: Place, kind: str | None) -> None:
    """A step does one thing, and has only the keys that go with that."""
    report, path, data = place.reading.report, place.path, place.data
    stray = strays(kind, [key for key in data if key in WRITTEN_KEYS])
    for key, message, hint in stray:
        report((*path, key), message, hint, at_key=True)
    # a key that is stray or unknown has been reported: it may be what this step does (`servce`)
    if kind is None and not stray and set(data) <= WRITTEN_KEYS:
        report(
            path,
            "a step needs `service`, `pause: true`, `wait`, `workflow`, `end`, `fail` or a block "
            "(`branches`, `switch`, `forEach`, `repeat`)",
            "say which lane.operation it calls",
        )


def _service(place: Place) -> Read:
    step = service.read(place.reading, place.written, place.path, place.scope)
    known = Named(may_be_skipped=service.may_be_skipped(step))
    return step, dict.fromkeys(place.done, known)


def _branches(place: Place) -> Read:
    written, path = place.written, (*place.path, "branches")
    blocks = place.data["branches"]
    if blocks == {}:
        place.reading.report(path, "there is no branch here", "write each as `name: [steps]`", at_key=True)
    branches: list[Branch] = []
    completed: Known = {}
    for name, items in blocks.items() if isinstance(blocks, dict) else ():
        steps, done = sequence(place.reading, items, (*path, name), place.scope, place.depth + 1)
        branches.append(Branch(name=name, steps=steps))
        completed |= done
    step = BranchesStep(id=written.id, branches=tuple(branches), title=written.title, when=place.when)
    return step, _behind(step, completed)


def _behind(step: Step, done: Known) -> Known:
    """After the block; inside it, its `when` was true."""
    return perhaps(done) if step.when is not None else done


def _switch(place: Place) -> Read:
    written, path = place.written, (*place.path, "switch")
    items = place.data["switch"] if isinstance(place.data["switch"], list) else []
    if place.data["switch"] == []:
        place.reading.report(path, "there is no case here", "write each as {when: payload.ok, steps: […]}", at_key=True)
    cases: list[Case] = []
    completed: Known = {}
    for at, data in enumerate(items):
        case, done = _case(place, data, (*path, at), is_last=at == len(items) - 1)
        cases += [case] if case else []
        completed |= done
    step = SwitchStep(id=written.id, cases=tuple(cases), title=written.title, when=place.when)
    return step, perhaps(completed)


def _case(place: Place, data: Any, path: Path, *, is_last: bool) -> tuple[Case | None, Known]:
    reading = place.reading
    shell = emptied(data) if isinstance(data, dict) else data
    written, problems = shape.read(WrittenCase, shell, path, reading.composed, {"steps": []})
    reading.problems += problems
    if written is None:
        return None, {}
    _check_case(reading, data, path, is_last=is_last)
    when = reading.condition(written.when, path, place.scope)
    steps, done = sequence(reading, data.get("steps"), (*path, "steps"), place.scope, place.depth + 1)
    return Case(when=when, steps=steps), done


def _check_case(reading: Reading, data: dict[str, Any], path: Path, *, is_last: bool) -> None:
    if "when" in data and "otherwise" in data:
        mend = "a case has a condition, or is the last one, for all else"
        reading.report((*path, "otherwise"), "`otherwise` does not go with `when`", mend, at_key=True)
    elif "otherwise" in data and not is_last:
        mend = "cases are tried in their order: what stands behind it could never run"
        reading.report((*path, "otherwise"), "`otherwise` must be the last case, and only once", mend, at_key=True)
    elif not set(data) - {"steps", "title"}:
        reading.report(path, "a case needs `when` or `otherwise: true`", "write its condition, as in when: payload.ok")


def _for_each(place: Place) -> Read:
    written, path = place.written, place.path
    items = place.reading.expression(written.for_each or "[]", (*path, "forEach"), place.scope, "list")
    if written.as_ in place.scope.items:
        place.reading.report((*path, "as"), f"`{written.as_}` is the item of a loop around this one", "choose another")
    steps, done = _body(place, place.scope.inside(written.as_))
    step = ForEachStep(
        id=written.id, title=written.title, when=place.when, items=items, steps=steps, variable=written.as_,
        concurrency=written.max_concurrency or CONCURRENCY,
    )  # fmt: skip
    return step, _behind(step, looped(done))


def _repeat(place: Place) -> Read:
    written, path = place.written, (*place.path, "repeat", "until")
    steps, done = _body(place, place.scope)
    until = written.repeat.until if written.repeat else "true"
    step = RepeatStep(
        id=written.id, title=written.title, when=place.when, steps=steps,
        until=place.reading.expression(until, path, place.scope.after(done), "truth"),
        max=written.repeat.max if written.repeat else 1, on_error=written.on_error or "fail",
    )  # fmt: skip
    # only where it goes on after a failure is there something to ask of the loop itself
    itself = place.done if step.on_error == "continue" else {}
    return step, {**_behind(step, looped(done)), **itself}


def _body(place: Place, scope: Scope) -> tuple[tuple[Step, ...], Known]:
    path = (*place.path, "steps")
    if "steps" not in place.data:
        mend = "write what is to be done each time, as in steps: [{id: …, service: …}]"
        place.reading.report(place.path, "`steps` is missing", mend)
    return sequence(place.reading, place.data.get("steps"), path, scope, place.depth + 1)


def _wait(place: Place) -> Read:
    written, wait = place.written, place.written.wait
    until = None
    if isinstance(wait, WrittenMoment):
        until = place.reading.expression(wait.until, (*place.path, "wait", "until"), place.scope, "moment")
    step = WaitStep(
        id=written.id, title=written.title, when=place.when, until=until,
        seconds=wait if isinstance(wait, float) else None,
    )  # fmt: skip
    return step, place.done


def _workflow(place: Place) -> Read:
    written, path = place.written, place.path
    if written.workflow is not None and written.workflow == place.reading.workflow:
        mend = "to do its steps again, write a `repeat`"
        place.reading.report((*path, "workflow"), "a workflow cannot be a sub-workflow of itself", mend)
    step = WorkflowStep(
        id=written.id, title=written.title, when=place.when, workflow=written.workflow or NO_ID,
        input=place.reading.template(written.input, (*path, "input"), place.scope),
        on_error=written.on_error or "fail",
    )  # fmt: skip
    return step, place.done


def _end(place: Place) -> Read:
    written = place.written
    kind: Literal["end", "fail"] = "end" if "end" in place.data else "fail"
    reason = written.end or written.fail or NO_ID
    return EndStep(id=written.id, title=written.title, when=place.when, kind=kind, reason=reason), {}


WRITTEN_KEYS = frozenset(field.alias or name for name, field in WrittenStep.model_fields.items())
READERS: dict[str, Callable[[Place], Read]] = {
    "branches": _branches,
    "switch": _switch,
    "forEach": _for_each,
    "repeat": _repeat,
    "wait": _wait,
    "workflow": _workflow,
    "end": _end,
    "fail": _end,
}
