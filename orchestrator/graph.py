"""A definition as a picture: what there is to say about a step, and Mermaid text. Pure. `graph_svg` draws the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from orchestrator.definition import BranchesStep, Definition, ServiceStep, Step, TimeoutAction

LONGEST = 60  # characters of a condition
UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"))
# Mermaid's own escapes; HTML's names are not all known to it, and `#` and `;` mean something themselves.
ESCAPES = {character: f"#{ord(character)};" for character in '"#&<>;`\\'}
INDENT = "  "


def details(step: Step) -> tuple[str, ...]:
    """The lines below a step's name: what it calls, when it runs, what it waits for, what undoes it."""
    lines = [f"when {shortened(step.when.source)}"] if step.when else []
    if isinstance(step, ServiceStep):
        lines = [*([str(step.operation)] if step.operation else []), *lines]
        lines += ["waits for a decision"] if step.pause else []
        lines += [_time_limit(step)] if step.timeout else []
        lines += [f"undo: {step.compensation.operation}"] if step.compensation else []
    return tuple(lines)


def name(step: Step) -> str:
    return f"{step.id}: {step.title}" if step.title else step.id


def is_shown(block: BranchesStep) -> bool:
    """A block that nobody wrote has no name to show."""
    return block.written


def _time_limit(step: ServiceStep) -> str:
    limit = f"{duration(step.timeout or 0)}, then "
    if step.on_timeout.kind != "escalate" or step.escalation is None:
        return limit + _action(step.on_timeout)
    then = step.escalation
    more = f" ({duration(then.timeout)}, then {_action(then.on_timeout)})" if then.timeout else ""
    return f"{limit}to {then.to}{more}"


def _action(action: TimeoutAction) -> str:
    return action.decision or action.kind


def duration(seconds: float) -> str:
    """As a person would write it: `48h` is given back as `2d`, `90s` as `90s`."""
    for size, unit in UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"


def shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def mermaid(definition: Definition) -> str:
    """A flowchart. Ids are numbers, so that no step's id can be a word of the language (`end`)."""
    return "\n".join(["flowchart TD", *_Mermaid(definition).lines()]) + "\n"


class _Mermaid:
    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._numbers = count(1)
        self._edges: list[str] = []

    def lines(self) -> Iterator[str]:
        yield f"{INDENT}%% {escaped(name_of(self._definition))}"
        yield f'{INDENT}begin(["start"])'
        body, last = self._sequence(self._definition.steps, "begin", 1)
        yield from body
        yield f'{INDENT}finish(["completed"])'
        self._edge(last, "finish")
        yield from self._edges

    def _sequence(self, steps: tuple[Step, ...], before: str, depth: int) -> tuple[list[str], str]:
        """The lines of the steps, and the id of the last."""
        lines: list[str] = []
        for step in steps:
            if isinstance(step, BranchesStep):
                drawn, before = self._block(step, before, depth)
            else:
                drawn, before = self._service(step, before, depth)
            lines += drawn
        return lines, before

    def _service(self, step: ServiceStep, before: str, depth: int) -> tuple[list[str], str]:
        own = f"n{next(self._numbers)}"
        label = "<br/>".join(escaped(line) for line in (name(step), *details(step)))
        left, right = ('(["', '"])') if step.pause else ('["', '"]')
        self._edge(before, own)
        return [f"{INDENT * depth}{own}{left}{label}{right}"], own

    def _block(self, step: BranchesStep, before: str, depth: int) -> tuple[list[str], str]:
        """A subgraph with a subgraph for each branch, between two small circles: the fork and the join."""
        number = next(self._numbers)
        fork, join, inside = f"fork{number}", f"join{number}", depth + 1
        title = "<br/>".join(escaped(line) for line in (name(step), *details(step))) if is_shown(step) else " "
        lines = [f'{INDENT * depth}subgraph b{number}["{title}"]', f'{INDENT * inside}{fork}((" "))']
        self._edge(before, fork)
        for at, branch in enumerate(step.branches, 1):
            lines.append(
                f'{INDENT * inside}subgraph b{number}_{at}["{escaped(branch.name) if is_shown(step) else " "}"]'
            )
            drawn, last = self._sequence(branch.steps, fork, inside + 1)
            lines += [*drawn, f"{INDENT * inside}end"]
            self._edge(last, join)
        return [*lines, f'{INDENT * inside}{join}((" "))', f"{INDENT * depth}end"], join

    def _edge(self, source: str, target: str) -> None:
        self._edges.append(f"{INDENT}{source} --> {target}")


def name_of(definition: Definition) -> str:
    return f"{definition.id}: {definition.title}" if definition.title else definition.id


def escaped(text: str) -> str:
    """As part of a Mermaid label in quotes."""
    line = " ".join(text.split())
    return "".join(ESCAPES.get(character, character) for character in line if character.isprintable())
