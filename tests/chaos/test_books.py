"""What was acknowledged to whoever started, decided, cancelled and ordered is held against what was kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator import callbacks, engine
from orchestrator.system import System
from tests import flights
from tests.chaos.run import own_checks
from tests.chaos.run.decider import Answers
from tests.chaos.run.ending import Ending
from tests.chaos.run.load import Starts
from tests.chaos.run.operators import Orders
from tests.chaos.run.own_checks import Kept
from tests.chaos.run.stillness import Course

pytestmark = [pytest.mark.chaos]

WAITS = "id: waits\nsteps: [{id: a, pause: true}]"
KEPT = Kept(
    tenants={"one": "city-a", "two": "city-b"}, decisions=frozenset({("one", "approval", "approved")}),
    cancelled=frozenset({"two"}), ordered={("suspend", "one"): 1, ("resume", "one"): 1},
)  # fmt: skip
URL = "http://127.0.0.1:1/callbacks/one/approval?token=secret"


def books() -> tuple[Starts, Answers, Orders]:
    """Of a run that agrees with what was kept."""
    starts, answers, orders = Starts(), Answers(), Orders()
    starts.note("key", "one", "city-a")
    starts.note_many(["two"], "city-b")
    starts.cancelled.append("two")
    answers.confirmed[URL].add("approved")
    orders.note("suspend", "one", 200)
    orders.note("suspend", "one", 409)
    orders.note("resume", "one", 200)
    return starts, answers, orders


def test_books_that_agree_are_no_violation() -> None:
    assert own_checks.violations(KEPT, *books(), Ending(took=1.0)) == []


WRONG: dict[str, Callable[[Starts, Answers, Orders], object]] = {
    "VIOLATION lost three: ": lambda starts, *_: starts.note("another", "three", "city-a"),
    "VIOLATION lost four: ": lambda starts, *_: starts.note_many(["four"], "city-b"),
    "VIOLATION tenant one: ": lambda starts, *_: starts.note("key", "one", "city-b"),
    "VIOLATION start -: the start key was answered by one and by two": lambda starts, *_: starts.note("key", "two", "city-b"),
    "VIOLATION decision -: both were confirmed": lambda _, answers, *__: answers.confirmed[URL].add("rejected"),
    "VIOLATION decision one: approval was confirmed to be rejected": lambda _, answers, *__: answers.confirmed[URL].add("rejected"),
    "VIOLATION decision two: ": lambda _, answers, *__: answers.confirmed[URL.replace("one", "two")].add("approved"),
    "VIOLATION cancel one: ": lambda starts, *_: starts.cancelled.append("one"),
    "VIOLATION order one: suspend was acknowledged 2 times, and 1": lambda *books: books[2].note("suspend", "one", 200),
    "VIOLATION order two: retry was acknowledged 1 times, and 0": lambda *books: books[2].note("retry", "two", 200),
}  # fmt: skip


@pytest.mark.parametrize("reported", WRONG)
def test_what_was_acknowledged_and_was_not_kept_is_reported(reported: str) -> None:
    wrong = books()
    WRONG[reported](*wrong)
    told = own_checks.violations(KEPT, *wrong, Ending(took=1.0))
    assert [one for one in told if one.startswith(reported)], told


def test_what_is_left_open_or_idle_is_reported() -> None:
    still = Course(instance="one", workflow="sequence", status="RUNNING", began=0.0, ended=None, entries=())
    ending = Ending(took=None, left=("instance=one",), courses=(still,), until=1e6)
    told = own_checks.violations(KEPT, *books(), ending)
    assert [" ".join(one.split()[:3]) for one in told] == ["VIOLATION liveness -:", "VIOLATION idle one"]


@pytest.mark.integration
def test_what_was_kept_is_read_from_the_tables(worker: System) -> None:
    flights.define(worker, WAITS)
    instance = flights.start(worker, "waits", {})
    flights.reached(worker, instance, "WAITING")
    for order in (engine.suspend, engine.resume, engine.suspend, engine.resume):
        order(worker, tenant=worker.settings.tenant, instance_id=instance)
    callbacks.decide(worker, trace=instance, step="a", token=None, tenant=worker.settings.tenant, decision="approved")
    flights.ended(worker, instance)
    kept = own_checks.read(worker.settings.database_url or "")
    assert kept.tenants[instance] == worker.settings.tenant
    assert (instance, "a", "approved") in kept.decisions
    assert not kept.cancelled
    assert kept.ordered == {("suspend", instance): 2, ("resume", instance): 2}
