"""Steps as they stand beside and inside each other in a text, before anybody has checked them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.definition import Branch, BranchesStep, EndStep, RepeatStep, Step, SwitchStep
from orchestrator.language.text import Path
from orchestrator.language.words import STEP_ID


def written_steps(items: Any, path: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """Every step in the text, in order, whether or not it is sound; and where it stands."""
    for at, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield item, (*path, at)
            for inner, where in inner_sequences(item):
                yield from written_steps(inner, (*path, at, *where))


def inner_sequences(item: dict[str, Any]) -> Iterator[tuple[Any, Path]]:
    """What stands where a step has steps inside: its branches, its cases, its body."""
    branches, cases = item.get("branches"), item.get("switch")
    for name, inner in branches.items() if isinstance(branches, dict) else ():
        yield inner, ("branches", name)
    for at, case in enumerate(cases if isinstance(cases, list) else ()):
        if isinstance(case, dict):
            yield case.get("steps"), ("switch", at, "steps")
    yield item.get("steps"), ("steps",)


def written_ids(items: Any, path: Path) -> Iterator[tuple[str, Path]]:
    """Every step id in the text, in order, whether or not its step is sound."""
    for item, at in written_steps(items, path):
        if isinstance(item.get("id"), str) and STEP_ID.fullmatch(item["id"]):
            yield item["id"], (*at, "id")


def emptied(item: dict[str, Any]) -> dict[str, Any]:
    """A step without what is inside it, which is read piece by piece."""
    shell = dict(item)
    if isinstance(item.get("branches"), dict):
        shell["branches"] = {name: [] if isinstance(inner, list) else inner for name, inner in item["branches"].items()}
    for key in ("switch", "steps"):
        if isinstance(item.get(key), list):
            shell[key] = []
    return shell


def neighbours(items: list[Any]) -> Iterator[list[int]]:
    """Positions that are read side by side: runs of `parallel: true`, everything else alone."""
    run: list[int] = []
    for at, item in enumerate(items):
        if isinstance(item, dict) and item.get("parallel") is True:
            run.append(at)
            continue
        if run:
            yield run
        run = []
        yield [at]
    if run:
        yield run


def together(steps: list[Step]) -> list[Step]:
    """Neighbours marked parallel as one block that nobody wrote. Its `+` is in no id of an author's."""
    if len(steps) < 2:
        return steps
    branches = tuple(Branch(name=step.id, steps=(step,)) for step in steps)
    return [BranchesStep(id="+".join(step.id for step in steps), branches=branches, written=False)]


def never_goes_on(step: Step) -> bool:
    """Does the instance end here in any case? What stands after it could never run."""
    if step.when is not None:
        return False
    if isinstance(step, SwitchStep):
        has_otherwise = any(case.when is None for case in step.cases)
        return has_otherwise and all(any_ends(case.steps) for case in step.cases)
    if isinstance(step, BranchesStep):
        return any(any_ends(branch.steps) for branch in step.branches)
    return isinstance(step, EndStep) or (isinstance(step, RepeatStep) and any_ends(step.steps))


def any_ends(steps: Iterable[Step]) -> bool:
    return any(never_goes_on(step) for step in steps)
