"""Operators: what fell is retried, what runs is suspended for a moment, and what is uncertain gets a verdict.

A verdict comes when no attempt can be under way any more, and says what stands in the services' ledger: whoever guesses
would double effects himself. Each order is repeated until it is answered. A web server that was stopped may obey one of these
later: so at the end whatever is still suspended is resumed.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import urllib3
from urllib3.exceptions import HTTPError

from tests.chaos.ledger_service import SLOW
from tests.chaos.run import options
from tests.chaos.run.arena import Arena, seeded
from tests.chaos.run.load import headers

EVERY = 1.0  # seconds between two orders
HELD = 3.0  # seconds that something stays suspended at most
TIMEOUT = 5.0
SURELY_OVER = options.LIMIT + options.LEASE + SLOW  # seconds after which nothing of an attempt can land any more

CLAIMED = ("suspend", "resume", "retry")  # a verdict is wanted only where a lane can neither be asked nor told again

SUSPENDABLE = "i.ended_at IS NULL AND i.status IN ('RUNNING', 'WAITING', 'COMPENSATING')"
FALLEN = (
    "i.status IN ('FAILED', 'COMPENSATED') AND i.parent_id IS NULL AND i.life = 1 AND i.cancel_requested_at IS NULL"
)
PICK = """
SELECT i.id::text, i.tenant FROM instance i WHERE {what} AND i.tenant = ANY(%(tenants)s) ORDER BY random() LIMIT 1
"""
SUSPENDED = "SELECT i.id::text, i.tenant FROM instance i WHERE i.status = 'SUSPENDED' AND i.tenant = ANY(%(tenants)s)"
UNKNOWN = """
SELECT i.id::text, i.tenant, s.step, s.generation, s.phase FROM step s JOIN instance i ON i.id = s.instance_id
WHERE i.status = 'STUCK' AND s.state = 'UNKNOWN' AND i.tenant = ANY(%(tenants)s)
  AND (SELECT max(h.time) FROM history h WHERE h.instance_id = i.id) < clock_now() - make_interval(secs => %(over)s)
ORDER BY random() LIMIT 1
"""


@dataclass(kw_only=True)
class Orders:
    """What was ordered, and how it was answered: (order, status)."""

    answered: Counter[tuple[str, int]] = field(default_factory=Counter)
    acknowledged: Counter[tuple[str, str]] = field(default_factory=Counter)  # (order, instance); but for verdicts

    def note(self, order: str, instance: str, status: int) -> None:
        self.answered[order, status] += 1
        if status < 300 and order in CLAIMED:
            self.acknowledged[order, instance.replace("-", "")] += 1

    @property
    def obeyed(self) -> Counter[str]:
        found = Counter[str]()
        for (order, status), count in self.answered.items():
            found[order] += count if status < 300 else 0
        return found

    def tell(self, say: Callable[[str], None]) -> None:
        if self.answered:
            told = (f"{count} {order} answered {status}" for (order, status), count in sorted(self.answered.items()))
            say(f"orders: {', '.join(told)}")


class Operators:
    def __init__(self, arena: Arena) -> None:
        self.orders = Orders()
        self._arena, self._chance = arena, seeded(arena.options, "operators")
        self._http = urllib3.PoolManager(maxsize=2, retries=False, timeout=TIMEOUT)
        self._suspended: list[tuple[float, str, str]] = []
        self._stop, self._finish = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="operators")

    def start(self) -> None:
        if self._arena.options.orders:
            self._thread.start()

    def stop(self) -> None:
        """No new orders; what is suspended, or comes to be, is still resumed."""
        self._stop.set()

    def finish(self) -> None:
        self.stop()
        self._finish.set()
        if self._thread.is_alive():
            self._thread.join(20)

    def _run(self) -> None:
        while not self._stop.wait(self._chance.expovariate(1 / EVERY)):
            with suppress(psycopg.Error):
                self._resume(time.monotonic())
                self._chance.choice([self._suspend, self._suspend, self._retry, self._resolve])()
        while not self._finish.wait(EVERY):
            with suppress(psycopg.Error):
                self._resume_all()

    def _resume_all(self) -> None:
        for instance, tenant in self._ask(SUSPENDED):
            self._order("resume", instance, tenant)

    def _suspend(self) -> None:
        for instance, tenant in self._ask(PICK.format(what=SUSPENDABLE)):
            self._suspended.append((time.monotonic() + self._chance.uniform(0, HELD), instance, tenant))
            self._order("suspend", instance, tenant)

    def _resume(self, now: float) -> None:
        due = [one for one in self._suspended if one[0] <= now]
        self._suspended = [one for one in self._suspended if one[0] > now]
        for _, instance, tenant in due:
            self._order("resume", instance, tenant)

    def _retry(self) -> None:
        for instance, tenant in self._ask(PICK.format(what=FALLEN)):
            self._order("retry", instance, tenant)

    def _resolve(self) -> None:
        for instance, tenant, step, generation, phase in self._ask(UNKNOWN):
            key = f"{instance.replace('-', '')}:{step}:g{generation}:{phase}"
            verdict = "succeeded" if is_done(self._arena.ledger, key) else self._chance.choice(["failed", "retry"])
            self._order("resolve", instance, tenant, f"/steps/{step}/resolve", {"verdict": verdict})

    def _ask(self, question: str) -> list[Any]:
        given = {"tenants": list(options.TENANTS), "over": SURELY_OVER}
        with psycopg.connect(self._arena.settings.database_url or "", connect_timeout=5) as connection:
            return connection.execute(question.encode(), given).fetchall()

    def _order(
        self, order: str, instance: str, tenant: str, path: str = "", body: dict[str, Any] | None = None
    ) -> None:
        """Until somebody answers."""
        url = f"{self._arena.settings.base_url}/api/workflows/{instance}{path or '/' + order}"
        while not self._finish.is_set():
            with suppress(HTTPError, OSError):
                content = None if body is None else json.dumps(body).encode()
                answer = self._http.request("POST", url, body=content, headers=headers(tenant))
                if answer.status < 500:
                    self.orders.note(order, instance, answer.status)
                    return
            time.sleep(0.3)


def is_done(ledger: Path, key: str) -> bool:
    """Whether the services have had the effect."""
    with ledger.open() as file:
        return any(f'"{key}"' in line and '"what": "effect"' in line for line in file)
