"""Steps as they stand beside and inside each other in a text, before anybody has checked them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.definition import Branch, BranchesStep, Step
from orchestrator.language.schema import STEP_ID
from orchestrator.language.text import Path


def written_ids(items: list[Any], path: Path) -> Iterator[tuple[str, Path]]:
    """Every step id in the text, in order, whether or not its step is sound."""
    for at, item in enumerate(items):
        if not isinstance(item, dict):
            continue
        if isinstance(item.get("id"), str) and STEP_ID.fullmatch(item["id"]):
            yield item["id"], (*path, at, "id")
        blocks = item.get("branches")
        for name, inner in blocks.items() if isinstance(blocks, dict) else ():
            if isinstance(inner, list):
                yield from written_ids(inner, (*path, at, "branches", name))


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
