"""Starts instances: through the REST API and through the Python client, each start repeated until it is answered.

What was acknowledged has to be there at the end, once: `Starts` keeps the books.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import jwt
import urllib3
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from urllib3.exceptions import HTTPError

from orchestrator import client, loader
from orchestrator.definition import ServiceStep, walk
from orchestrator.lanes import registry
from orchestrator.servers.stack import environment
from orchestrator.store.database import sqlalchemy_url
from tests.chaos.run import options
from tests.chaos.run.arena import WORKFLOWS, Arena, seeded
from tests.chaos.run.options import TENANTS

THREADS = 4
PAUSE = 0.2  # seconds between two looks whether there is room, and between two tries of a start
TIMEOUT = 5.0
FAILING = 0.35  # share of the instances whose payload names a step that its service refuses
CANCELLED = 0.03
SENT_AGAIN = 0.1  # share of the answered starts that are sent once more
MANY = 5
OPEN = text("SELECT count(*) FROM instance WHERE ended_at IS NULL AND status <> 'STUCK'")

# How often each is started, in proportion. `part` is started by `whole` only.
MIX = {
    "sequence": 5, "asking": 3, "forks": 4, "loops": 3, "decisions": 4, "later": 2, "whole": 3, "late": 2, "blind": 1, "bus": 2, "report": 2,
}  # fmt: skip


@dataclass(kw_only=True)
class Starts:
    """The books of what was ordered. `wrong`: answers that contradict each other."""

    acknowledged: dict[str, str] = field(default_factory=dict)  # idempotency key → instance id
    without_key: list[str] = field(default_factory=list)
    tenants: dict[str, str] = field(default_factory=dict)  # instance id → tenant
    cancelled: list[str] = field(default_factory=list)  # whose cancel was acknowledged
    wrong: list[str] = field(default_factory=list)
    tries: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, key: str, instance: str, tenant: str) -> None:
        with self._lock:
            known = self.acknowledged.setdefault(key, instance)
            self.tenants[instance] = tenant
            if known != instance:
                self.wrong.append(f"the start {key} was answered by {known} and by {instance}")

    def note_many(self, instances: list[str], tenant: str) -> None:
        with self._lock:
            self.without_key += instances
            self.tenants |= dict.fromkeys(instances, tenant)


class Load:
    """Threads that start instances while fewer than so many are under way. `stop` lets them finish what they began."""

    def __init__(self, arena: Arena) -> None:
        os.environ.update(environment(arena.settings))  # the Python client reads its settings there
        self._arena = arena
        self.starts = Starts()
        self._stop = threading.Event()
        self._engine = create_engine(sqlalchemy_url(arena.settings.database_url or ""), pool_size=THREADS + 1)
        self._http = urllib3.PoolManager(maxsize=2 * THREADS, retries=False, timeout=TIMEOUT)
        self._steps = _failing_steps(arena)
        self._has_room = threading.Event()
        randoms = [seeded(arena.options, f"load {number}") for number in range(THREADS)]
        self._threads = [threading.Thread(target=self._run, args=(chance,), daemon=True) for chance in randoms]
        self._threads.append(threading.Thread(target=self._look, daemon=True))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()

    def is_done(self) -> bool:
        """Whether every start that was begun has been answered."""
        return not any(thread.is_alive() for thread in self._threads)

    def _look(self) -> None:
        while not self._stop.wait(PAUSE):
            with suppress(SQLAlchemyError), self._engine.connect() as connection:
                is_room = connection.execute(OPEN).scalar_one() < self._arena.options.most_open
                (self._has_room.set if is_room else self._has_room.clear)()

    def _run(self, chance: random.Random) -> None:
        while not self._stop.is_set():
            if self._has_room.wait(PAUSE):
                self._start_one(chance)
                self._stop.wait(chance.uniform(0, 0.1))

    def _start_one(self, chance: random.Random) -> None:
        tenant, workflow = chance.choice(TENANTS), chance.choices(list(MIX), weights=list(MIX.values()))[0]
        ways: list[Callable[[random.Random, str, str], None]] = [self._by_rest, self._by_rest, self._by_client]
        chance.choice([*ways, *ways, self._many_by_client])(chance, tenant, workflow)

    def _by_rest(self, chance: random.Random, tenant: str, workflow: str) -> None:
        key, payload = str(uuid.UUID(int=chance.getrandbits(128))), self._payload(chance, tenant, workflow)

        def start() -> str:
            found = self._until_answered(lambda: self._post(tenant, workflow, payload, key))
            self.starts.note(key, found, tenant)
            return found

        found = start()
        if chance.random() < SENT_AGAIN:
            start()
        if chance.random() < CANCELLED:
            self._cancel(tenant, found)

    def _post(self, tenant: str, workflow: str, payload: Mapping[str, Any], key: str) -> str | None:
        body = json.dumps({"workflowId": workflow, "payload": payload}).encode()
        answer = self._http.request(
            "POST", f"{self._arena.settings.base_url}/api/workflows/start", body=body,
            headers={**headers(tenant), "Idempotency-Key": key},
        )  # fmt: skip
        if answer.status in (200, 201):
            return str(answer.json()["instanceId"])
        if answer.status < 500:
            self.starts.wrong.append(f"the start {key} was answered {answer.status}: {answer.data[:200]!r}")
            return "refused"
        return None

    def _cancel(self, tenant: str, instance: str) -> None:
        """Once, whatever comes of it."""
        with suppress(HTTPError):
            url = f"{self._arena.settings.base_url}/api/workflows/{instance}/cancel"
            if self._http.request("POST", url, headers=headers(tenant)).status == 202:
                self.starts.cancelled.append(instance)

    def _by_client(self, chance: random.Random, tenant: str, workflow: str) -> None:
        key, payload = str(uuid.UUID(int=chance.getrandbits(128))), self._payload(chance, tenant, workflow)

        def once() -> str:
            with Session(self._engine) as session, session.begin():
                return client.start(workflow, payload, session=session, tenant=tenant, idempotency_key=key).instance_id

        self.starts.note(key, self._until_answered(once), tenant)

    def _many_by_client(self, chance: random.Random, tenant: str, workflow: str) -> None:
        """Without a key: what was not answered is not repeated, and may have happened."""
        payloads = [self._payload(chance, tenant, workflow) for _ in range(MANY)]
        with suppress(SQLAlchemyError):
            with Session(self._engine) as session, session.begin():
                found = client.start_many(workflow, payloads, session=session, tenant=tenant)
            self.starts.note_many(found, tenant)

    def _until_answered(self, once: Callable[[], str | None]) -> str:
        while True:
            self.starts.tries += 1
            with suppress(SQLAlchemyError, HTTPError, OSError):
                if (found := once()) is not None:
                    return found
            time.sleep(PAUSE)

    def _payload(self, chance: random.Random, tenant: str, workflow: str) -> dict[str, Any]:
        fails = chance.random() < FAILING
        return {
            "agency": tenant, "fee": chance.randint(1, 300), "items": list(range(chance.randint(0, 4))),
            "failAt": chance.choice(self._steps[workflow]) if fails else "",
        }  # fmt: skip


def headers(tenant: str) -> dict[str, str]:
    claims = {"sub": "chaos", "tenant": tenant, "scope": "workflows:start workflows:operate", "aud": "orchestrator",
              "exp": int(time.time()) + 86_400}  # fmt: skip
    token = jwt.encode(claims, options.SECRET, algorithm="HS256")
    return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}


def _failing_steps(arena: Arena) -> dict[str, list[str]]:
    """The service steps of each definition."""
    lanes = registry.load(arena.settings.services_file)
    found: dict[str, list[str]] = {}
    for file in WORKFLOWS.glob("*.yaml"):
        definition = loader.load(file.read_text(), lanes=lanes)
        found[file.stem] = [one.id for one in walk(definition.steps) if isinstance(one, ServiceStep)]
    found["whole"] += found["part"]
    return found
