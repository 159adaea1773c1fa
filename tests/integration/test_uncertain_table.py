"""Every form in which an outcome is uncertain by every kind of lane: what becomes of the step, judged by the service's ledger.

The table is written from DESIGN's promises: an effect happens once, a step that may have been done is settled by key or
query, or undone as if it was, and is UNKNOWN where its lane allows neither. Without a compensation it fails with its reason
(ADR 0007). `effects` is what the service did, in order; a `safe` lane has none to speak of, so there it counts calls.

No worker runs: each test moves the steps itself, over real HTTP, on a clock of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from tests import servers, services
from tests.services import REJECTED, Airport, Answer, is_gapless
from tests.uncertain import DID, REGISTERED, Late, onward

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

LANES = ("keyed", "brief", "asked", "safe", "blind")  # `brief` remembers a key for 60 s

TTL = 61.0  # seconds after which `brief` has forgotten


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What becomes of one."""

    instance: str  # its status
    step: str  # the state of `work`
    why: str | None  # the reason for which it failed or is UNKNOWN
    effects: str  # in the ledger
    calls: int  # that carried `work`'s key, deduplicated or not
    asks: int = 0


def done(*, calls: int, effects: str = "do", asks: int = 0) -> Cell:
    return Cell(instance="COMPLETED", step="SUCCEEDED", why=None, effects=effects, calls=calls, asks=asks)


def undone(why: str, *, calls: int, effects: str = "do undo", asks: int = 0) -> Cell:
    return Cell(instance="COMPENSATED", step="COMPENSATED", why=why, effects=effects, calls=calls, asks=asks)


def failed(why: str, *, calls: int, effects: str = "do", asks: int = 0) -> Cell:
    return Cell(instance="FAILED", step="FAILED", why=why, effects=effects, calls=calls, asks=asks)


def unknown(*, calls: int, effects: str = "do", asks: int = 0) -> Cell:
    return Cell(instance="STUCK", step="UNKNOWN", why="uncertain", effects=effects, calls=calls, asks=asks)


# One row a form, one line a lane: with a compensation, and without where that differs.
TABLE: dict[str, dict[str, tuple[Cell, ...]]] = {
    "lost lease": {
        "keyed": (done(calls=2),),
        "brief": (unknown(calls=1),),
        "asked": (done(calls=1, asks=1),),
        "safe": (done(calls=2, effects="do do"),),
        "blind": (unknown(calls=1),),
    },
    "timeout after the send": {
        "keyed": (done(calls=2),),
        "brief": (unknown(calls=1),),
        "asked": (done(calls=1, asks=1),),
        "safe": (done(calls=2, effects="do do"),),
        "blind": (unknown(calls=1),),
    },
    "retries exhausted by timeouts": {
        "keyed": (undone("uncertain", calls=2), failed("uncertain", calls=2)),
        "brief": (unknown(calls=1),),
        "asked": (done(calls=2, asks=2),),  # the second call was made, for the first never arrived; then it is asked
        "safe": (failed("exhausted", calls=2, effects="do do"),),  # there is nothing to undo
        "blind": (unknown(calls=1),),
    },
    # A gateway gives up, and the service may be at work still: that it does not know the key yet settles nothing.
    "5xx without an effect so far": {
        "keyed": (undone("uncertain", calls=1, effects="undo"), failed("uncertain", calls=1, effects="")),
        "brief": (undone("uncertain", calls=1, effects="undo"), failed("uncertain", calls=1, effects="")),
        "asked": (undone("uncertain", calls=1, effects="undo", asks=1), failed("uncertain", calls=1, effects="", asks=1)),
        "safe": (failed("exhausted", calls=1, effects=""),),
        "blind": (unknown(calls=1, effects=""),),
    },
    "rejection after a 5xx": {
        "keyed": (undone("rejected", calls=2, effects="undo"), failed("rejected", calls=2, effects="")),
        "brief": (unknown(calls=1, effects=""),),
        "asked": (undone("rejected", calls=2, effects="undo", asks=1), failed("rejected", calls=2, effects="", asks=1)),
        "safe": (failed("rejected", calls=2, effects=""),),
        "blind": (unknown(calls=1, effects=""),),
    },
    "unreadable 2xx": {
        "keyed": (done(calls=2),),
        "brief": (unknown(calls=1),),
        "asked": (done(calls=1, asks=1),),
        "safe": (done(calls=2, effects="do do"),),
        "blind": (unknown(calls=1),),
    },
    "5xx": {
        "keyed": (done(calls=2),),
        "brief": (unknown(calls=1),),
        "asked": (done(calls=1, asks=1),),
        "safe": (done(calls=2, effects="do do"),),
        "blind": (unknown(calls=1),),
    },
    "step timeout in mid-call": {
        "keyed": (undone("timeout", calls=1), failed("timeout", calls=1)),
        "brief": (unknown(calls=1),),
        "asked": (done(calls=1, asks=1),),  # its time is up, but not what was done in it
        "safe": (failed("timeout", calls=1),),
        "blind": (unknown(calls=1),),
    },
    # A worker is lost in mid-call; its step fails meanwhile, and then the call succeeds after all.
    "late success after the failure": {
        "keyed": (undone("timeout", calls=2), failed("timeout", calls=2)),
        "brief": (unknown(calls=1),),
        "asked": (unknown(calls=1, asks=6),),  # asked as often as it may be retried, it says nothing of the key
        "safe": (failed("timeout", calls=2),),
        "blind": (unknown(calls=1),),
    },
}  # fmt: skip

