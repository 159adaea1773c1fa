"""Where everything of a definition's picture goes. Pure.

Definitions are sequences and blocks of sequences inside each other, so a recursive layout is exact: a sequence is a
column, a block is a frame with its sequences' columns side by side. Sizes are in pixels, and whole numbers.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil

from orchestrator.definition import BranchesStep, Definition, ForEachStep, RepeatStep, Step, SwitchStep, sequences
from orchestrator.graph import calls, case_label, condition, facts, goes_on, has_else, is_shown, runs_through
from orchestrator.graph_states import Tally, in_words

PAD_X, PAD_Y = 16, 9  # inside a step
GAP, BETWEEN, FRAME = 30, 24, 18  # between steps, between columns, around what is inside a block
FORK, JOIN = 30, 30  # from a block's fork to its columns, and from the columns to its lower edge
HEADROOM = 12  # between a block's header and its fork
NARROWEST, ICON = 150, 20
RAIL = 64  # beside a body that is repeated: the way back, and what is said there
MARGIN = 20
TERMINAL = 26  # the height of the circles at both ends

# Kind of line → (height, the widest a character may be drawn, characters before it is wrapped).
LINES = {"name": (20, 8.6, 30), "code": (17, 7.2, 36), "quiet": (17, 7.3, 42), "state": (23, 7.9, 60),
         "label": (17, 7.2, 26)}  # fmt: skip
MOST_LINES = 3  # of one text


@dataclass(frozen=True, kw_only=True)
class Line:
    text: str
    kind: str  # of `LINES`

    @property
    def height(self) -> int:
        return LINES[self.kind][0]

    @property
    def width(self) -> int:
        """That the text will not exceed; East Asian characters are twice as wide."""
        wide = sum(unicodedata.east_asian_width(character) in "WF" for character in self.text)
        return ceil(LINES[self.kind][1] * (len(self.text) + wide))


@dataclass(frozen=True, kw_only=True)
class Box:
    """Something laid out. Arrows meet its middle, above and below.

    A step has its `lines`; one with others inside has those below. A column (no `step`) has its `lines` on the way in.
    """

    width: int
    height: int
    step: Step | None = None
    lines: tuple[Line, ...] = ()
    inner: tuple[Box, ...] = field(default=())
    goes_on: bool = True

    @property
    def header(self) -> int:
        return _height(self.lines)


def lay(definition: Definition, tallies: Mapping[str, Tally] | None) -> Box:
    """The column of the whole. `tallies`: room for a line with each step's state; none: no such lines."""
    return _Layout(tallies).column(definition.steps, ())


class _Layout:
    def __init__(self, tallies: Mapping[str, Tally] | None) -> None:
        self._tallies = tallies

    def column(self, steps: tuple[Step, ...], labels: tuple[Line, ...]) -> Box:
        inner = tuple(self._block(step) if sequences(step) else self._card(step) for step in steps)
        width = max((box.width for box in (*inner, Box(width=_width(labels), height=0))), default=0)
        height = sum(box.height for box in inner) + GAP * max(len(inner) - 1, 0)
        height += _height(labels) + (GAP if labels and inner else 0)
        return Box(width=_even(width), height=height, lines=labels, inner=inner, goes_on=runs_through(steps))

    def _card(self, step: Step) -> Box:
        lines = tuple(self._lines(step))
        width = max(NARROWEST, _width(lines)) + 2 * PAD_X
        return Box(width=_even(width), height=_height(lines) + 2 * PAD_Y, step=step, lines=lines, goes_on=goes_on(step))

    def _block(self, step: Step) -> Box:
        lines = tuple(self._lines(step)) if is_shown(step) else ()
        inner = tuple(self._columns(step))
        across = columns_width(inner) + (2 * RAIL if isinstance(step, RepeatStep) else 0)
        edge = FRAME if lines else 0
        width = max(across, _width(lines)) + 2 * edge
        height = _height(lines) + (PAD_Y + HEADROOM if lines else 0) + FORK + max(box.height for box in inner) + JOIN
        return Box(width=_even(width), height=height, step=step, lines=lines, inner=inner, goes_on=goes_on(step))

    def _columns(self, step: Step) -> Iterator[Box]:
        if isinstance(step, BranchesStep):
            for branch in step.branches:
                yield self.column(branch.steps, tuple(_wrapped(branch.name, "label")) if is_shown(step) else ())
        elif isinstance(step, SwitchStep):
            for case in step.cases:
                yield self.column(case.steps, tuple(_wrapped(case_label(case), "label")))
            if has_else(step):
                yield self.column((), (Line(text="else", kind="label"),))
        elif isinstance(step, ForEachStep | RepeatStep):
            yield self.column(step.steps, ())

    def _lines(self, step: Step) -> Iterator[Line]:
        yield from _wrapped(step.title or step.id, "name")
        yield from _joined(step.id if step.title else "", calls(step))
        yield from _wrapped(condition(step), "code")
        for fact in facts(step):
            yield from _wrapped(fact, "quiet")
        if self._tallies is not None:
            yield Line(text=said(self._tallies.get(step.id)), kind="state")


def said(tally: Tally | None) -> str:
    """`Waiting`, `Failed: 3 of 7 done, 1 failed`."""
    words = in_words(tally.state if tally else "")
    return words[:1].upper() + words[1:] + (f": {tally.badge}" if tally and tally.badge else "")


def columns_width(columns: tuple[Box, ...]) -> int:
    return sum(box.width for box in columns) + BETWEEN * (len(columns) - 1)


def _joined(step_id: str, called: str) -> Iterator[Line]:
    """On one line where that has room for both."""
    both = f"{step_id} · {called}" if step_id and called else step_id or called
    for part in (both,) if len(both) <= LINES["code"][2] else (step_id, called):
        yield from _wrapped(part, "code")


class _Wrapper(textwrap.TextWrapper):
    """Breaks a path that is longer than a line (`steps.review.result`) behind a dot, not in the middle of a name."""

    dots = re.compile(r"(?<=\w\.)(?=[^\W\d])")

    def _split(self, text: str) -> list[str]:
        words = super()._split(text)
        return [part for word in words for part in (self.dots.split(word) if len(word) > self.width else (word,))]


def _wrapped(text: str, kind: str) -> Iterator[Line]:
    """XML knows no control characters, however they are escaped."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    wrapper = _Wrapper(width=LINES[kind][2], max_lines=MOST_LINES, placeholder="…", break_on_hyphens=False)
    for part in wrapper.wrap(clean):
        yield Line(text=part, kind=kind)


def _width(lines: tuple[Line, ...]) -> int:
    """With room for the icon before a name, and the mark before a state."""
    return max((line.width + (ICON if line.kind in ("name", "state") else 0) for line in lines), default=0)


def _height(lines: tuple[Line, ...]) -> int:
    return sum(line.height for line in lines)


def _even(length: int) -> int:
    """So that its middle is a whole number, too."""
    return length + length % 2
