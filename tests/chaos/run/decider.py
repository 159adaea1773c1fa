"""The people and the services that call back: each decision several times, some near the deadline, some against another.

Whom to call stands in the services' `asked.jsonl`. Every answer is kept: nobody may be told that both sides have won.
"""

from __future__ import annotations

import heapq
import json
import random
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from tests.chaos.run.arena import Arena, seeded

LOOK_EVERY = 0.1  # seconds
THREADS = 8
SILENT, IN_CONFLICT, REJECTED = 0.15, 0.15, 0.2  # shares of the decisions
DEADLINE = 4.0  # seconds: of the workflows' waits, to be raced


@dataclass(kw_only=True)
class Answers:
    """By callback URL: which decisions were confirmed."""

    confirmed: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    by_status: Counter[int] = field(default_factory=Counter)

    @property
    def wrong(self) -> list[str]:
        return [
            f"both were confirmed at {url.partition('?')[0]}" for url, won in self.confirmed.items() if len(won) > 1
        ]

    @property
    def promised(self) -> set[tuple[str, str, str]]:
        """(trace, step, decision), of each that was confirmed to somebody."""
        return {(*_of(url), decision) for url, decisions in self.confirmed.items() for decision in decisions}


def _of(url: str) -> tuple[str, str]:
    trace, step = urlsplit(url).path.removeprefix("/callbacks/").split("/")
    return trace, step


class Decider:
    def __init__(self, arena: Arena) -> None:
        self.answers = Answers()
        self._arena, self._chance = arena, seeded(arena.options, "decider")
        self._stop = threading.Event()
        self._http = urllib3.PoolManager(maxsize=THREADS, retries=False, timeout=5.0)
        self._planned: list[tuple[float, int, str, dict[str, Any]]] = []
        self._thread = threading.Thread(target=self._run, daemon=True, name="decider")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        self._arena.asked.touch()
        with self._arena.asked.open() as asked, ThreadPoolExecutor(THREADS) as pool:
            rest = ""
            while not self._stop.wait(LOOK_EVERY):
                *lines, rest = (rest + asked.read()).split("\n")
                for line in lines:
                    self._plan(json.loads(line))
                while self._planned and self._planned[0][0] <= time.monotonic():
                    _, _, url, decision = heapq.heappop(self._planned)
                    pool.submit(self._say, url, decision)

    def _plan(self, asked: dict[str, Any]) -> None:
        chance = self._chance
        if asked["lane"].endswith("Later"):
            self._say_often(asked["url"], {"result": {"later": True}}, chance.uniform(0, 1.0))
            return
        if chance.random() < SILENT:
            return
        decision = "rejected" if chance.random() < REJECTED else "approved"
        after = chance.choice([chance.uniform(0, 1.5), chance.uniform(0, 1.5), DEADLINE + chance.uniform(-0.5, 0.5)])
        self._say_often(asked["url"], {"decision": decision}, after)
        if chance.random() < IN_CONFLICT:
            other = "approved" if decision == "rejected" else "rejected"
            self._say_often(asked["url"], {"decision": other}, after)

    def _say_often(self, url: str, decision: dict[str, Any], after: float) -> None:
        chance: random.Random = self._chance
        for _ in range(chance.randint(1, 3)):
            at = time.monotonic() + after + chance.choice([0.0, chance.uniform(0, 0.5)])
            heapq.heappush(self._planned, (at, chance.getrandbits(64), url, decision))

    def _say(self, url: str, decision: dict[str, Any]) -> None:
        """Until somebody answers."""
        body = json.dumps(decision).encode()
        while not self._stop.is_set():
            with suppress(HTTPError, OSError):
                answer = self._http.request("POST", url, body=body, headers={"Content-Type": "application/json"})
                if answer.status < 500:
                    self.answers.by_status[answer.status] += 1
                    if answer.status == 200:
                        self.answers.confirmed[url].add(decision.get("decision", "approved"))
                    return
            self._stop.wait(0.3)
