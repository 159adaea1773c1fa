"""Every form in which an outcome is uncertain by every kind of lane: what becomes of the step, judged by the service's ledger.

The table and what it is written from: `tests/uncertain_table.py`. No worker runs: each test moves the steps itself, over
real HTTP, on a clock of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from tests.services import LATER, LOST_AFTER, REJECTED, RESET_AFTER, RESET_BEFORE, Airport, Answer, is_gapless
from tests.uncertain import DID, REGISTERED, Late, onward
from tests.uncertain_table import LANES, TABLE, Cell, definition, done, expected

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

TTL = 61.0  # seconds after which `brief` has forgotten


@dataclass(kw_only=True)
class Flight:
    """One cell under way."""

    tower: Airport
    lane: str
    form: str
    with_undo: bool
    instance: str = ""
    late: Late | None = None

    def start(self, *answers: Answer) -> None:
        """`answers`: of the service, in turn; further calls are done."""
        self.tower.service.tell("work", *answers)
        self.instance = self.tower.fly(definition(self.form, self.lane, with_undo=self.with_undo))

    def lose(self) -> None:
        """A worker has sent it, the service has done it, and the worker is never heard of again; or late."""
        self.late = Late(self.tower, self.instance)
        self.late.lose()

    def answer_late(self) -> None:
        if self.late is not None:
            self.late.answer()


def no_answer(tower: Airport) -> Answer:
    """Done, and the answer comes too late for every patience."""
    return replace(DID, at_once=True, until=tower.service.hold("nobody"))


def lost_lease(flight: Flight) -> None:
    flight.start()
    flight.lose()
    if flight.lane == "brief":
        flight.tower.clock.advance(TTL)


def answered(*answers: Answer) -> Callable[[Flight], None]:
    return lambda flight: flight.start(*answers)


def timeout_after_the_send(flight: Flight) -> None:
    flight.start(no_answer(flight.tower))


def exhausted(flight: Flight, unanswered: Answer) -> None:
    """On the lane that can be asked the first call never arrived, or the question would have settled it."""
    first = unanswered
    if flight.lane == "asked":
        first = replace(first, effect=False)
    elif flight.lane == "brief":
        first = replace(first, then=lambda _: flight.tower.clock.advance(TTL))
    flight.start(first, unanswered)


def step_timeout(flight: Flight) -> None:
    """The step's 90 s pass while the service, which has done it, does not answer."""
    flight.start(replace(no_answer(flight.tower), then=lambda _: flight.tower.clock.advance(91)))


def step_timeout_later(flight: Flight) -> None:
    flight.start(LATER)
    flight.tower.run(flight.instance, "work")
    flight.tower.clock.advance(91)


def late_success(flight: Flight) -> None:
    flight.start()
    flight.lose()
    if flight.lane == "brief":
        flight.tower.clock.advance(TTL)
    flight.tower.service.deaf = True
    flight.tower.service.tell("work", Answer(status=503, headers={"Retry-After": "3600"}))


HALF = replace(DID, content=b'{"result": 4')
TORN = replace(DID, content=b'{"result": 4}', headers={"Content-Length": "500", "Connection": "close"})  # it reads well
GIVEN_UP = Answer(status=504, effect=False)
FORMS: dict[str, Callable[[Flight], None]] = {
    "lost lease": lost_lease,
    "timeout after the send": timeout_after_the_send,
    "retries exhausted by timeouts": lambda flight: exhausted(flight, no_answer(flight.tower)),
    "connection reset before any reply": answered(RESET_AFTER),
    "connection closed before any reply": answered(LOST_AFTER),
    "connection closed in mid-reply": answered(TORN),
    "retries exhausted by lost connections": lambda flight: exhausted(flight, RESET_AFTER),
    "connection reset before the effect": answered(RESET_BEFORE),
    "unreadable 2xx": answered(HALF),
    "5xx": answered(replace(DID, status=500)),
    "408": answered(replace(DID, status=408)),
    "425": answered(replace(DID, status=425)),
    "5xx without an effect so far": answered(GIVEN_UP),
    "rejection after a 5xx": answered(GIVEN_UP, REJECTED),
    "step timeout in mid-call": step_timeout,
    "step timeout after a 202": step_timeout_later,
    "late success after the failure": late_success,
}


@pytest.fixture(scope="module")
def registered() -> str:
    return REGISTERED


@contextmanager
def flown(tower: Airport, form: str, lane: str, *, with_undo: bool) -> Iterator[Flight]:
    """A cell that has come to rest, with what may still come late."""
    flight = Flight(tower=tower, lane=lane, form=form, with_undo=with_undo)
    FORMS[form](flight)
    try:
        onward(tower, flight.instance)
        yield flight
    finally:
        flight.answer_late()


def cell_of(flight: Flight) -> Cell:
    """What there is: by the status, and by what the service knows."""
    shown = flight.tower.status(flight.instance)
    work = next(one for one in shown["steps"] if one["step"] == "work" and one.get("phase", "do") == "do")
    why = [one["reason"] for one in shown["history"] if one["step"] == "work" and one["verb"] in ("fail", "doubt")]
    seen = [one for one in flight.tower.service.seen if one.operation == "work"]
    assert is_gapless(shown)
    return Cell(
        instance=shown["status"],
        step=work["status"],
        why=why[-1] if why else None,
        effects=" ".join(one.rpartition(":")[2] for one in flight.tower.service.done(flight.instance)),
        calls=sum(one.method == "POST" for one in seen),
        asks=sum(one.method == "GET" for one in seen),
    )


def test_the_table_leaves_no_form_and_no_lane_out() -> None:
    assert set(TABLE) == set(FORMS)
    assert {form: tuple(row) for form, row in TABLE.items()} == dict.fromkeys(FORMS, LANES)


@pytest.mark.parametrize("with_undo", [True, False], ids=["compensated", "bare"])
@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("form", FORMS)
def test_an_uncertain_outcome_becomes_what_its_lane_allows(
    tower: Airport, form: str, lane: str, with_undo: bool
) -> None:
    with flown(tower, form, lane, with_undo=with_undo) as flight:
        assert cell_of(flight) == expected(form, lane, with_undo=with_undo)
        flight.answer_late()
        after = cell_of(flight)
        if flight.late is not None and lane == "blind":
            # Nobody has settled it yet, so the lost attempt's own definite answer does: it was the one call.
            assert replace(after, why=None) == done(calls=1)
        else:
            assert after == expected(form, lane, with_undo=with_undo), "a stale attempt changes nothing"
