"""A workflow of each shape, the service that its lanes lead to, and what has to have been done at the end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.services import HELD, REFUSED, REJECTED, Answer, Seen, Service

LANES = """
services:
  near: {{transport: http, url: "{url}/keyed", idempotency: key, timeout: 60s, breaker: none}}
  far: {{transport: http, url: "{url}/keyed", idempotency: key, timeout: 60s, breaker: none, queue: far}}
  few: {{transport: http, url: "{url}/keyed", idempotency: key, timeout: 60s, breaker: none, concurrency: 3}}
  reports: {{transport: celery, queue: reports, task: "reports.{{operation}}", idempotency: key}}
  news: {{transport: event, topic: "news.{{operation}}"}}
"""
ITEMS = 3
WORKFLOWS = {
    "child": """
  - {id: c1, service: near.c1}
  - {id: c2, service: far.c2}
""",
    "joined": """
  - {id: open, service: near.open}
  - id: both
    branches:
      left: [{id: l1, service: far.l1}, {id: l2, service: near.l2}]
      right: [{id: r1, service: near.r1}, {id: r2, service: far.r2}]
  - {id: close, service: near.close}
""",
    "decided": """
  - {id: ask, service: near.ask}
  - {id: approval, service: near.approve, pause: true, timeout: 1h}
  - {id: act, service: far.act}
""",
    "undone": """
  - {id: reserve, service: near.reserve, compensate: near.free}
  - {id: charge, service: far.charge, compensate: far.refund}
  - {id: fails, service: near.refuse}
""",
    "looped": """
  - id: each
    forEach: payload.items
    as: item
    maxConcurrency: 2
    steps: [{id: look, service: near.look}, {id: keep, service: far.keep}]
  - {id: sum, service: near.sum}
""",
    "parent": """
  - {id: before, service: near.before}
  - {id: sub, workflow: child}
  - {id: after, service: far.after}
""",
    "retried": """
  - {id: first, service: few.first}
  - {id: flaky, service: near.flaky, retry: {max: 4, backoff: 200ms}}
  - {id: told, service: news.told}
  - {id: rest, wait: 300ms}
  - {id: last, service: far.last}
""",
    "reported": """
  - {id: begin, service: near.begin}
  - {id: write, service: reports.write}
  - {id: finish, service: near.finish}
""",
}
STARTED = tuple(name for name in WORKFLOWS if name != "child")
ENDS = {name: "COMPENSATED" if name == "undone" else "COMPLETED" for name in WORKFLOWS}
# What the service has to have done for an instance, each once: in this order, where the shape has one.
EFFECTS: Mapping[str, tuple[str, ...]] = {
    "child": ("c1:g1:do", "c2:g1:do"),
    "joined": ("open:g1:do", "l1:g1:do", "l2:g1:do", "r1:g1:do", "r2:g1:do", "close:g1:do"),
    "decided": ("ask:g1:do", "approval:g1:do", "act:g1:do"),
    "undone": ("reserve:g1:do", "charge:g1:do", "charge:g1:undo", "reserve:g1:undo"),
    "looped": (*(f"{step}:{item}:g1:do" for item in range(ITEMS) for step in ("look", "keep")), "sum:g1:do"),
    "parent": ("before:g1:do", "after:g1:do"),
    "retried": ("first:g1:do", "flaky:g1:do", "last:g1:do"),
    "reported": ("begin:g1:do", "finish:g1:do"),
}
HAVE_ORDER = frozenset(WORKFLOWS) - {"joined", "looped"}


def text(workflow: str) -> str:
    return f"id: {workflow}\nsteps:{WORKFLOWS[workflow]}"


class Town(Service):
    """Answers as each shape wants it; calls are held while `gate` is not set."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.asked: Counter[str] = Counter()
        self.undecided: list[str] = []  # where decisions are to be posted
        super().__init__()
        self.always("refuse", REJECTED)

    def answer(self, seen: Seen) -> Answer:
        self.gate.wait(HELD)
        with self._lock:
            self.asked[seen.key] += 1
            is_first = self.asked[seen.key] == 1
        if seen.operation == "flaky" and is_first:
            return self._perform(seen, REFUSED)
        answer = super().answer(seen)
        if seen.operation == "approve" and is_first:
            self.undecided.append(path(seen.body))
        return answer

    def take_undecided(self) -> list[str]:
        with self._lock:
            taken, self.undecided = self.undecided, []
        return taken


def path(body: Mapping[str, Any]) -> str:
    """Which of the web servers gets a decision is the balancer's before them."""
    url = urlsplit(body["callbackUrl"])
    return f"{url.path}?{url.query}"
