"""One flight of each shape, really flown: what the checker has nothing to say about."""

from __future__ import annotations

from typing import Any

from orchestrator import engine
from tests import flights
from tests.services import (
    BROKEN,
    LATER,
    LOST_AFTER,
    LOST_BEFORE,
    REFUSED,
    REJECTED,
    Airport,
    Answer,
)

PAYLOAD = {"agency": flights.TENANT, "yes": True, "no": False, "items": [{"at": 0}, {"at": 1}, {"at": 2}]}

SITE = """
id: site
steps:
  - {id: visit, service: keyed.visit, compensate: keyed.unvisit}
  - {id: report, service: asked.report}
"""

SHAPES = {
    "sequence": """
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: b, service: asked.b, compensate: keyed.ub, title: "the second"}
  - {id: c, service: blind.c}
  - {id: d, service: safe.d}
  - {id: e, service: keyedFar.e}
""",
    "parallel": """
steps:
  - {id: a, service: keyed.a}
  - {id: x, service: keyed.x, parallel: true}
  - {id: y, service: keyedFar.y, parallel: true}
  - {id: z, service: asked.z, parallel: true, when: payload.yes}
  - {id: b, service: keyed.b}
""",
    "branches": """
steps:
  - id: review
    branches:
      legal: [{id: readDeed, service: keyed.read}, {id: sign, service: keyedFar.sign}]
      fire: [{id: inspect, service: asked.inspect}, {id: again, when: payload.no, service: keyed.again}]
      both:
        - {id: p, service: keyed.p, parallel: true}
        - {id: q, service: keyed.q, parallel: true}
  - {id: last, service: keyed.last}
""",
    "switch": """
steps:
  - id: decide
    switch:
      - when: payload.no
        steps: [{id: never, service: keyed.never}]
      - when: payload.yes
        steps: [{id: one, service: keyed.one}, {id: two, service: keyed.two}]
  - id: pass
    switch: [{when: payload.no, steps: [{id: neither, service: keyed.neither}]}]
  - {id: last, service: keyed.last}
""",
    "forEach": """
steps:
  - id: each
    forEach: payload.items
    as: item
    maxConcurrency: 2
    steps:
      - {id: scan, service: keyed.scan, input: "${item.at}"}
      - {id: store, service: keyedFar.store}
  - id: none
    forEach: payload.items.filter(one, one.at > 5)
    steps: [{id: nothing, service: keyed.nothing}]
  - {id: last, service: keyed.last}
""",
    "repeat": """
steps:
  - id: until
    repeat: {until: "steps.again.result.round >= 2", max: 5}
    steps:
      - {id: first, service: keyed.first}
      - {id: again, service: keyed.round}
  - {id: last, service: keyed.last}
""",
    "timer": """
steps:
  - {id: a, service: keyed.a}
  - {id: rest, wait: 10ms}
  - {id: b, service: keyed.b}
""",
    "retry": """
steps:
  - {id: a, service: keyed.flaky, retry: {max: 5, backoff: 1ms}}
  - {id: b, service: asked.flakyAsked, retry: {max: 5, backoff: 1ms}}
  - {id: c, service: keyed.c}
""",
    "pause": """
steps:
  - {id: approve, service: keyed.approve, pause: true}
  - {id: bare, pause: true}
  - {id: later, service: keyed.later}
  - {id: done, service: keyed.done}
""",
    "escalated": """
steps:
  - {id: approve, service: keyed.ask, pause: true, timeout: 10ms, onTimeout: escalate, escalate: {timeout: 10ms, onTimeout: skip}}
  - {id: decide, service: keyed.ask, pause: true, timeout: 10ms, onTimeout: {decide: approved}}
  - {id: done, service: keyed.done}
""",
    "early": """
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: stop, when: payload.yes, end: enough}
  - {id: b, service: keyed.b}
""",
    "tolerant": """
steps:
  - {id: a, service: keyed.rejected, onError: continue}
  - {id: b, service: keyed.b}
""",
    "parent": """
steps:
  - {id: a, service: keyed.a}
  - {id: inspection, workflow: site}
  - {id: b, service: keyed.b}
""",
    "undone": """
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: plain, service: keyed.plain}
  - {id: x, service: keyed.x, compensate: keyed.ux, parallel: true}
  - {id: y, service: keyedFar.y, compensate: keyed.uy, parallel: true}
  - id: each
    forEach: payload.items
    steps: [{id: scan, service: keyed.scan, compensate: keyed.unscan}]
  - {id: boom, service: keyed.rejected, compensate: keyed.unboom}
""",
    "attempted": """
compensateOn: attempted
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: boom, service: keyed.rejected, compensate: keyed.unboom}
""",
    "uncertain": """
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: b, service: keyed.broken, compensate: keyed.ub, retry: {max: 1, backoff: 1ms}}
""",
    "wholly": """
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: inspection, workflow: site}
  - {id: boom, service: keyed.rejected}
""",
    "failing": """
steps: [{id: boom, service: keyed.rejected}]
""",
    "stopped": """
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: stop, fail: enough}
""",
}

