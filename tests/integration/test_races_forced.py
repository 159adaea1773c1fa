"""Each side of the race for one wait wins where it comes first, and all others are told: real locks keep the order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from orchestrator.sweep import sweep
from tests import judging, racers
from tests.judging import WINNERS, Winner, judge
from tests.racers import HOUR, TIMEOUTS, Said, Told
from tests.services import HOLD, Airport, holding, states_of
from tests.uncertain import onward

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

Others = Callable[[int], None]
STEP = "SELECT 1 FROM step WHERE instance_id = CAST(:id AS uuid) AND step = 'approval' FOR UPDATE"


class Start:
    """An instance that waits, and those who line up for its lock, one behind the other."""

    def __init__(self, tower: Airport, instance: str, pool: ThreadPoolExecutor) -> None:
        self._tower, self._instance, self._pool = tower, instance, pool
        self._running: list[Future[Told]] = []

    def line_up(self, others: Others, *sides: Said, behind: int = 0) -> None:
        for number, side in enumerate(sides, start=behind + 1):
            self._running.append(self._pool.submit(racers.say, self._tower, self._instance, side))
            others(number)

    def hold(self, statement: str = HOLD) -> AbstractContextManager[Others]:
        return holding(self._tower, self._instance, statement)

    def be_late(self) -> None:
        self._tower.clock.advance(HOUR + 60)

    def sweep(self) -> Future[int]:
        return self._pool.submit(sweep, self._tower.system)

    def told(self) -> list[Told]:
        return [one.result() for one in self._running]


def answers_first(*sides: Said) -> Callable[[Start], None]:
    """The deadline passes once the first of them has decided."""

    def run(start: Start) -> None:
        with start.hold() as others:
            start.line_up(others, *sides)
        start.told()
        start.be_late()
        start.sweep().result()

    return run


def too_late(start: Start) -> None:
    """The deadline passes while they wait for the lock; sweeps leave alone what is locked."""
    with start.hold() as others:
        start.line_up(others, "approved", "rejected", "cancel")
        start.be_late()
        assert start.sweep().result() == 0


def swept_first(start: Start) -> None:
    """A sweep has the instance's lock, and is about to write its step; they wait for the lock."""
    start.be_late()
    with start.hold(STEP) as others:
        swept = start.sweep()
        others(1)
        start.line_up(others, "approved", "rejected", "cancel", behind=1)
    assert swept.result() > 0


FIRST: dict[Winner, Callable[[Start], None]] = {
    "callback": answers_first("approved", "rejected", "cancel"),
    "contrary callback": answers_first("rejected", "approved", "cancel"),
    "cancel": answers_first("cancel", "approved", "rejected"),
    "deadline, by a late callback": too_late,
    "deadline, by a sweep": swept_first,
}


def waiting(tower: Airport, kind: str) -> str:
    racers.define(tower)
    instance = tower.start(f"race-{kind}")
    tower.run(instance, "charge")
    assert states_of(tower.status(instance))["approval"] == "WAITING"
    return instance


def test_no_side_is_left_out() -> None:
    assert set(FIRST) == set(WINNERS)


@pytest.mark.parametrize("winner", FIRST)
@pytest.mark.parametrize("kind", TIMEOUTS)
def test_who_has_the_lock_first_wins_and_the_others_are_told(tower: Airport, kind: str, winner: Winner) -> None:
    instance = waiting(tower, kind)
    with ThreadPoolExecutor(4) as pool:
        start = Start(tower, instance, pool)
        FIRST[winner](start)
        told: Sequence[Told] = start.told()
    onward(tower, instance)
    (race,) = judging.read(tower, kind, {instance: told})
    assert race.winner == winner
    assert judge(race) == []
