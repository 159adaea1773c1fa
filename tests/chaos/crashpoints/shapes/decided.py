"""What time and people decide."""

from __future__ import annotations

from tests.chaos.crashpoints.people import approves, cancels_at, retries_when, settles, suspends_at
from tests.chaos.crashpoints.shapes.shape import Shape, shape

DECIDED: dict[str, Shape] = {
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
}  # fmt: skip
