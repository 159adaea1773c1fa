"""Steps that follow one another, side by side, in loops; that wait, and are tried again."""

from __future__ import annotations

from tests.chaos.crashpoints.people import approves, calls_back
from tests.chaos.crashpoints.shapes.shape import Shape, shape

FLOW: dict[str, Shape] = {
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
}  # fmt: skip
