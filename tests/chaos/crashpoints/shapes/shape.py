"""A small workflow, and how it has to end whatever happens.

`effects` is what the service's ledger must hold at the end, exactly once each: groups in their order, `a b | c`, where
those of one group may come in any order. `step` is the effect of a step in its first generation, `-step` the effect of
its compensation, `step:g2` that of a second generation, and `step:g?` that of whichever it came to: what was rejected
after a doubt keeps its key when it is ordered again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.crashpoints.people import Person

LANES = """
services:
  keyed: {{transport: http, url: "{url}/keyed", idempotency: key, backup: keyed.deputy, timeout: 5s, breaker: none}}
  far: {{transport: http, url: "{url}/keyed", idempotency: key, timeout: 5s, breaker: none, queue: far}}
  asked: {{transport: http, url: "{url}/asked", idempotency: query, timeout: 5s, breaker: none}}
  blind: {{transport: http, url: "{url}/blind", idempotency: none, timeout: 5s, breaker: none}}
  safe: {{transport: http, url: "{url}/safe", idempotency: safe, timeout: 5s, breaker: none}}
  narrow: {{transport: http, url: "{url}/keyed", idempotency: key, timeout: 5s, breaker: none, concurrency: 1}}
  paced: {{transport: http, url: "{url}/keyed", idempotency: key, timeout: 5s, breaker: none, rate: 1/s}}
  frail: {{transport: http, url: "{url}/keyed", idempotency: key, timeout: 5s, breaker: {{failures: 2, pause: 30s}}}}
  ours: {{transport: local, module: tests.chaos.crashpoints.local_lane}}
  news: {{transport: event, topic: "news.{{operation}}"}}
  theirs: {{transport: celery, queue: theirs, task: "theirs.{{operation}}", idempotency: key}}
"""


@dataclass(frozen=True, kw_only=True)
class Shape:
    plans: tuple[str, ...]  # the definitions that it needs, its own last
    effects: str
    ends: str = "COMPLETED"
    payload: Mapping[str, Any] = field(default_factory=dict)
    people: tuple[Person, ...] = ()
    instances: int = 1
    rest: tuple[str, str] | None = None  # (effects, ends) of all instances but the first
    is_told: bool = False  # its end is told to a URL
    keeps_for: float | None = None  # seconds after the end; then it is purged
    installed: Callable[[], None] | None = None  # how every process of its installation differs
    excused: tuple[str, ...] = ()  # kinds of violation: what the checker knows nothing of

    def outcome(self, at: int) -> tuple[str, str]:
        """(effects, ends) of the instance that was started as the `at`-th, from 0."""
        return self.rest if at and self.rest else (self.effects, self.ends)

    @property
    def workflow(self) -> str:
        return self.plans[-1].split("id: ")[1].split("\n")[0].strip()


def shape(*plans: str, effects: str, **more: Any) -> Shape:
    return Shape(plans=plans, effects=effects, **more)
