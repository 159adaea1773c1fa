"""What the tests of uncertain outcomes share: lanes of every kind, a call whose answer is held, and the way to rest."""

from __future__ import annotations

import threading
from datetime import datetime

from orchestrator.sweep import sweep
from tests import flights
from tests.services import Airport, Answer, verbs

# The service of `brief` has forgotten every key when the next call comes: a call too many would be an effect too many.
REGISTERED = """
services:
  keyed: {{transport: http, url: "{url}/keyed", idempotency: key, timeout: 500ms, breaker: none}}
  brief: {{transport: http, url: "{url}/blind", idempotency: key, keyTtl: 60s, timeout: 500ms, breaker: none}}
  asked: {{transport: http, url: "{url}/asked", idempotency: query, timeout: 500ms, breaker: none}}
  safe: {{transport: http, url: "{url}/safe", idempotency: safe, timeout: 500ms, breaker: none}}
  blind: {{transport: http, url: "{url}/blind", idempotency: none, timeout: 500ms, breaker: none}}
  sure: {{transport: http, url: "{url}/keyed", idempotency: key, timeout: 5s, breaker: none}}
  slow: {{transport: http, url: "{url}/blind", idempotency: none, timeout: 30s, breaker: none}}
"""
LEASE_OVER = 6.0  # seconds
DID = Answer(effect=True, reply={"result": 42})
CLAIMABLE = """
SELECT step, phase, due_at FROM step WHERE instance_id = CAST(:id AS uuid) AND state IN ('READY', 'RETRYING')
ORDER BY due_at NULLS FIRST, "order"
"""


class Late(threading.Thread):
    """A worker that has sent a call, which is done, and is not heard of until its answer is given."""

    def __init__(self, tower: Airport, instance: str, step: str = "work") -> None:
        super().__init__(name="late", daemon=True)
        self._tower, self._instance, self._step = tower, instance, step
        self._release = threading.Event()

    def lose(self) -> None:
        """Its lease runs out while the service has done it and does not answer."""
        service = self._tower.service
        service.tell(self._step, Answer(effect=True, reply={"result": 42}, at_once=True, until=self._release))
        self.start()
        flights.until(lambda: f"{self._step}:g1:do" in service.done(self._instance), "the effect")
        self._tower.clock.advance(LEASE_OVER)
        sweep(self._tower.system)

    def run(self) -> None:
        self._tower.run(self._instance, self._step)

    def answer(self) -> None:
        """The service answers after all, and the worker records what it may."""
        self._release.set()
        self.join(timeout=flights.PATIENCE)
        assert not self.is_alive()


def onward(tower: Airport, instance: str) -> None:
    """What workers and sweeps do, for as long as there is something to do; what is due later is made due."""
    for _ in range(30):
        sweep(tower.system)
        rows = tower.query(CLAIMABLE, id=instance)
        if not rows:
            return
        step, phase, due = rows[0]
        tower.clock.advance(max(0.0, _seconds_to(tower, due)))
        tower.run(instance, step, phase)
    raise AssertionError(f"{instance} does not come to rest: {verbs(tower.status(instance), 'work')}")


def _seconds_to(tower: Airport, due: datetime | None) -> float:
    return (due - tower.clock.now()).total_seconds() + 0.01 if due else 0.0
