"""Steps in loops are told apart by the numbers of their iterations: `sign[3]`, `visit[0][2]`. Pure.

A step's id has no bracket; its *name* is the id, and a number for each loop around it, the outermost first.
"""

from __future__ import annotations

import re

Numbers = tuple[int, ...]


NAME = re.compile(r"([^\[\]]+)((?:\[(?:0|[1-9][0-9]{0,4})\])*)", re.ASCII)  # no loop has more than 10,000 iterations


def is_name(text: str) -> bool:
    """Whether a text has the form of a step's name; callers from outside write what they like."""
    return NAME.fullmatch(text) is not None


def id_of(name: str) -> str:
    return name.partition("[")[0]


def numbers_of(name: str) -> Numbers:
    _, bracket, rest = name.partition("[")
    return tuple(int(number) for number in rest.rstrip("]").split("][")) if bracket else ()


def named(step: str, numbers: Numbers) -> str:
    return step + "".join(f"[{number}]" for number in numbers)


def in_order(order: int, name: str) -> tuple[int, Numbers]:
    """Sorts names by their step's order in the definition, then by iteration: `sign[2]` before `sign[10]`."""
    return order, numbers_of(name)
