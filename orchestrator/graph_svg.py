"""A definition as SVG. Pure.

Definitions are sequences and blocks of branches inside each other, so a recursive layout is exact: a sequence is a
column, a block is a frame with its branches' columns side by side. Sizes are in pixels.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape

from orchestrator.definition import BranchesStep, Definition, Step, walk
from orchestrator.graph import details, is_shown, name, name_of

CHARACTER, LINE, BASELINE = 7.4, 18.0, 14.0  # of the font below, rounded up
BOLD = 1.16  # a name is wider
PAD_X, PAD_Y = 14.0, 8.0  # inside a step
GAP, BETWEEN, FRAME = 30.0, 22.0, 14.0  # between steps, between branches, around a block's inside
NARROWEST, DOT = 110.0, 5.0
MARGIN = 12.0

# Colours for state classes are the reader's; a state is also said in words, for those who do not see colours.
CSS = """
.flow { font: 13px ui-sans-serif, system-ui, sans-serif; --ink: #1b1f24; --quiet: #525a64; --line: #7a8490;
  --card: #f4f6f8; --paper: #ffffff; --good: #0f5b2b; --bad: #8f1414; --wait: #6b4300; --busy: #0a4fa3; }
@media (prefers-color-scheme: dark) { .flow { --ink: #e8ecf1; --quiet: #aeb8c4; --line: #8a95a2; --card: #1e242b;
  --paper: #14181d; --good: #9be7b3; --bad: #ffb3b3; --wait: #ffd591; --busy: #8cc0ff; } }
.flow .paper { fill: var(--paper); }
.flow text { fill: var(--ink); }
.flow .quiet { fill: var(--quiet); }
.flow .name { font-weight: 600; }
.flow .step rect { fill: var(--card); stroke: var(--line); stroke-width: 1.25; }
.flow .waits rect { stroke-dasharray: 6 3; }
.flow .frame { fill: none; stroke: var(--line); stroke-dasharray: 2 3; }
.flow .arrow { fill: none; stroke: var(--line); stroke-width: 1.25; }
.flow .head, .flow .dot { fill: var(--line); }
.flow .good rect { stroke: var(--good); stroke-width: 2.5; } .flow .good .state { fill: var(--good); }
.flow .bad rect { stroke: var(--bad); stroke-width: 2.5; } .flow .bad .state { fill: var(--bad); }
.flow .wait rect { stroke: var(--wait); stroke-width: 2.5; } .flow .wait .state { fill: var(--wait); }
.flow .busy rect { stroke: var(--busy); stroke-width: 2.5; } .flow .busy .state { fill: var(--busy); }
"""
TONES = {
    "SUCCEEDED": "good", "FAILED": "bad", "UNKNOWN": "bad", "STUCK": "bad", "WAITING": "wait", "RETRYING": "wait",
    "RUNNING": "busy", "READY": "busy", "COMPENSATING": "busy", "COMPENSATED": "wait",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Box:
    """Something laid out: its size, and what draws it. Arrows meet its middle, above and below."""

    width: float
    height: float
    step: Step | None = None  # none: a sequence, or the circle at an end
    inner: tuple[Box, ...] = ()
    captions: tuple[str, ...] = field(default=())  # of a block: its title's lines; of a branch: its name


def svg(definition: Definition, states: Mapping[str, str] | None = None, *, prefix: str = "flow",
        style: bool = True) -> str:  # fmt: skip
    """The picture as one <svg> element, to be a file or part of a page.

    `states`: step id → state, shown in words and as a class. `prefix` keeps ids apart where a page has several.
    `style=False` leaves the style sheet (`CSS`) to a page whose policy forbids it here.
    """
    drawing = _Drawing(states or {})
    body = drawing.sequence(definition.steps)
    width, height = body.width + 2 * MARGIN, body.height + 2 * MARGIN
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    labels = f'role="img" aria-labelledby="{prefix}-title {prefix}-desc"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="flow" {labels} {size}>',
        f'<title id="{prefix}-title">{_text(name_of(definition))}</title>',
        f'<desc id="{prefix}-desc">{_text(described(definition, states or {}))}</desc>',
        f"<style>{CSS}</style>" if style else "",
        f'<rect class="paper" width="{width:g}" height="{height:g}"/>',
        *drawing.draw(body, MARGIN, MARGIN),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part)


def described(definition: Definition, states: Mapping[str, str]) -> str:
    """The picture in words, for those who do not see it."""
    return "; ".join(_said(step, states) for step in walk(definition.steps) if _has_words(step))


def _has_words(step: Step) -> bool:
    return not isinstance(step, BranchesStep) or is_shown(step)


def _said(step: Step, states: Mapping[str, str]) -> str:
    facts = [*details(step), *([f"is {states[step.id]}"] if step.id in states else [])]
    if isinstance(step, BranchesStep):
        facts.append("side by side: " + ", ".join(branch.name for branch in step.branches))
    return f"{name(step)} ({', '.join(facts)})" if facts else name(step)


class _Drawing:
    def __init__(self, states: Mapping[str, str]) -> None:
        self._states = states

    # -- sizes

    def sequence(self, steps: tuple[Step, ...], captions: tuple[str, ...] = ()) -> Box:
        inner = tuple(self._block(step) if isinstance(step, BranchesStep) else self._step(step) for step in steps)
        width = max([box.width for box in inner] + [measured(line) for line in captions])
        height = sum(box.height for box in inner) + GAP * (len(inner) - 1) + LINE * len(captions)
        return Box(width=width, height=height, inner=inner, captions=captions)

    def _step(self, step: Step) -> Box:
        lines = self._lines(step)
        width = max(NARROWEST, BOLD * measured(lines[0]), *(measured(line) for line in lines)) + 2 * PAD_X
        return Box(width=width, height=LINE * len(lines) + 2 * PAD_Y, step=step)

    def _lines(self, step: Step) -> tuple[str, ...]:
        state = self._states.get(step.id)
        return (name(step), *details(step), *((state,) if state else ()))

    def _block(self, step: BranchesStep) -> Box:
        shown = is_shown(step)
        inner = tuple(self.sequence(one.steps, (one.name,) if shown else ()) for one in step.branches)
        captions = (name(step), *details(step)) if shown else ()
        across = sum(box.width for box in inner) + BETWEEN * (len(inner) - 1)
        width = max([across, *(BOLD * measured(line) for line in captions)]) + 2 * FRAME
        height = max(box.height for box in inner) + 2 * (GAP + FRAME) + LINE * len(captions)
        return Box(width=width, height=height, step=step, inner=inner, captions=captions)

    # -- drawing: `left` and `top` are the box's corner

    def draw(self, box: Box, left: float, top: float) -> Iterator[str]:
        if box.step is None:
            yield from self._draw_sequence(box, left, top)
        elif isinstance(box.step, BranchesStep):
            yield from self._draw_block(box, left, top)
        else:
            yield from self._draw_step(box.step, box, left, top)

    def _draw_sequence(self, box: Box, left: float, top: float) -> Iterator[str]:
        middle, at = left + box.width / 2, top
        for line in box.captions:
            yield _label(line, middle, at + BASELINE, "quiet", centred=True)
            at += LINE
        for number, inner in enumerate(box.inner):
            if number:
                yield from _arrow(middle, at, middle, at + GAP)
                at += GAP
            yield from self.draw(inner, middle - inner.width / 2, at)
            at += inner.height

    def _draw_step(self, step: Step, box: Box, left: float, top: float) -> Iterator[str]:
        state = self._states.get(step.id)
        pauses = "waits" if getattr(step, "pause", False) else ""
        classes = " ".join(word for word in ("step", pauses, TONES.get(state or "", "")) if word)
        yield f'<g class="{classes}" data-step="{_text(step.id)}">'
        yield f'<rect x="{left:g}" y="{top:g}" width="{box.width:g}" height="{box.height:g}" rx="6"/>'
        for number, line in enumerate(self._lines(step)):
            kind = "name" if number == 0 else "state" if state and number == len(self._lines(step)) - 1 else "quiet"
            yield _label(line, left + PAD_X, top + PAD_Y + BASELINE + LINE * number, kind)
        yield "</g>"

    def _draw_block(self, box: Box, left: float, top: float) -> Iterator[str]:
        middle, bottom = left + box.width / 2, top + box.height
        yield f'<rect class="frame" x="{left:g}" y="{top:g}" width="{box.width:g}" height="{box.height:g}" rx="8"/>'
        for number, line in enumerate(box.captions):
            kind = "quiet" if number else "name"
            yield _label(line, left + FRAME, top + FRAME / 2 + BASELINE + LINE * number, kind)
        fork, join = top + FRAME + LINE * len(box.captions), bottom - FRAME
        yield _dot(middle, fork)
        at = left + (box.width - sum(one.width for one in box.inner) - BETWEEN * (len(box.inner) - 1)) / 2
        for branch in box.inner:
            yield from self._draw_branch(branch, at, middle, fork, join)
            at += branch.width + BETWEEN
        yield _dot(middle, join)

    def _draw_branch(self, branch: Box, left: float, middle: float, fork: float, join: float) -> Iterator[str]:
        own, top = left + branch.width / 2, fork + GAP
        yield from _arrow(middle, fork, own, top)
        yield from self.draw(branch, left, top)
        level = join - GAP  # where the longest branch ends: the others go straight down to it
        yield f'<path class="arrow" d="M{own:g} {top + branch.height:g}V{level:g}"/>'
        yield from _arrow(own, level, middle, join, head=False)


def _arrow(x1: float, y1: float, x2: float, y2: float, *, head: bool = True) -> Iterator[str]:
    """Straight down, or in a curve that leaves and arrives straight down."""
    end = y2 - 6 if head else y2
    bend = GAP * 0.6
    path = f"C{x1:g} {y1 + bend:g} {x2:g} {end - bend:g} {x2:g} {end:g}" if x1 != x2 else f"V{end:g}"
    yield f'<path class="arrow" d="M{x1:g} {y1:g}{path}"/>'
    if head:
        yield f'<path class="head" d="M{x2 - 4:g} {y2 - 7:g}h8l-4 7z"/>'


def _dot(x: float, y: float) -> str:
    return f'<circle class="dot" cx="{x:g}" cy="{y:g}" r="{DOT:g}"/>'


def _label(line: str, x: float, y: float, kind: str, *, centred: bool = False) -> str:
    anchor = ' text-anchor="middle"' if centred else ""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{anchor}>{_text(line)}</text>'


def measured(line: str) -> float:
    """A width that the line will not exceed; East Asian characters are twice as wide."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in line)
    return CHARACTER * (len(line) + wide)


def _text(line: str) -> str:
    """XML knows no control characters, however they are escaped."""
    return escape("".join(character if character.isprintable() else " " for character in line))
