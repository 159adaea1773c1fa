"""The service of `tests.services`, with the ledger that the checker reads; and an airport whose lanes lead to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from orchestrator.settings import Settings
from tests import servers, services
from tests.chaos.ledger_line import line
from tests.clock import Clock
from tests.services import Airport, Answer, Seen, Service

LANES = """
services:
  keyed: {{transport: http, url: "{url}/keyed", idempotency: key, backup: keyedDeputy.stepIn, timeout: 30s, breaker: none}}
  keyedDeputy: {{transport: http, url: "{url}/keyedDeputy", idempotency: key, timeout: 30s, breaker: none}}
  keyedFar: {{transport: http, url: "{url}/keyedFar", idempotency: key, timeout: 30s, breaker: none, queue: far}}
  asked: {{transport: http, url: "{url}/asked", idempotency: query, timeout: 30s, breaker: none}}
  safe: {{transport: http, url: "{url}/safe", idempotency: safe, timeout: 30s, breaker: none}}
  blind: {{transport: http, url: "{url}/blind", idempotency: none, timeout: 30s, breaker: none}}
"""


class Recorded(Service):
    """Writes a line for each call and question when it arrives, and for each effect when it is had."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._writing = threading.Lock()
        self._lines = 0
        super().__init__()

    def answer(self, seen: Seen) -> Answer:
        self.write("ask" if seen.method == "GET" else "call", seen)
        return super().answer(seen)

    def _perform(self, seen: Seen, answer: Answer) -> Answer:
        with self._lock:
            is_repeat = seen.lane.startswith("keyed") and seen.key in self._replies
            if is_repeat and answer.status == 200:
                return replace(answer, reply=self._replies[seen.key])
            if answer.is_done and not is_repeat:
                self.effects.append(seen.key)
                self._replies[seen.key] = answer.reply
                if seen.lane != "safe":
                    self.write("effect", seen)
        return answer

    def write(self, what: str, seen: Seen) -> None:
        with self._writing:
            self._lines += 1
            self._file.write(line(self._lines, what, lane=seen.lane, operation=seen.operation, key=seen.key,
                                  attempt=seen.attempt, content=seen.content))  # fmt: skip

    def stop(self) -> None:
        super().stop()
        self._file.close()


@contextmanager
def airport(database_url: str, broker_url: str, folder: Path) -> Iterator[Airport]:
    """Composed, without a worker; the ledger is `folder/ledger.jsonl`."""
    service = Recorded(folder / "ledger.jsonl")
    service.start()
    try:
        lanes = folder / "services.yaml"
        lanes.write_text(LANES.format(url=service.url))
        clock = Clock(database_url)
        clock.install()
        settings = Settings(database_url=database_url, broker_url=broker_url, services_file=str(lanes), auth="local",
                            lease=services.LEASE, sweep_every=0.1, republish_after=1.0)  # fmt: skip
        with services.composed(settings) as system:
            yield Airport(system=system, service=service, clock=clock)
    finally:
        service.stop()


@contextmanager
def place(postgres_server: str, template: str, places: servers.BrokerPlaces, folder: Path) -> Iterator[Airport]:
    """The same with a database and a place on the broker of its own."""
    with (
        servers.database(postgres_server, template=template) as url,
        places.one() as broker_url,
        airport(url, broker_url, folder) as found,
    ):
        yield found
