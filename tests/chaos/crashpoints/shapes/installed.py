"""Installations that differ: waves, slow and cut off processes, a restored database."""

from __future__ import annotations

from tests.chaos.crashpoints.installed import cut_off, in_a_hurry, in_waves, slowly
from tests.chaos.crashpoints.people import approves, restores_at, settles
from tests.chaos.crashpoints.shapes.shape import Shape, shape

INSTALLED: dict[str, Shape] = {
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
""", effects="a | c | d", people=(restores_at("b"), approves("b"), settles("d")),
    excused=("history-illegal",)),  # attempts jump after a restore
}  # fmt: skip
