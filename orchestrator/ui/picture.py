"""A definition's picture for a page; of an instance, coloured by where its steps stand, each a link to its row below."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

from orchestrator.definition import Definition
from orchestrator.graph_svg import svg

ROW = "#step-"  # and the step's id


def of_definition(definition: Definition) -> Markup:
    return Markup(svg(definition, style=False))  # noqa: S704 - it escapes what it draws


def of_instance(definition: Definition | None, steps: Iterable[Mapping[str, Any]]) -> Markup:
    """`steps`: those of `queries.status`. Empty where the definition cannot be read any more."""
    if definition is None:
        return Markup("")
    states = {one["step"]: one["status"] for one in steps}
    return Markup(svg(definition, states, link=ROW, style=False))  # noqa: S704 - it escapes what it draws
