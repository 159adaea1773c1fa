"""What was done is undone, by compensations and by sub-workflows."""

from __future__ import annotations

from tests.chaos.crashpoints.people import approves, retries_when
from tests.chaos.crashpoints.shapes.shape import Shape, shape

SITE = """
id: site
steps:
  - {id: visit, service: keyed.visit, compensate: keyed.unvisit}
  - {id: report, service: keyed.report}
"""

UNDO: dict[str, Shape] = {
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
}  # fmt: skip
