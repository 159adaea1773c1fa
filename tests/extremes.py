"""Definitions and instances that are larger than any page was drawn for: long, wide, deep, and with very many iterations."""

from __future__ import annotations

from tests import flights
from tests.city import City

ROUNDS = 200  # iterations of one loop
FLIGHT = 50  # steps in a row
LANES_WIDE = 12  # branches side by side
NAME = "Antragaufbauherstellungsgenehmigung-" * 3  # no browser may break it by itself

MANY = """\
id: very-many-documents
title: Very many documents
businessKey: payload.no
steps:
  - id: eachDocument
    title: Every document that was handed in
    forEach: payload.documents
    as: document
    maxConcurrency: 200
    steps:
      - {id: store, title: Store it, service: fileSvc.store}
      - {id: check, title: Check it, service: zoningSvc.check}
      - {id: judge, title: Judge it, pause: true, timeout: 5d, onTimeout: fail}
"""
WIDE = f"""\
id: everybody-is-asked
title: Everybody is asked
businessKey: payload.no
steps:
  - id: offices
    title: All offices at once
    branches:
{"".join(f"      office-{n}: [{{id: office{n}, title: 'Office number {n}, on the far side of the river', service: zoningSvc.check}}]" + chr(10) for n in range(LANES_WIDE))}\
"""
LONG = f"""\
id: a-long-flight
title: A long flight
businessKey: payload.no
steps:
{"".join(f"  - {{id: leg{n}, title: Leg number {n}, service: fileSvc.fly}}" + chr(10) for n in range(FLIGHT))}\
"""
NAMED = f"""\
id: {"a-very-long-id-" * 6}end
title: {NAME}
businessKey: payload.no
steps:
  - {{id: {"aVeryLongStepId" * 6}, title: {NAME}, pause: true, timeout: 5d, onTimeout: fail}}
"""


def played(city: City) -> dict[str, str]:
    """Name → instance id, of each one."""
    found = {}
    for name, text in (("many", MANY), ("wide", WIDE), ("long", LONG), ("named", NAMED)):
        workflow = city.airport.define(text)
        number = f"{NAME}/2026/{name}" if name == "named" else f"X-2026-{name}"
        documents = [{"name": f"plan-{one}.pdf"} for one in range(ROUNDS)] if name == "many" else []
        found[name] = city.start(workflow, {"no": number, "documents": documents, "note": NAME * 10})
    for name in ("wide", "long"):
        city.airport.ended(found[name])
    city.airport.step_is(found["named"], "aVeryLongStepId" * 6, "WAITING")
    flights.until(lambda: _waiting(city, found["many"]) == ROUNDS, "all of the documents wait")
    for item in range(3):
        city.airport.decide(found["many"], f"judge[{item}]", decision="approved")
    return found


def _waiting(city: City, instance: str) -> int:
    shown = flights.status(city.airport.system, instance)
    return sum(one["status"] == "WAITING" for one in shown["steps"])
