"""Races for one wait, in a number for every change; `python -m tests.benchmarks.races` runs ten thousand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import cycle, islice

import pytest

from tests import races, servers
from tests.judging import WINNERS, judge
from tests.racers import TIMEOUTS
from tests.races import Course

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

ROUND = 20
MORE = 24  # rounds at the most, until each side has won; who wins one is left to the machine


@pytest.fixture(scope="module")
def course(
    postgres_server: str,
    database_template: str,
    broker_places: servers.BrokerPlaces,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Course]:
    folder = tmp_path_factory.mktemp("course")
    with races.course(postgres_server, database_template, broker_places, folder, seed=4) as found:
        yield found


@pytest.mark.parametrize("kind", TIMEOUTS)
def test_callback_deadline_and_cancel_race_between_processes_and_one_wins(course: Course, kind: str) -> None:
    found = [race for _ in range(2) for race in course.round(kind, ROUND)]
    assert len(found) == 2 * ROUND
    wrong = {race.instance: problems for race in found if (problems := judge(race))}
    assert wrong == {}


def test_no_side_loses_always(course: Course) -> None:
    """Races in which it did would say nothing of what happens when it wins. Each order is forced in `test_races_forced`."""
    for kind in islice(cycle(TIMEOUTS), MORE):
        if course.winners() >= set(WINNERS):
            break
        course.round(kind, ROUND)
    assert course.winners() == set(WINNERS)


def test_fifty_identical_approvals_over_http_have_one_effect_and_forty_nine_identical_answers(course: Course) -> None:
    answers, effects = course.approve_at_once(50)
    told = Counter(answers)
    assert sorted(told.values()) == [1, 49], told
    assert {status for status, _ in told} == {200}
    assert sorted(effects) == ["charge:g1:do", "granted:g1:do"]
