"""The lane that the benchmark calls: it does nothing, so what is measured is everything around it."""

from __future__ import annotations

from orchestrator.lane import Call


def work(call: Call) -> None:
    """Done; the reply is null."""
