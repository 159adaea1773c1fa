"""Races for one wait: a callback against the deadline, and against a cancel and a contrary answer.

Of every race the answers, the history and the service's own ledger are held against each other (`judge`). A round is a
number of instances that wait; on a barrier each is called back, some over HTTP; in the midst of that, once some have
been answered, the clock is moved beyond all their deadlines, so that the sweeps of other processes are at it, too.
"""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from orchestrator import births, callbacks, engine
from orchestrator.errors import Conflict, Gone
from orchestrator.tokens import Wait
from tests import flights, servers, services
from tests.services import Airport, Answer, Seen
from tests.tower import call

TIMEOUTS = {
    "fail": "onTimeout: fail",
    "escalate": "onTimeout: escalate, escalate: {to: keyed.deputy, timeout: 300d}",
    "skip": "onTimeout: skip",
    "decide": "onTimeout: {decide: rejected}",
}
# What comes after says who has decided: by an effect in the service's ledger.
RACE = """
id: race-{kind}
steps:
  - {{id: charge, service: keyed.charge, compensate: keyed.refund}}
  - {{id: approval, pause: true, onReject: continue, timeout: 1h, {timeout}}}
  - {{id: granted, service: keyed.granted, when: "has(steps.approval.decision) && steps.approval.decision == 'approved'"}}
  - {{id: declined, service: keyed.declined, when: "has(steps.approval.decision) && steps.approval.decision == 'rejected'"}}
  - {{id: passed, service: keyed.passed, when: "!has(steps.approval.decision)"}}
"""
HOUR = 3600.0  # seconds
CANCELLED_TOO, CONTRARY_TOO = 4, 5  # every so many instances are also cancelled, answered to the contrary
DECIDES = ("resolve", "reject", "fail", "skip", "escalate", "end")
WAITING = "SELECT count(*) FROM step WHERE instance_id = ANY(CAST(:ids AS uuid[])) AND step = 'approval' AND state = 'WAITING'"
OPEN = "SELECT count(*) FROM instance WHERE id = ANY(CAST(:ids AS uuid[])) AND ended_at IS NULL"
HISTORY = """
SELECT instance_id, seq, verb, status, step, phase, generation, worker FROM history
WHERE instance_id = ANY(CAST(:ids AS uuid[])) ORDER BY instance_id, seq
"""
APPROVALS = """
SELECT s.instance_id, s.state, s.decision, s.decided_by, i.status FROM step s JOIN instance i ON i.id = s.instance_id
WHERE s.instance_id = ANY(CAST(:ids AS uuid[])) AND s.step = 'approval'
"""

Said = Literal["approved", "rejected", "cancel"]
Winner = Literal["callback", "contrary callback", "deadline, by a sweep", "deadline, by a late callback", "cancel"]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one racer was told."""

    said: Said
    over: Literal["http", "function"]
    answer: Literal["made", "repeated", "conflict", "gone"]
    present: str | None = None  # with a conflict: who stands in the way


@dataclass(frozen=True, kw_only=True)
class Race:
    """What became of one wait."""

    kind: str
    instance: str
    told: Sequence[Told]
    history: Sequence[Any]  # seq, verb, status, step, phase, generation, worker
    state: str
    decision: str | None
    decided_by: str | None
    status: str
    effects: Sequence[str]

    @property
    def deciding(self) -> list[Any]:
        """Entries that ended the first generation's wait."""
        return [one for one in self.history if one.step == "approval" and one.phase == "do" and one.verb in DECIDES
                and (one.generation == 1 or one.verb == "escalate")]  # fmt: skip

    @property
    def winner(self) -> Winner:
        entry = self.deciding[0]
        if entry.verb == "end":
            return "cancel"
        is_answer = entry.verb in ("resolve", "reject") and (self.decided_by != "deadline")
        if is_answer:
            return "callback" if self.decision == "approved" else "contrary callback"
        return "deadline, by a sweep" if entry.worker else "deadline, by a late callback"


def judge(race: Race) -> list[str]:
    """What is wrong with a race; nothing where one has won and all others were told."""
    if [one.seq for one in race.history] != list(range(1, len(race.history) + 1)):
        return ["its history has a gap"]
    if len(race.deciding) != 1:
        return [f"decided {len(race.deciding)} times: {[one.verb for one in race.deciding]}"]
    return [*_answers(race), *_effects(race)]


