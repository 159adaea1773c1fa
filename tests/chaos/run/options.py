"""What a run is told, and the settings that it gives the orchestrator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TENANTS = ("city-a", "city-b", "city-c")
SECRET = "only-for-chaos-runs-and-nothing-else"

LEASE = 4.0  # seconds, as all of these
SWEEP_EVERY = 0.5
REPUBLISH_AFTER = 2.0
CALL_TIMEOUT = 2.0  # of the lanes
LIMIT = 2 * CALL_TIMEOUT + 5.0  # of an attempt at a `query` lane, the longest
LOSSES = 50  # a step is to outlive more workers than die here while it has one: quarantine has tests of its own


@dataclass(frozen=True, kw_only=True)
class Options:
    seconds: float  # of the safety phase
    seed: int
    broker: Literal["valkey", "rabbitmq"] = "valkey"
    workers: int = 4
    most_open: int = 100  # instances under way at once
    orders: bool = False  # whether operators suspend, retry and settle
    calm: float = 1.0  # by this the faults are rarer, for a machine that has other things to do
    out: Path | None = None
    keep: Path | None = None  # where the evidence is put in any case
