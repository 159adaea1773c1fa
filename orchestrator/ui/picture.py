"""A definition's picture for a page; of an instance, coloured by where its steps stand, each a link to its row below."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from orchestrator.definition import Definition
from orchestrator.graph_states import Tally, tallies
from orchestrator.graph_svg import svg

ROW = "#step-"  # and the step's id
FITS = 720  # pixels


def of_definition(definition: Definition) -> Markup:
    return _sized(svg(definition, style=False))


def of_instance(definition: Definition | None, whole: Mapping[str, Any]) -> Markup:
    """`whole`: `boards.whole`. Empty where the definition cannot be read any more."""
    if definition is None:
        return Markup("")
    return _sized(svg(definition, whole["states"], items=_items(whole), link=ROW, style=False))


def counted(whole: Mapping[str, Any]) -> dict[str, Tally]:
    """What the picture says of each step."""
    definition: Definition | None = whole["definition"]
    return tallies(definition, whole["states"], _items(whole)) if definition else {}


def _items(whole: Mapping[str, Any]) -> dict[str, int]:
    return {one["step"]: one["items"] for one in whole["steps"] if "items" in one}


def is_wide(picture: str) -> bool:
    """Whether it wants the width of the page."""
    width = re.search(r'<svg [^>]*\bwidth="(\d+)', picture)
    return width is not None and int(width[1]) > FITS


def _sized(drawn: str) -> Markup:
    """One that is a little wider than its column is drawn smaller; a wide one keeps its size, and scrolls."""
    return Markup(drawn if is_wide(drawn) else drawn.replace('class="flow"', 'class="flow fit"', 1))  # noqa: S704 - it is escaped