def _answers(race: Race) -> Iterator[str]:
    winner = race.winner
    made = [one for one in race.told if one.answer == "made" and one.said != "cancel"]
    if len(made) != (1 if "callback" in winner and "deadline" not in winner else 0):
        yield f"{len(made)} answers were taken, and the winner is: {winner}"
    for one in race.told:
        if one.said == "cancel":
            continue
        if one.answer in ("made", "repeated") and race.decision != one.said:
            yield f"{one} was told that it stands, and {race.decision} does"
        if one.answer == "conflict" and one.present not in (race.decision, race.state, *_statuses(race)):
            yield f"{one} was told of {one.present}, and there is {race.decision}, {race.state}, {race.status}"
        if one.answer == "conflict" and race.decision == one.said and winner != "cancel":
            yield f"{one} was refused, and the same was decided"
        if one.answer == "gone" and not winner.startswith("deadline"):
            yield f"{one} was told that its time is up, and the winner is: {winner}"
    if winner == "deadline, by a late callback" and not any(one.answer == "gone" for one in race.told):
        yield "a late callback has performed the deadline, and was not told so"


def _statuses(race: Race) -> set[str]:
    """That it has had since."""
    return {one.status for one in race.history if one.step is None} | {race.status}


def _effects(race: Race) -> Iterator[str]:
    first = race.deciding[0].verb
    wanted = {"charge:g1:do"}
    if first == "escalate":
        wanted |= {"approval:g2:do", "granted:g1:do"}
    elif first in ("end", "fail"):
        wanted |= {"charge:g1:undo"}
    elif first == "skip":
        wanted |= {"passed:g1:do"}
    else:
        wanted |= {"granted:g1:do"} if race.decision == "approved" else {"declined:g1:do"}
    found = Counter(race.effects)
    if doubles := [key for key, count in found.items() if count > 1]:
        yield f"done more than once: {doubles}"
    if race.status == "CANCELLED":  # it may have come after the decision, and in the midst of what follows
        allowed, needed = wanted | {"charge:g1:undo"}, {"charge:g1:do", "charge:g1:undo"}
        if not needed <= set(found) <= allowed:
            yield f"cancelled, and done: {sorted(found)}"
    elif set(found) != wanted:
        yield f"{race.winner}, and done: {sorted(found)} instead of {sorted(wanted)}"