ENDS = {"undone": "COMPENSATED", "attempted": "COMPENSATED", "uncertain": "COMPENSATED", "wholly": "COMPENSATED",
        "failing": "FAILED", "stopped": "COMPENSATED"}  # fmt: skip


def fly_all(airport: Airport) -> dict[str, str]:
    """Fly one of each to its end; traces by the names of their shapes. A worker is needed."""
    service = airport.service
    service.always("rejected", REJECTED)
    service.always("broken", BROKEN)
    service.tell("flaky", REFUSED, LOST_AFTER, LOST_BEFORE)
    service.tell("flakyAsked", REFUSED, LOST_BEFORE, LOST_AFTER)
    service.tell("later", LATER)
    service.tell("round", *(Answer(reply={"result": {"round": at}}) for at in range(3)))
    airport.define(SITE)
    flown = {shape: fly(airport, shape) for shape in SHAPES if shape != "pause"}
    for shape, trace in flown.items():
        assert airport.ended(trace)["status"] == ENDS.get(shape, "COMPLETED"), shape
    flown |= {"pause": _decided(airport), **_lives(airport), **_unknown(airport), **_parked(airport)}
    return flown


def fly(airport: Airport, shape: str, **payload: Any) -> str:
    return airport.fly(f"id: {shape.lower()}\n{SHAPES[shape]}", PAYLOAD | payload)


def _decided(airport: Airport) -> str:
    trace = fly(airport, "pause")
    airport.step_is(trace, "approve", "WAITING")
    airport.decide(trace, "approve", token=airport.token("approve"), decision="approved")
    airport.step_is(trace, "bare", "WAITING")
    airport.decide(trace, "bare", decision="approved")
    airport.step_is(trace, "later", "WAITING")
    airport.decide(trace, "later", token=airport.token("later"), result={"came": "later"})
    assert airport.ended(trace)["status"] == "COMPLETED"
    return trace


def _lives(airport: Airport) -> dict[str, str]:
    """Undone and retried; undone, stuck and tried again; cancelled in the midst."""
    service = airport.service
    service.tell("once", REJECTED)
    again = airport.fly("""
id: again
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: plain, service: keyed.plain}
  - {id: x, service: keyed.x, compensate: keyed.ux, parallel: true}
  - {id: y, service: keyedFar.y, parallel: true}
  - {id: once, service: keyed.once}
  - {id: last, service: keyed.last}
""", PAYLOAD)  # fmt: skip
    assert airport.ended(again)["status"] == "COMPENSATED"
    airport.order(engine.retry, again)
    assert airport.ended(again)["status"] == "COMPLETED"
    service.tell("unstuck", REJECTED)
    stuck = airport.fly("""
id: stuck
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: b, service: keyed.b, compensate: keyed.unstuck}
  - {id: boom, service: keyed.rejected}
""", PAYLOAD)  # fmt: skip
    airport.reached(stuck, "STUCK")
    airport.order(engine.retry, stuck)
    assert airport.ended(stuck)["status"] == "COMPENSATED"
    cancelled = airport.fly("""
id: cancelled
steps:
  - {id: a, service: keyed.a, compensate: keyed.ua}
  - {id: bare, pause: true}
""", PAYLOAD)  # fmt: skip
    airport.step_is(cancelled, "bare", "WAITING")
    airport.order(engine.suspend, cancelled)
    airport.order(engine.resume, cancelled)
    airport.order(engine.cancel, cancelled)
    assert airport.ended(cancelled)["status"] == "CANCELLED"
    return {"again": again, "stuck": stuck, "cancelled": cancelled}


def _unknown(airport: Airport) -> dict[str, str]:
    """What only a person can settle, settled in each way."""
    found = {}
    for verdict, answer in (("succeeded", LOST_AFTER), ("failed", LOST_BEFORE), ("retry", LOST_BEFORE)):
        airport.service.tell("pay", answer)
        trace = airport.fly(f"""
id: unknown-{verdict}
steps:
  - {{id: a, service: keyed.a, compensate: keyed.ua}}
  - {{id: pay, service: blind.pay, compensate: keyed.unpay}}
  - {{id: last, service: keyed.last}}
""", PAYLOAD)  # fmt: skip
        airport.reached(trace, "STUCK")
        airport.order(engine.resolve, trace, step="pay", verdict=verdict)
        airport.ended(trace)
        found[f"unknown-{verdict}"] = trace
    return found


def _parked(airport: Airport) -> dict[str, str]:
    """What has not ended, and is visibly parked."""
    waiting = airport.fly("id: waiting\nsteps: [{id: bare, pause: true}]", PAYLOAD)
    airport.reached(waiting, "WAITING")
    airport.service.tell("lost", LOST_AFTER)
    unknown = airport.fly("id: unsettled\nsteps: [{id: pay, service: blind.lost}]", PAYLOAD)
    airport.reached(unknown, "STUCK")
    suspended = airport.fly("id: suspended\nsteps: [{id: bare, pause: true}]", PAYLOAD)
    airport.step_is(suspended, "bare", "WAITING")
    airport.order(engine.suspend, suspended)
    return {"waiting": waiting, "unsettled": unknown, "suspended": suspended}
