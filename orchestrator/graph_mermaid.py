"""A definition as Mermaid text. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from orchestrator.definition import BranchesStep, Definition, ForEachStep, Loop, RepeatStep, Step, SwitchStep
from orchestrator.graph import case_label, details, goes_on, has_else, is_shown, kind, name, name_of

# Mermaid's own escapes; HTML's names are not all known to it, and `#` and `;` mean something themselves.
ESCAPES = {character: f"#{ord(character)};" for character in '"#&<>;`|\\'}
INDENT = "  "
SHAPES = {"service": '["{}"]', "pause": '(["{}"])', "wait": '{{{{"{}"}}}}', "workflow": '[["{}"]]', "end": '((("{}")))',
          "fail": '((("{}")))', "switch": '{{"{}"}}'}  # fmt: skip


def mermaid(definition: Definition) -> str:
    """A flowchart. Ids are numbers, so that no step's id can be a word of the language (`end`)."""
    return "\n".join(["flowchart TD", *_Mermaid(definition).lines()]) + "\n"


class _Mermaid:
    """Lines are returned; edges are collected and stand at the end.

    `tail` is the beginning of an edge (`n3 -->`), to which its target is added when that is drawn; "" where nothing
    leads on.
    """

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._numbers = count(1)
        self._edges: list[str] = []

    def lines(self) -> Iterator[str]:
        yield f"{INDENT}%% {escaped(name_of(self._definition))}"
        yield f'{INDENT}begin(["start"])'
        body, tail = self._sequence(self._definition.steps, "begin -->", 1)
        yield from body
        if tail:
            yield f'{INDENT}finish(["completed"])'
        self._edge(tail, "finish")
        yield from self._edges

    def _sequence(self, steps: tuple[Step, ...], tail: str, depth: int) -> tuple[list[str], str]:
        """The lines of the steps, and what leads on from the last."""
        lines: list[str] = []
        for step in steps:
            drawn, tail = self._step(step, tail, depth)
            lines += drawn
        return lines, tail

    def _step(self, step: Step, tail: str, depth: int) -> tuple[list[str], str]:
        number = next(self._numbers)
        match step:
            case BranchesStep():
                return self._branches(step, number, tail, depth)
            case SwitchStep():
                return self._switch(step, number, tail, depth)
            case ForEachStep() | RepeatStep():
                return self._loop(step, number, tail, depth)
            case _:
                return self._single(step, number, tail, depth)

    def _single(self, step: Step, number: int, tail: str, depth: int) -> tuple[list[str], str]:
        own = f"n{number}"
        self._edge(tail, own)
        shape = SHAPES[kind(step)].format(_label(step))
        return [f"{INDENT * depth}{own}{shape}"], f"{own} -->" if goes_on(step) else ""

    def _branches(self, step: BranchesStep, number: int, tail: str, depth: int) -> tuple[list[str], str]:
        """A subgraph with a subgraph for each branch, between two small circles: the fork and the join."""
        fork, join, inside = f"fork{number}", f"join{number}", depth + 1
        lines = [self._open(f"b{number}", _label(step), depth), _circle(fork, inside)]
        self._edge(tail, fork)
        for at, branch in enumerate(step.branches, 1):
            lines.append(self._open(f"b{number}_{at}", escaped(branch.name) if is_shown(step) else " ", inside))
            drawn, last = self._sequence(branch.steps, f"{fork} -->", inside + 1)
            lines += [*drawn, f"{INDENT * inside}end"]
            self._edge(last, join)
        return [*lines, _circle(join, inside), f"{INDENT * depth}end"], f"{join} -->" if goes_on(step) else ""

    def _switch(self, step: SwitchStep, number: int, tail: str, depth: int) -> tuple[list[str], str]:
        """A diamond with an edge for each case, and a small circle where they meet again."""
        lines, tail = self._single(step, number, tail, depth)
        join, passes = f"join{number}", goes_on(step)
        for case in step.cases:
            drawn, last = self._sequence(case.steps, _labelled(f"n{number}", case_label(case)), depth + 1)
            lines += drawn
            self._edge(last, join)
        if has_else(step):
            self._edge(_labelled(f"n{number}", "else"), join)
        return [*lines, *([_circle(join, depth)] if passes else [])], f"{join} -->" if passes else ""

    def _loop(self, step: Loop, number: int, tail: str, depth: int) -> tuple[list[str], str]:
        """A subgraph between two small circles. The edge back belongs to `repeat` only: items are not waited for."""
        top, bottom, inside = f"loop{number}", f"next{number}", depth + 1
        self._edge(tail, top)
        drawn, last = self._sequence(step.steps, f"{top} -->", inside)
        self._edge(last, bottom)
        if isinstance(step, RepeatStep):
            self._edge(_labelled(bottom, "again"), top)
        lines = [self._open(f"b{number}", _label(step), depth), _circle(top, inside), *drawn, _circle(bottom, inside)]
        return [*lines, f"{INDENT * depth}end"], f"{bottom} -->" if goes_on(step) else ""

    @staticmethod
    def _open(own: str, label: str, depth: int) -> str:
        return f'{INDENT * depth}subgraph {own}["{label}"]'

    def _edge(self, tail: str, target: str) -> None:
        if tail:
            self._edges.append(f"{INDENT}{tail} {target}")


def _label(step: Step) -> str:
    return "<br/>".join(escaped(line) for line in (name(step), *details(step))) if is_shown(step) else " "


def _labelled(source: str, label: str) -> str:
    return f'{source} -->|"{escaped(label)}"|'


def _circle(own: str, depth: int) -> str:
    return f'{INDENT * depth}{own}((" "))'


def escaped(text: str) -> str:
    """As part of a Mermaid label in quotes."""
    line = " ".join(text.split())
    return "".join(ESCAPES.get(character, character) for character in line if character.isprintable())
