"""The canary: a tiny instance of our own, start to end, about once a minute. Its age says whether all goes on.

It goes the way of any other: born READY, published by a dispatcher, taken from the broker by a worker, claimed, recorded;
its second step has the same before it. It calls no lane, so none is in its way but the engine. Its tenant has a name that
no token can carry, and no list, page or count shows it.
"""

from __future__ import annotations

from functools import lru_cache

from orchestrator import births, loader
from orchestrator.definition import Definition
from orchestrator.rows import CANARY
from orchestrator.store import canary, definitions, instances
from orchestrator.store.canary import Proof
from orchestrator.system import System

TEXT = """\
id: canary
steps:
  - id: hop
    switch:
      - otherwise: true
        steps: [{id: chirp, end: chirped}]
"""
LATE = 3  # intervals without a proof; one may be missed by a restart
KEPT = 5  # intervals after which one that has not ended is given up, and deleted
MOST = 5.0  # seconds between two looks of a worker whether it is time


def looks_every(interval: float) -> float:
    """Seconds between a worker's looks whether the next one is due."""
    return min(MOST, interval / 4) or MOST


def send(system: System) -> bool:
    """Start one, unless somebody has in this interval; the first of a database's time is everybody's. Whether it was us."""
    every = system.settings.canary
    if not every or system.stopping.is_set():
        return False
    with system.database.transaction() as connection:
        key = canary.turn(connection, every)
        if instances.by_idempotency_key(connection, CANARY, key):
            return False
        definitions.save(connection, CANARY, _definition(), TEXT)
        started = births.start_within(
            connection, system.plans, system.settings, tenant=CANARY, workflow_id="canary", payload={},
            idempotency_key=key,
        )  # fmt: skip
        if started.created:
            canary.forget(connection, older_than=KEPT * every)
    return started.created


@lru_cache(maxsize=1)
def _definition() -> Definition:
    return loader.load(TEXT)


def is_late(proof: Proof | None, interval: float) -> bool:
    """Nothing has come through for too long, or nothing ever has."""
    return proof is None or proof.age > LATE * interval
