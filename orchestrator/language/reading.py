"""One text being read: what is known of it, and the problems found so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator import expression
from orchestrator.definition import Expression, Operation, Template
from orchestrator.errors import Problem
from orchestrator.lane import Lane
from orchestrator.language import shape
from orchestrator.language.cel_program import Wanted
from orchestrator.language.scope import Scope
from orchestrator.language.sequences import written_ids, written_steps
from orchestrator.language.text import Composed, Path

MAX_STEPS = 1000  # in one definition, whatever they are nested in


@dataclass(kw_only=True)
class Reading:
    composed: Composed
    lanes: Mapping[str, Lane]
    strict: bool  # is a lane that nobody has registered a problem?
    problems: list[Problem] = field(default_factory=list)
    ids: dict[str, Path] = field(default_factory=dict)  # every step's, wherever it stands
    workflow: str = ""
    compensate_on: str = "completed"

    def report(self, path: Path, message: str, hint: str | None = None, *, at_key: bool = False) -> None:
        self.problems.append(self.composed.problem(path, message, hint, at_key=at_key))

    def collect_ids(self, items: Any, path: Path) -> None:
        """Learn the ids of all steps, so that a wrong name can be told from one that stands elsewhere."""
        for step_id, at in written_ids(items, path):
            if step_id in self.ids:
                line, _ = self.composed.where(self.ids[step_id])
                self.report(
                    at,
                    f"duplicate step id `{step_id}`",
                    f"the first one stands on line {line}; ids are unique in the whole workflow, blocks included",
                )
            self.ids.setdefault(step_id, at)

    def check_size(self, items: Any, path: Path) -> None:
        for count, (_, at) in enumerate(written_steps(items, path), start=1):
            if count > MAX_STEPS:
                self.report(at, f"more than {MAX_STEPS} steps", "move some into a sub-workflow (`workflow: id`)")
                return

    def operation(self, text: str, step_id: str, path: Path) -> Operation:
        """What `lane.operation`, or a bare `lane`, calls."""
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

    def expression(self, source: str, path: Path, scope: Scope, wanted: Wanted = "anything") -> Expression:
        problems, found = expression.check(source, scope, wanted=wanted, elsewhere=self.ids)
        for problem in problems:
            self.report(path, f"`{path[-1]}`: {problem}")
        return found

    def condition(self, source: str | None, path: Path, scope: Scope) -> Expression | None:
        """The `when` of what stands at `path`."""
        return self.expression(source, (*path, "when"), scope, "truth") if source is not None else None

    def template(self, value: Any, path: Path, scope: Scope) -> Template | None:
        """What is to be filled in and sent; none where the text says nothing (an empty value has been reported)."""
        if value is None:
            return None
        problems, found = expression.check_template(value, scope, elsewhere=self.ids)
        for inner, problem in problems:
            self.report((*path, *inner), problem)
        return found
