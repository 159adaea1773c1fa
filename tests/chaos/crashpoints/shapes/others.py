"""Who is not called over HTTP, who is told of the end, and lanes that do not take everything."""

from __future__ import annotations

from tests.chaos.crashpoints.people import holds
from tests.chaos.crashpoints.shapes.shape import Shape, shape

OTHERS: dict[str, Shape] = {
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
}  # fmt: skip
