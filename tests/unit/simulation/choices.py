"""Where every decision of a schedule comes from: small numbers, of which 0 is always the plain one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Takes numbers from a source, and keeps them: to take them again is to fly the same schedule."""

    def __init__(self, source: Callable[[int], int], *, taken: Sequence[int] = ()) -> None:
        self._source = source
        self.taken = list(taken)

    @classmethod
    def seeded(cls, seed: int | str) -> Choices:
        random = Random(seed).random
        return cls(lambda bound: int(random() * bound))

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Choices:
        """Those numbers, and zeros where they end."""
        left = iter(numbers)
        return cls(lambda bound: min(next(left, 0), bound - 1))

    def below(self, bound: int) -> int:
        number = self._source(bound)
        self.taken.append(number)
        return number

    def among(self, found: Sequence[T]) -> T:
        return found[self.below(len(found))]

    def one_in(self, bound: int) -> bool:
        return self.below(bound) == bound - 1


@dataclass
class Shrinker:
    """The shortest list of the smallest numbers that still fails: delta debugging, shorter before smaller."""

    fails: Callable[[Sequence[int]], bool]
    best: list[int]
    tries: int = 5_000

    def run(self) -> list[int]:
        before: list[int] = []
        while before != self.best and self.tries > 0:
            before = list(self.best)
            self._leave_out()
            self._make_smaller()
        return self.best

    def _leave_out(self) -> None:
        size = max(1, len(self.best) // 2)
        while size:
            at = len(self.best) - size
            while at >= 0:
                self._try(self.best[:at] + self.best[at + size :])
                at = min(at - 1 if size < 8 else at - size // 2, len(self.best) - size)
            size //= 2

    def _make_smaller(self) -> None:
        for at in range(len(self.best)):
            for number in (
                0,
                self.best[at] // 2 if at < len(self.best) else 0,
                self.best[at] - 1 if at < len(self.best) else 0,
            ):
                if at < len(self.best) and 0 <= number < self.best[at]:
                    self._try([*self.best[:at], number, *self.best[at + 1 :]])

    def _try(self, numbers: list[int]) -> None:
        while numbers and numbers[-1] == 0:  # they come by themselves
            numbers.pop()
        if self.tries > 0 and numbers != self.best:
            self.tries -= 1
            if self.fails(numbers):
                self.best = numbers
