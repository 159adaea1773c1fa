"""The small workflows, one of each shape, and how each has to end whatever happens.

`effects` is what the service's ledger must hold at the end, exactly once each: groups in their order, `a b | c`, where
those of one group may come in any order. `step` is the effect of a step in its first generation, `-step` the effect of
its compensation, `step:g2` that of a second generation, and `step:g?` that of whichever it came to: what was rejected
after a doubt keeps its key when it is ordered again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.crashpoints.installed import cut_off, in_a_hurry, in_waves, slowly
from tests.chaos.crashpoints.people import (
    Person,
    approves,
    calls_back,
    cancels_at,
    holds,
    restores_at,
    retries_when,
    settles,
    suspends_at,
)

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

    def outcome(self, at: int) -> tuple[str, str]:
        """(effects, ends) of the instance that was started as the `at`-th, from 0."""
        return self.rest if at and self.rest else (self.effects, self.ends)

    @property
    def workflow(self) -> str:
        return self.plans[-1].split("id: ")[1].split("\n")[0].strip()


def shape(*plans: str, effects: str, **more: Any) -> Shape:
    return Shape(plans=plans, effects=effects, **more)


SITE = """
id: site
steps:
  - {id: visit, service: keyed.visit, compensate: keyed.unvisit}
  - {id: report, service: keyed.report}
"""

SHAPES: dict[str, Shape] = {
    "sequence": shape("""
id: sequence
steps:
  - {id: a, service: keyed.a}
  - {id: b, service: far.b}
  - {id: c, service: keyed.c}
""", effects="a | b | c"),
    "parallel": shape("""
id: parallel
steps:
  - {id: a, service: keyed.a, parallel: true}
  - {id: b, service: far.b, parallel: true}
  - {id: c, service: keyed.c}
""", effects="a b | c"),
    "branches": shape("""
id: branches
steps:
  - id: review
    branches:
      legal: [ {id: a, service: keyed.a}, {id: b, service: far.b} ]
      fire: [ {id: c, service: keyed.c} ]
  - {id: d, service: keyed.d}
""", effects="a b c | d"),
    "forEach": shape("""
id: for-each
steps:
  - id: each
    forEach: payload.items
    as: item
    maxConcurrency: 2
    steps: [ {id: a, service: keyed.a, input: {item: "${item}"}} ]
  - {id: z, service: keyed.z}
""", effects="a:0 a:1 a:2 | z", payload={"items": ["x", "y", "z"]}),
    "repeat": shape("""
id: repeats
steps:
  - id: until
    repeat: {until: "steps.a.result.key == 'a:1:g1:do'", max: 5}
    steps: [ {id: a, service: keyed.a} ]
  - {id: z, service: keyed.z}
""", effects="a:0 | a:1 | z"),
    "switch": shape("""
id: switches
steps:
  - id: ways
    switch:
      - when: payload.agency == 'nobody'
        steps: [ {id: a, service: keyed.a} ]
      - otherwise: true
        steps: [ {id: b, service: keyed.b}, {id: c, when: "false", service: keyed.c}, {id: stop, end: enough} ]
  - {id: z, service: keyed.z}
""", effects="b"),
    "pause": shape("""
id: pauses
steps:
  - {id: a, service: keyed.a, pause: true}
  - {id: b, pause: true}
  - {id: c, service: keyed.c}
""", effects="a | c", people=(approves("a"), approves("b"))),
    "later": shape("""
id: answers-later
steps:
  - {id: a, service: keyed.later, compensate: keyed.later}
  - {id: b, service: keyed.reject}
""", effects="a | -a", ends="COMPENSATED", people=(calls_back("a"), calls_back("a", "undo"))),
    "retry": shape("""
id: retries
steps:
  - {id: a, service: keyed.flaky, retry: {max: 5, jitter: false}}
  - {id: b, service: safe.busy}
  - {id: c, service: asked.flaky, retry: {max: 5, jitter: false}}
""", effects="a | b | c"),
    "timer": shape("""
id: waits
steps:
  - {id: a, service: keyed.a}
  - {id: rest, wait: 24h}
  - {id: b, service: keyed.b}
""", effects="a | b"),
    "compensation": shape("""
id: compensates
steps:
  - {id: a, service: keyed.a, compensate: keyed.undoA}
  - {id: b, service: keyed.b, compensate: far.undoB, parallel: true}
  - {id: c, service: asked.c, compensate: asked.undoC, parallel: true}
  - {id: d, service: keyed.reject}
""", effects="a | b c | -b -c | -a", ends="COMPENSATED"),
    "stuck": shape("""
id: gets-stuck
steps:
  - {id: a, service: keyed.a, compensate: keyed.undoA}
  - {id: b, service: keyed.b, compensate: keyed.rejectUntilMended}
  - {id: c, service: keyed.reject}
""", effects="a | b | -b:g? | -a", ends="COMPENSATED", people=(retries_when("STUCK"),)),
    "subworkflow": shape(SITE, """
id: has-a-child
steps:
  - {id: a, service: keyed.a}
  - {id: child, workflow: site}
  - {id: b, service: keyed.b}
""", effects="a | visit | report | b"),
    "recalled": shape(SITE, """
id: recalls-its-child
steps:
  - {id: a, service: keyed.a, compensate: keyed.undoA}
  - {id: child, workflow: site}
  - {id: b, service: keyed.reject}
""", effects="a | visit | report | -visit | -a", ends="COMPENSATED"),
    "abandoned": shape("""
