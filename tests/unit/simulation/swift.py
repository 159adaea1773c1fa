"""What a schedule does some hundred times, done quickly: rows have forty fields, and a plan is asked for its places.

Nothing is decided here, and nothing left out: a value comes to the same as what dataclasses make of it, and a plan says what
it has said before.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, TypeVar
from unittest.mock import patch

from orchestrator import instance
from orchestrator.attempts import Attempt
from orchestrator.definition import Definition
from orchestrator.lane import Lane
from orchestrator.plan import Plan
from orchestrator.rows import Entry, Row

T = TypeVar("T")

MADE_OFTEN = (Row, Entry, Attempt)
ASKED_OFTEN = ("place", "after", "around", "block", "heads", "lane", "queue", "segment")
GARBAGE = 50_000  # values until they are looked through: a schedule leaves some hundred that refer to each other


def replace(value: T, /, **changes: Any) -> T:
    """As `dataclasses.replace`, for frozen dataclasses that have no slots and compute nothing when they are made."""
    columns = value.__dict__.copy()
    columns.update(changes)
    if len(columns) != len(value.__dict__):
        raise TypeError(f"{type(value).__name__} has no {changes.keys() - value.__dict__.keys()}")
    made: T = object.__new__(type(value))
    object.__setattr__(made, "__dict__", columns)
    return made


def _quickly_made(kind: type) -> Callable[..., None]:
    """An `__init__` for a dataclass of the same sort, with defaults that never change."""
    known = fields(kind)
    assert not any(one.default_factory is not MISSING for one in known)
    defaults = {one.name: one.default for one in known if one.default is not MISSING}

    def init(self: object, **values: Any) -> None:
        columns = defaults | values
        if len(columns) != len(known):
            raise TypeError(f"{kind.__name__} is not made of {sorted(values)}")
        object.__setattr__(self, "__dict__", columns)

    return init


class SwiftPlan(Plan):
    """Keeps what it has answered: it never changes."""

    def __init__(self, definition: Definition, lanes: Mapping[str, Lane]) -> None:
        super().__init__(definition, lanes)
        for question in ASKED_OFTEN:
            setattr(self, question, cache(getattr(self, question)))


@contextmanager
def swiftly() -> Iterator[None]:
    """The engine's own `move` and `amend` use it inside."""
    thresholds = gc.get_threshold()
    with ExitStack() as stack:
        stack.enter_context(patch.object(instance, "replace", replace))
        for kind in MADE_OFTEN:
            stack.enter_context(patch.object(kind, "__init__", _quickly_made(kind)))
        gc.set_threshold(GARBAGE, *thresholds[1:])
        stack.callback(gc.set_threshold, *thresholds)
        yield
