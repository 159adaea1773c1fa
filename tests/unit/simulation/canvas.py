"""What a canvas does, without Celery: which message follows a leg. Stands for `orchestrator/canvas` and Celery's part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from orchestrator.plan import Leg, Plan, Segment


@dataclass(frozen=True)
class Sent:
    """A leg's signature: the rest of its chain, or the body of the chord whose branch it ends."""

    start: str
    queue: str
    chain: Chain = ()
    chord: Chain = ()


@dataclass(frozen=True)
class Fan:
    """A chord's header or a group: branches side by side, each with what follows when its last leg is over."""

    branches: tuple[Chain, ...]
    is_chord: bool


Part: TypeAlias = Sent | Fan
Chain: TypeAlias = tuple[Part, ...]


@lru_cache(maxsize=4096)
def compile(plan: Plan, start: str) -> Chain:  # noqa: A001  # as `canvas.compile`
    return _lay(plan.segment(start), nested=False)


def _lay(segment: Segment, *, nested: bool) -> Chain:
    if not segment:
        return ()
    part, after = segment[0], _lay(segment[1:], nested=nested)
    if isinstance(part, Leg):
        return (Sent(start=part.steps[0], queue=part.queue), *after)
    branches = tuple(laid for branch in part.branches if (laid := _lay(branch, nested=True)))
    if branches and after:
        return (Fan(branches, is_chord=True), *after)
    return (Fan(branches, is_chord=False),) if branches and not nested else ()


def send(chain: Chain, chord: Chain = ()) -> Iterator[Sent]:
    """The messages with which a chain begins. `chord`: what the last task of it is a branch of."""
    if not chain:
        return
    first, rest = chain[0], chain[1:]
    if isinstance(first, Sent):
        yield Sent(start=first.start, queue=first.queue, chain=rest, chord=chord)
        return
    for branch in first.branches:
        yield from send(branch, rest if first.is_chord else ())


def following(message: Sent) -> Iterator[Sent]:
    """What is sent when a leg with survivors returns: the rest of its chain, or the body of its chord."""
    if message.chain:
        yield from send(message.chain, message.chord)
    else:
        yield from send(message.chord)


def covered(message: Sent) -> frozenset[str]:
    """By `canvas.covered`."""
    return frozenset(sent.start for sent in following(message))