id: patient-site
steps:
  - {id: visit, service: keyed.visit, compensate: keyed.unvisit}
  - {id: wait, pause: true}
""", """
id: abandons-its-child
steps:
  - {id: child, workflow: patient-site, parallel: true}
  - {id: b, pause: true, parallel: true}
""", effects="visit | -visit", ends="FAILED", people=(approves("b", "rejected", once="wait"),)),
    "event": shape("""
id: publishes
steps:
  - {id: a, service: news.told, compensate: news.untold}
  - {id: b, service: news.answered, pause: true}
  - {id: c, service: keyed.reject}
""", effects="a b | -a", ends="COMPENSATED"),
    "celery": shape("""
id: asks-another-team
steps:
  - {id: a, service: theirs.write, compensate: theirs.unwrite}
  - {id: b, service: keyed.reject}
""", effects="a | -a", ends="COMPENSATED"),
    "local": shape("""
id: calls-ours
steps:
  - {id: a, service: ours.write, compensate: ours.unwrite}
  - {id: b, service: keyed.reject}
""", effects="a | -a", ends="COMPENSATED"),
    "told": shape("""
id: is-told
steps:
  - {id: a, service: keyed.a}
""", effects="a | completion", is_told=True),
    "purged": shape("""
id: is-purged
steps:
  - {id: a, service: keyed.a}
""", effects="a", keeps_for=86400.0, ends=""),
    "admission": shape("""
id: is-admitted
steps:
  - {id: a, service: narrow.a}
  - {id: b, service: paced.b, compensate: narrow.undoB}
  - {id: c, service: paced.reject}
""", effects="a | b | -b", ends="COMPENSATED", instances=2),
    "breaker": shape("""
id: meets-a-breaker
steps:
  - {id: a, service: frail.flaky, retry: {max: 9, jitter: false}}
  - {id: b, service: frail.b}
""", effects="a | b", people=(holds("frail"),)),
    "escalation": shape("""
id: escalates
steps:
  - {id: a, service: keyed.a, pause: true, timeout: 48h, onTimeout: escalate, escalate: {timeout: 24h, onTimeout: fail}}
  - {id: b, service: keyed.b}
""", effects="a | a:g2 | b", people=(approves("a", generation=2),)),
    "timeout": shape("""
id: times-out
steps:
  - {id: a, service: keyed.a, compensate: keyed.undoA}
  - {id: b, service: keyed.b, pause: true, timeout: 48h, onTimeout: fail}
""", effects="a | b | -a", ends="COMPENSATED"),
    "deadline": shape("""
id: has-a-deadline
deadline: 30d
steps:
  - {id: a, service: keyed.a, compensate: keyed.undoA}
  - {id: b, pause: true}
""", effects="a | -a", ends="COMPENSATED"),
    "cancel": shape("""
id: is-cancelled
steps:
  - {id: a, service: keyed.a, compensate: keyed.undoA}
  - {id: b, pause: true}
""", effects="a | -a", ends="CANCELLED", people=(cancels_at("b"),)),
    "secondLife": shape("""
id: lives-again
steps:
  - {id: a, service: keyed.a, compensate: keyed.undoA}
  - {id: each, forEach: payload.items, as: item, steps: [ {id: b, service: keyed.b} ]}
  - {id: c, service: keyed.rejectUntilMended}
""", effects="a | b:0 | -a | a:g2 | c:g?", payload={"items": [1]}, people=(retries_when("COMPENSATED"),)),
    "suspended": shape("""
id: is-suspended
steps:
  - {id: a, service: keyed.a}
  - {id: b, pause: true}
  - {id: c, service: keyed.c}
""", effects="a | c", people=(suspends_at("b"), approves("b"))),
    "blind": shape("""
id: is-blind
steps:
  - {id: a, service: blind.a, compensate: blind.undoA}
  - {id: b, service: blind.reject}
""", effects="a | -a", ends="COMPENSATED", people=(settles("a"), settles("b", otherwise="failed"))),
    "wave": shape("""
id: goes-in-waves
steps:
  - {id: a, service: keyed.a}
  - {id: b, service: keyed.b, parallel: true}
  - {id: c, service: far.c, parallel: true}
  - {id: d, service: keyed.d}
""", effects="a | b c | d", instances=3, installed=in_waves),
    "brokenWave": shape("""
id: goes-in-broken-waves
steps:
  - {id: a, service: keyed.a, compensate: keyed.undoA}
  - {id: b, service: keyed.rejectFirst}
  - {id: c, service: keyed.c}
""", effects="a | -a", ends="COMPENSATED", rest=("a | b | c", "COMPLETED"), instances=3, installed=in_waves),
    "hurriedWave": shape("""
id: goes-in-hurried-waves
steps:
  - {id: a, service: keyed.a}
  - {id: b, service: keyed.b}
""", effects="a | b", instances=3, installed=in_a_hurry),
    "slow": shape("""
id: is-slow
steps:
  - {id: a, service: keyed.a}
  - {id: b, service: blind.b}
""", effects="a | b", people=(settles("b"),), installed=slowly),
    "cutOff": shape("""
id: is-cut-off
steps:
  - {id: a, service: keyed.a}
  - {id: b, service: asked.b}
""", effects="a | b", installed=cut_off),
    "restored": shape("""
id: is-restored
steps:
  - {id: a, service: keyed.a}
  - {id: b, pause: true}
  - {id: c, service: asked.c}
  - {id: d, service: blind.d}
""", effects="a | c | d", people=(restores_at("b"), approves("b"), settles("d"))),
}  # fmt: skip
