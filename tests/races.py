"""Races for one wait: a callback against the deadline, and against a cancel and a contrary answer.

A round is a number of instances that wait; on a barrier each is called back, some over HTTP; in the midst of that, once
some have been answered, the clock is moved beyond all their deadlines, so that the sweeps of other processes are at it,
too. What races is in `racers`, what came of it is judged by `judging`.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from orchestrator import births
from tests import flights, judging, racers, servers, services
from tests.judging import Race
from tests.racers import HOUR, Told
from tests.services import Airport
from tests.tower import call

CANCELLED_TOO, CONTRARY_TOO = 4, 5  # every so many instances are also cancelled, answered to the contrary
WAITING = "SELECT count(*) FROM step WHERE instance_id = ANY(CAST(:ids AS uuid[])) AND step = 'approval' AND state = 'WAITING'"
OPEN = "SELECT count(*) FROM instance WHERE id = ANY(CAST(:ids AS uuid[])) AND ended_at IS NULL"


@dataclass(kw_only=True)
class Course:
    """Where races are run: a web server, workers that sweep, and a service, each for itself."""

    airport: Airport
    web: str
    chance: random.Random
    in_flight: int = 0  # callbacks that were under way when the deadlines passed
    run: list[Race] = field(default_factory=list)  # all until now

    def round(self, kind: str, count: int) -> list[Race]:
        """`count` waits of one kind race at once; what became of them, once all have ended."""
        ids = self._waiting(kind, count)
        told = self._race(ids)
        flights.until(lambda: self._count(OPEN, ids) == 0, f"the ends of {count} races")
        found = judging.read(self.airport, kind, told)
        self.run += found
        return found

    def winners(self) -> set[str]:
        return {race.winner for race in self.run}

    def _waiting(self, kind: str, count: int) -> list[str]:
        system = self.airport.system
        with system.database.transaction() as connection:
            ids = births.start_many_within(
                connection, system.plans, system.settings, tenant=flights.TENANT, workflow_id=f"race-{kind}",
                payloads=[{} for _ in range(count)],
            )  # fmt: skip
        flights.until(lambda: self._count(WAITING, ids) == count, f"{count} waits")
        return ids

    def _count(self, statement: str, ids: Sequence[str]) -> int:
        return int(self.airport.query(statement, ids=list(ids))[0][0])

    def _race(self, ids: Sequence[str]) -> dict[str, list[Told]]:
        started = [racer for number, instance in enumerate(ids) for racer in self._racers(number, instance)]
        self.chance.shuffle(started)
        answered, passed = threading.Semaphore(0), self.chance.randrange(len(started) // 6)
        start = threading.Barrier(len(started) + 1)

        def run(racer: Callable[[], Told]) -> Told:
            start.wait()
            told = racer()
            answered.release()
            return told

        def move_the_clock() -> None:
            start.wait()
            for _ in range(passed):
                answered.acquire()
            self.airport.clock.advance(HOUR + 60)

        with ThreadPoolExecutor(len(started) + 1) as pool:
            moved = pool.submit(move_the_clock)
            running = [(instance, pool.submit(run, racer)) for instance, racer in started]
            moved.result()
            self.in_flight += sum(not one.done() for _, one in running)
            told = defaultdict(list)
            for instance, one in running:
                told[instance].append(one.result())
        return told

    def _racers(self, number: int, instance: str) -> Iterator[tuple[str, Callable[[], Told]]]:
        say = partial(racers.say, self.airport, instance, web=self.web if number % 2 else None)
        yield instance, partial(say, "approved")
        if number % CANCELLED_TOO == 0:
            yield instance, partial(say, "cancel")
        if number % CONTRARY_TOO == 0:
            yield instance, partial(say, "rejected")

    def approve_at_once(self, count: int) -> tuple[list[tuple[int, str]], list[str]]:
        """So many identical approvals over HTTP, on a barrier: (status, body) of each, and the instance's effects."""
        (instance,) = self._waiting("fail", 1)
        start = threading.Barrier(count)
        url = racers.link(self.airport, instance, self.web)

        def approve(_: int) -> tuple[int, str]:
            start.wait()
            answer = call(url, {"decision": "approved", "comment": "complete"})
            return answer.status, str(answer.body)

        with ThreadPoolExecutor(count) as pool:
            answers = list(pool.map(approve, range(count)))
        self.airport.ended(instance)
        return answers, self.airport.service.done(instance)


@contextmanager
def course(postgres: str, template: str, places: servers.BrokerPlaces, folder: Path, *, seed: int,
           workers: int = 2) -> Iterator[Course]:  # fmt: skip
    """`workers` processes, whose sweeps come one after the other."""
    with ExitStack() as running:
        airport = running.enter_context(services.airport(postgres, template, places, folder, sweep_every=0.02))
        web = running.enter_context(flights.web_process(airport.system))
        racers.define(airport)
        for _ in range(workers):
            running.enter_context(flights.worker_process(airport.system))
        yield Course(airport=airport, web=web, chance=random.Random(seed))
