"""The small workflows, one of each shape, by subject. A campaign goes through them in this order."""

from __future__ import annotations

from tests.chaos.crashpoints.shapes.decided import DECIDED
from tests.chaos.crashpoints.shapes.flow import FLOW
from tests.chaos.crashpoints.shapes.installed import INSTALLED
from tests.chaos.crashpoints.shapes.others import OTHERS
from tests.chaos.crashpoints.shapes.shape import LANES, Shape
from tests.chaos.crashpoints.shapes.undo import UNDO

SHAPES: dict[str, Shape] = FLOW | UNDO | OTHERS | DECIDED | INSTALLED

__all__ = ["LANES", "SHAPES", "Shape"]