RETRY = {  # of the step; the waits are on a clock that is moved
    "retries exhausted by timeouts": "{max: 1, backoff: 10s, jitter: false}",
    "5xx without an effect so far": "{max: 0}",
    "late success after the failure": "{max: 5, backoff: 10s, jitter: false}",
}
LATE = "{max: 3, backoff: 90s, cap: 90s, jitter: false}"  # a repeat comes when `brief` has forgotten
TIMEOUT = {"step timeout in mid-call": "90s", "late success after the failure": "5m"}


@dataclass(kw_only=True)
class Flight:
    """One cell under way."""

    tower: Airport
    lane: str
    form: str
    with_undo: bool
    instance: str = ""
    late: Late | None = None

    def start(self) -> None:
        retry = RETRY.get(self.form, LATE)
        more = f", timeout: {TIMEOUT[self.form]}" if self.form in TIMEOUT else ""
        undo = ", compensate: sure.unwork" if self.with_undo else ""
        self.instance = self.tower.fly(f"""
id: cell
steps: [{{id: work, service: {self.lane}.work, retry: {retry}{more}{undo}}}]
""")

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


def timeout_after_the_send(flight: Flight) -> None:
    flight.tower.service.tell("work", no_answer(flight.tower))
    flight.start()


def retries_exhausted(flight: Flight) -> None:
    """On the lane that can be asked the first call never arrived, or the question would have settled it."""
    first = no_answer(flight.tower)
    if flight.lane == "asked":
        first = replace(first, effect=False)
    elif flight.lane == "brief":
        first = replace(first, then=lambda _: flight.tower.clock.advance(TTL))
    flight.tower.service.tell("work", first, no_answer(flight.tower))
    flight.start()


def unreadable(flight: Flight) -> None:
    flight.tower.service.tell("work", replace(DID, content=b'{"result": 4'))
    flight.start()


def broken(flight: Flight) -> None:
    flight.tower.service.tell("work", Answer(status=500, effect=True, reply={"result": 42}))
    flight.start()


def given_up_on(flight: Flight) -> None:
    flight.tower.service.tell("work", Answer(status=504, effect=False))
    flight.start()


def rejected_then(flight: Flight) -> None:
    flight.tower.service.tell("work", Answer(status=504, effect=False), REJECTED)
    flight.start()


def step_timeout(flight: Flight) -> None:
    """The step's 90 s pass while the service, which has done it, does not answer."""
    flight.tower.service.tell("work", replace(no_answer(flight.tower), then=lambda _: flight.tower.clock.advance(91)))
    flight.start()


def late_success(flight: Flight) -> None:
    flight.start()
    flight.lose()
    if flight.lane == "brief":
        flight.tower.clock.advance(TTL)
    flight.tower.service.deaf = True
    flight.tower.service.tell("work", Answer(status=503, headers={"Retry-After": "3600"}))


FORMS: dict[str, Callable[[Flight], None]] = {
    "lost lease": lost_lease,
    "timeout after the send": timeout_after_the_send,
    "retries exhausted by timeouts": retries_exhausted,
    "5xx without an effect so far": given_up_on,
    "rejection after a 5xx": rejected_then,
    "unreadable 2xx": unreadable,
    "5xx": broken,
    "step timeout in mid-call": step_timeout,
    "late success after the failure": late_success,
}


@pytest.fixture(scope="module")
def shared_tower(
    postgres_server: str,
    database_template: str,
    broker_places: servers.BrokerPlaces,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Airport]:
    with services.airport(
        postgres_server, database_template, broker_places, tmp_path_factory.mktemp("table"), REGISTERED
    ) as found:
        yield found


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


def expected(form: str, lane: str, *, with_undo: bool) -> Cell:
    return TABLE[form][lane][0 if with_undo else -1]


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
