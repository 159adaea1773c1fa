"""What an expression may name where it stands. Pure.

Known are the steps that have ended by then for certain. One that may have been skipped needs `has()`;
one that ran in a loop is a list there, with an entry for each iteration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias


@dataclass(frozen=True, kw_only=True)
class Named:
    """A step that has ended."""

    may_be_skipped: bool = False
    is_list: bool = False


Known: TypeAlias = dict[str, Named]


@dataclass(frozen=True, kw_only=True)
class Scope:
    steps: Mapping[str, Named] = field(default_factory=dict)
    items: tuple[str, ...] = ()  # what the enclosing loops call their items (`as: doc`)

    def after(self, done: Known) -> Scope:
        return replace(self, steps={**self.steps, **done})

    def inside(self, item: str | None) -> Scope:
        """In the body of a loop whose items are called `item`."""
        return replace(self, items=(*self.items, item)) if item else self


def perhaps(done: Known) -> Known:
    """As seen from behind a block that may have been skipped."""
    return {name: replace(named, may_be_skipped=True) for name, named in done.items()}


def looped(done: Known) -> Known:
    """As seen from behind their loop: a step that one iteration skipped still has its entry there."""
    return dict.fromkeys(done, Named(is_list=True))
