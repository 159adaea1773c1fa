"""The number that every message of ours carries: which words it is written in.

docs/how-to/roll-out-a-new-version.md says what may change without another number, and how a number is raised: first a
program that reads it, then one that writes it. Whatever the number, a message's first argument stays the list of
instances that it is about.
"""

from __future__ import annotations

from typing import Any

HEADER = "orchestrator_protocol"
FIRST = 1  # of messages that say nothing: they were written before messages said it
WRITES = 1
READS = frozenset({1})


def headers() -> dict[str, int]:
    """What a message that is sent now carries."""
    return {HEADER: WRITES}


def of(request: Any) -> Any:
    """The number in a Celery task's request; whatever stands there, for it is not ours alone to write."""
    return request.get(HEADER, FIRST)


def is_read(number: Any) -> bool:
    return type(number) is int and number in READS