@dataclass(kw_only=True)
class Course:
    """Where races are run: a web server, workers that sweep, and a service, each for itself."""

    airport: Airport
    web: str
    chance: random.Random
    in_flight: int = 0  # callbacks that were under way when the deadlines passed
    lock: threading.Lock = field(default_factory=threading.Lock)

    def define(self) -> None:
        for kind, timeout in TIMEOUTS.items():
            self.airport.define(RACE.format(kind=kind, timeout=timeout))

    def token(self, instance: str, generation: int = 1) -> str:
        wait = Wait(trace=instance, step="approval", phase="do", generation=generation)
        return self.airport.system.tokens.make(wait)

    # -- one round

    def round(self, kind: str, count: int) -> list[Race]:
        """`count` waits of one kind race at once; what became of them, once all have ended."""
        ids = self._waiting(kind, count)
        told = self._race(ids)
        flights.until(lambda: self._count(OPEN, ids) == 0, f"the ends of {count} races")
        return self._found(kind, ids, told)

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
        racers = [racer for number, instance in enumerate(ids) for racer in self._racers(number, instance)]
        self.chance.shuffle(racers)
        answered, passed = threading.Semaphore(0), self.chance.randrange(len(racers) // 6)
        start = threading.Barrier(len(racers) + 1)

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

        with ThreadPoolExecutor(len(racers) + 1) as pool:
            moved = pool.submit(move_the_clock)
            running = [(instance, pool.submit(run, racer)) for instance, racer in racers]
            moved.result()
            self.in_flight += sum(not one.done() for _, one in running)
            told = defaultdict(list)
            for instance, one in running:
                told[instance].append(one.result())
        return told

    def _racers(self, number: int, instance: str) -> Iterator[tuple[str, Callable[[], Told]]]:
        over: Literal["http", "function"] = "http" if number % 2 else "function"
        yield instance, lambda: self._answer(instance, "approved", over)
        if number % CANCELLED_TOO == 0:
            yield instance, lambda: self._cancel(instance)
        if number % CONTRARY_TOO == 0:
            yield instance, lambda: self._answer(instance, "rejected", over)

    def _answer(self, instance: str, said: Said, over: Literal["http", "function"]) -> Told:
        if over == "http":
            url = f"{self.web}/callbacks/{instance}/approval?token={self.token(instance)}"
            answer = call(url, {"decision": said})
            return _of_http(said, answer.status, answer.body)
        try:
            decided = self.airport.decide(instance, "approval", token=self.token(instance), decision=said)
        except Conflict as error:
            return Told(said=said, over=over, answer="conflict", present=error.present)
        except Gone:
            return Told(said=said, over=over, answer="gone")
        return Told(said=said, over=over, answer="repeated" if decided.repeated else "made")

    def _cancel(self, instance: str) -> Told:
        try:
            self.airport.order(engine.cancel, instance)
        except Conflict as error:
            return Told(said="cancel", over="function", answer="conflict", present=error.present)
        return Told(said="cancel", over="function", answer="made")

    def _found(self, kind: str, ids: Sequence[str], told: Mapping[str, list[Told]]) -> list[Race]:
        history: dict[str, list[Any]] = defaultdict(list)
        for row in self.airport.query(HISTORY, ids=list(ids)):
            history[row.instance_id.hex].append(row)
        effects: dict[str, list[str]] = defaultdict(list)
        for key in self.airport.service.effects:
            trace, _, rest = key.partition(":")
            effects[trace].append(rest)
        return [
            Race(kind=kind, instance=row.instance_id.hex, told=told[row.instance_id.hex], history=history[row.instance_id.hex],
                 state=row.state, decision=row.decision, decided_by=row.decided_by, status=row.status,
                 effects=effects[row.instance_id.hex])
            for row in self.airport.query(APPROVALS, ids=list(ids))
        ]  # fmt: skip

    # -- fifty at once

    def approve_at_once(self, count: int) -> tuple[list[tuple[int, str]], list[str]]:
        """So many identical approvals over HTTP, on a barrier: (status, body) of each, and the instance's effects."""
        (instance,) = self._waiting("fail", 1)
        start = threading.Barrier(count)
        url = f"{self.web}/callbacks/{instance}/approval?token={self.token(instance)}"

        def approve(_: int) -> tuple[int, str]:
            start.wait()
            answer = call(url, {"decision": "approved", "comment": "complete"})
            return answer.status, str(answer.body)

        with ThreadPoolExecutor(count) as pool:
            answers = list(pool.map(approve, range(count)))
        self.airport.ended(instance)
        return answers, self.airport.service.done(instance)


def _of_http(said: Said, status: int, body: Any) -> Told:
    if status == 200:
        return Told(said=said, over="http", answer="repeated" if body["repeated"] else "made")
    if status == 409:
        return Told(said=said, over="http", answer="conflict", present=body["present"])
    assert status == 410, (status, body)
    return Told(said=said, over="http", answer="gone")


@contextmanager
def course(postgres: str, template: str, places: servers.BrokerPlaces, folder: Path, *, seed: int,
           workers: int = 2) -> Iterator[Course]:  # fmt: skip
    """`workers` processes, whose sweeps come one after the other."""
    with ExitStack() as running:
        airport = running.enter_context(services.airport(postgres, template, places, folder, sweep_every=0.02))
        found = Course(airport=airport, web=running.enter_context(flights.web_process(airport.system)),
                       chance=random.Random(seed))  # fmt: skip
        found.define()
        airport.service.always("deputy", Answer(then=lambda seen: _approve(airport, seen)))
        for _ in range(workers):
            running.enter_context(flights.worker_process(airport.system))
        yield found


def _approve(airport: Airport, seen: Seen) -> None:
    """The deputy calls back at once, while it is still being told."""
    token = seen.body["callbackUrl"].partition("token=")[2]
    callbacks.decide(airport.system, trace=seen.body["trace"], step="approval", token=token, tenant=None,
                     decision="approved")  # fmt: skip
