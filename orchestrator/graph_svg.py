"""A definition as SVG. Pure. `graph_layout` says where things go, `graph_style` how they look, `graph_states` what a
step with many iterations says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from orchestrator.definition import BranchesStep, Definition, EndStep, ForEachStep, RepeatStep, Step, SwitchStep, walk
from orchestrator.graph import case_label, details, has_else, is_shown, kind, name, name_of
from orchestrator.graph_layout import (
    BETWEEN,
    FORK,
    FRAME,
    GAP,
    HEADROOM,
    ICON,
    JOIN,
    MARGIN,
    PAD_X,
    PAD_Y,
    TERMINAL,
    Box,
    Line,
    columns_width,
    lay,
    said,
)
from orchestrator.graph_states import Tally, counted, tallies
from orchestrator.graph_style import CSS, ICONS, MARKS, TONES

CORNER, DIAMOND = 8, 8


def svg(definition: Definition, states: Mapping[str, str] | None = None, *, items: Mapping[str, int] | None = None,
        link: str | None = None, prefix: str = "flow", style: bool = True) -> str:  # fmt: skip
    """The picture as one <svg> element, to be a file or part of a page.

    `states`: row name → state (`sign`, in loops `sign[3]`), shown in words, with a mark, and as a class; an empty
    mapping says of every step that it is not reached, none draws the definition alone. `items`: row name of a
    `forEach` → how many items its list has. `link`: makes every step a link, to this and its id (`#step-`); with
    `states`, every step that is reached. `prefix` keeps ids apart where a page has several. `style=False` leaves the style sheet (`graph_style.CSS`) to a page whose
    policy forbids it here.
    """
    counts = None if states is None else tallies(definition, states, items)
    body = lay(definition, counts)
    width, height = body.width + 2 * MARGIN, body.height + 2 * (MARGIN + GAP) + 2 * TERMINAL
    drawing = _Drawing(counts, link)
    drawing.whole(body, width // 2)
    size = f'width="{width}" height="{height}"'
    # Links may not stand in an image: to a screen reader that is one thing.
    labels = f'role="{"group" if link else "img"}" aria-labelledby="{prefix}-title {prefix}-desc"'
    about = summary(definition, counts or {}) if link else described(definition, counts or {})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="flow" {labels} viewBox="0 0 {width} {height}" {size}>',
        f'<title id="{prefix}-title">{_text(name_of(definition))}</title>',
        f'<desc id="{prefix}-desc">{_text(about)}</desc>',
        f"<style>{CSS}</style>" if style else "",
        f'<rect class="paper" {size} rx="8"/>',
        *drawing.shapes,
        f'<path class="arrow" d="{"".join(drawing.lines)}"/>',
        *drawing.choices,
        f'<path class="head" d="{"".join(drawing.heads)}"/>',
        "</svg>",
    ]
    return "\n".join(part for part in parts if part)


def described(definition: Definition, counts: Mapping[str, Tally]) -> str:
    """The picture in words, for those who do not see it."""
    return "; ".join(_said(step, counts.get(step.id)) for step in walk(definition.steps) if is_shown(step))


def summary(definition: Definition, counts: Mapping[str, Tally]) -> str:
    """Where each step is a link that says the rest: `3 of 7 done, 1 waiting`."""
    shown = [step.id for step in walk(definition.steps) if is_shown(step)]
    return f"Steps: {counted([counts[one].state for one in shown if one in counts], len(shown))}"


def _said(step: Step, tally: Tally | None) -> str:
    told = [*details(step), *_ways(step), *([said(tally).lower()] if tally else [])]
    return f"{name(step)} ({', '.join(told)})" if told else name(step)


def _ways(step: Step) -> Iterator[str]:
    if isinstance(step, BranchesStep):
        yield "side by side: " + ", ".join(branch.name for branch in step.branches)
    if isinstance(step, SwitchStep):
        ways = [*map(case_label, step.cases), *(["else"] if has_else(step) else [])]
        yield "goes one way: " + ", ".join(ways)


class _Drawing:
    """`left` and `top` are a box's corner. Lines and arrow heads are each one path of the whole, drawn last."""

    def __init__(self, counts: Mapping[str, Tally] | None, link: str | None) -> None:
        self._counts, self._link = counts, link
        self.shapes: list[str] = []
        self.choices: list[str] = []  # above the lines, which begin in their middle
        self.lines: list[str] = []
        self.heads: list[str] = []

    def whole(self, body: Box, middle: int) -> None:
        top = MARGIN + TERMINAL + GAP
        self.shapes.append(f'<circle class="choice" cx="{middle}" cy="{MARGIN + TERMINAL // 2}" r="8"/>')
        self._down(middle, top - GAP - 5, top, head=_is_arrow_target(body.inner[0]))
        self._column(body, middle - body.width // 2, top)
        if body.goes_on:
            end = top + body.height + GAP
            self._down(middle, end - GAP, end + 3)
            self.shapes.append(f'<circle class="choice" cx="{middle}" cy="{end + 13}" r="10"/>')
            self.heads.append(_dot(middle, end + 13, 5))

    def _column(self, box: Box, left: int, top: int) -> None:
        middle, at = left + box.width // 2, top
        for line in box.lines:
            self.shapes.append(_label(line, middle, at + 13))
            at += line.height
        leads_on = bool(box.lines)  # a label stands on the way in
        for number, inner in enumerate(box.inner):
            if leads_on:
                self._down(middle, at + (0 if number else 3), at + GAP, head=_is_arrow_target(inner))
            at += GAP if number or box.lines else 0
            self._draw(inner, middle - inner.width // 2, at)
            at, leads_on = at + inner.height, inner.goes_on

    def _draw(self, box: Box, left: int, top: int) -> None:
        if box.step is None:
            self._column(box, left, top)
        elif box.inner:
            self._block(box, box.step, left, top)
        else:
            self.shapes += self._group(box, box.step, _card(box, box.step), left, top)

    def _group(self, box: Box, step: Step, drawn: str, left: int, top: int) -> Iterator[str]:
        tally = self._counts.get(step.id) if self._counts is not None else None
        tone = TONES.get(tally.state, "past") if tally else ""
        classes = " ".join(word for word in ("step", f"kind-{kind(step)}", tone, "toned" if tone else "") if word)
        tag = "g"
        if self._link is not None and (tally or self._counts is None):
            tag = f'a href="{_text(self._link + step.id)}" aria-label="{_text(_said(step, tally))}"'
        yield f'<{tag} class="{classes}" data-step="{_text(step.id)}" transform="translate({left} {top})">'
        yield drawn + "".join(_lines(box, step, tally))
        yield f"</{tag[0]}>"

    def _block(self, box: Box, step: Step, left: int, top: int) -> None:
        middle, bottom = left + box.width // 2, top + box.height
        fork, level = top, bottom - JOIN
        if box.lines:
            self.shapes += self._group(box, step, _frame(box, step), left, top)
            fork += box.header + PAD_Y + HEADROOM
            self._opening(step, middle, fork)
        at = middle - columns_width(box.inner) // 2
        for column in box.inner:
            self._branch(column, at, middle, fork, level)
            at += column.width + BETWEEN
        if any(column.goes_on for column in box.inner):
            self._closing(box, step, middle, fork, level)

    def _opening(self, step: Step, middle: int, fork: int) -> None:
        if isinstance(step, SwitchStep):
            path = f"M{middle} {fork - DIAMOND}l{DIAMOND} {DIAMOND}-{DIAMOND} {DIAMOND}-{DIAMOND}-{DIAMOND}z"
            self.choices.append(f'<path class="choice" d="{path}"/>')
        else:
            self.heads.append(_dot(middle, fork, 4))

    def _branch(self, column: Box, left: int, middle: int, fork: int, level: int) -> None:
        own, top = left + column.width // 2, fork + FORK
        self.lines.append(_path(middle, fork, own, top - (0 if column.lines else 6), fork + FORK // 2 - 2))
        if not column.lines:
            self.heads.append(_head(own, top))
        self._column(column, left, top)
        if column.goes_on:
            self.lines.append(_path(own, top + column.height, middle, level + 20, level + JOIN // 2 - 4))

    def _closing(self, box: Box, step: Step, middle: int, fork: int, level: int) -> None:
        if box.lines:
            self.heads.append(_dot(middle, level + 20, 4))
        if box.goes_on:
            self._down(middle, level + 20, level + JOIN, head=False)
        if isinstance(step, RepeatStep):
            rail = middle + box.inner[0].width // 2 + 18
            self.lines.append(_rail(middle, fork, rail, level + 20))
            self.heads.append(f"M{middle + 4} {fork}l8-4v8z")
            again = Line(text="again", kind="label")
            self.shapes.append(_label(again, rail + 4 + again.width // 2, (fork + level) // 2 + 14))

    def _down(self, x: int, top: int, bottom: int, *, head: bool = True) -> None:
        self.lines.append(f"M{x} {top}V{bottom - 6 if head else bottom}")
        if head:
            self.heads.append(_head(x, bottom))


def _is_arrow_target(box: Box) -> bool:
    """Where nobody wrote the block there is no frame: the line goes on to its branches."""
    return box.step is None or is_shown(box.step)


# Shapes


def _card(box: Box, step: Step) -> str:
    radius = 18 if kind(step) in ("wait", "pause", "end", "fail") else 6
    card = f'<rect class="box" width="{box.width}" height="{box.height}" rx="{min(radius, box.height // 2)}"/>'
    sides = f'<path class="side" d="M6 0v{box.height}M{box.width - 6} 0v{box.height}"/>'
    inner = f'<rect class="side" x="4" y="4" width="{box.width - 8}" height="{box.height - 8}" rx="14"/>'
    return card + (sides if kind(step) == "workflow" else inner if isinstance(step, EndStep) else "")


def _frame(box: Box, step: Step) -> str:
    frame = f'<rect class="frame" width="{box.width}" height="{box.height}" rx="10"/>'
    behind = f'<path class="stack" d="M10 {box.height + 5}h{box.width - 15}q10 0 10-10V10"/>'
    return frame + (behind if isinstance(step, ForEachStep) else "")


def _lines(box: Box, step: Step, tally: Tally | None) -> Iterator[str]:
    left, at = FRAME if box.inner else PAD_X, PAD_Y
    icon = ICONS.get(kind(step), "")
    if icon:
        yield f'<path class="icon" transform="translate({left + 7} {at + 10})" d="{icon}"/>'
    for line in box.lines:
        indent = ICON if line.kind == "state" or (line.kind == "name" and icon) else 0
        if line.kind == "state":
            yield _mark(tally, left + 7, at + 13)
        yield _label(line, left + indent, at + (17 if line.kind == "state" else 14))
        at += line.height


def _mark(tally: Tally | None, x: int, y: int) -> str:
    disc = f'<circle class="disc" cx="{x}" cy="{y}" r="7"/>'
    mark = MARKS.get(tally.state, "") if tally else ""
    return disc + (f'<path class="mark" transform="translate({x} {y})" d="{mark}"/>' if mark else "")


def _label(line: Line, x: int, y: int) -> str:
    return f'<text class="{line.kind}" x="{x}" y="{y}">{_text(line.text)}</text>'


def _path(x1: int, y1: int, x2: int, y2: int, level: int) -> str:
    """Down, across at `level`, and down again, with round corners."""
    if x1 == x2:
        return f"M{x1} {y1}V{y2}"
    bend = min(CORNER, abs(x2 - x1) // 2, max(level - y1, 0), max(y2 - level, 0))
    side = bend if x2 > x1 else -bend
    return f"M{x1} {y1}V{level - bend}q0 {bend} {side} {bend}H{x2 - side}q{side} 0 {side} {bend}V{y2}"


def _rail(x: int, top: int, rail: int, bottom: int) -> str:
    """From the end of a body back to its beginning."""
    bend = CORNER
    return f"M{x} {bottom}H{rail - bend}q{bend} 0 {bend}-{bend}V{top + bend}q0-{bend}-{bend}-{bend}H{x + 10}"


def _head(x: int, y: int) -> str:
    return f"M{x - 4} {y - 8}h8l-4 8z"


def _dot(x: int, y: int, radius: int) -> str:
    return f"M{x - radius} {y}a{radius} {radius} 0 1 0 {2 * radius} 0a{radius} {radius} 0 1 0-{2 * radius} 0"


def _text(line: str) -> str:
    """XML knows no control characters, however they are escaped."""
    return escape("".join(character if character.isprintable() else " " for character in line))
