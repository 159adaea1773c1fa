from __future__ import annotations

from typing import Any

import pytest

from orchestrator import approvals, attempts, flow, operators, states
from orchestrator.approvals import Answer
from orchestrator.calls import Skipped
from orchestrator.control import Opened
from orchestrator.definition import Retry
from orchestrator.instance import Instance
from tests.unit.flying import DONE, TRUE, Flight, block, gate, reply, service


def par(**rest: Any) -> Any:
    return block("par", (service("a"), service("b")), service("c"), **rest)


def test_a_flight_begins_with_its_first_step_and_nothing_else() -> None:
    flight = Flight.of(service("a"), service("b"))
    assert flight.states() == {"a": "READY"}
    assert [(one.seq, one.verb, one.step) for one in flight.history] == [(1, "start", None), (2, "ready", "a")]


def test_each_step_is_born_by_the_one_before_it_and_the_last_completes_the_instance() -> None:
    flight = Flight.of(service("a"), service("b"))
    flight.run("a")
    assert flight.states() == {"a": "SUCCEEDED", "b": "READY"}
    flight.run("b")
    assert (flight.status, flight.header.ended_at) == ("COMPLETED", flight.now)


def test_a_block_opens_all_its_branches_at_once_and_nobody_claims_it() -> None:
    flight = Flight.of(par(), service("last"))
    assert flight.states() == {"par": "RUNNING", "a": "READY", "c": "READY"}
    assert flight.claim("par") is None


def test_the_join_is_passed_by_whichever_branch_comes_last() -> None:
    flight = Flight.of(par(), service("last"))
    flight.run("c")
    flight.run("a")
    assert flight.state("last") == states.UNBORN
    flight.run("b")
    assert (flight.state("par"), flight.state("last")) == ("SUCCEEDED", "READY")
    assert flight.verbs("last") == ["ready"]


@pytest.mark.parametrize("way", ["callback", "skip"])
def test_a_join_can_be_passed_by_a_callback_or_a_skip(way: str) -> None:
    flight = Flight.of(block("par", service("a"), service("b", pause=True, when=TRUE)), service("last"))
    flight.run("a")
    flight.run("b", Skipped() if way == "skip" else DONE)
    if way == "callback":
        flight.on("b", approvals.decide, answer=Answer(decision="approved"))
    assert flight.state("last") == "READY"


def test_blocks_within_blocks_join_from_the_inside_out() -> None:
    flight = Flight.of(block("outer", block("inner", service("a"), service("b")), service("c")), service("last"))
    for name in "cab":
        assert flight.state("last") == states.UNBORN
        flight.run(name)
    ended = [one.step for one in flight.history if one.verb == "succeed"]
    assert ended == ["c", "a", "b", "inner", "outer"]


def test_a_conditional_block_is_asked_first_and_opened_or_gone_around() -> None:
    opened, around = Flight.of(par(when=TRUE), service("last")), Flight.of(par(when=TRUE), service("last"))
    opened.run("par", Opened())
    around.run("par", Skipped())
    assert opened.states() == {"par": "RUNNING", "a": "READY", "c": "READY"}
    assert around.states() == {"par": "SKIPPED", "last": "READY"}


def test_a_block_that_nobody_wrote_is_not_in_the_history_and_leaves_no_gap_in_it() -> None:
    flight = Flight.of(par(written=False), service("last"))
    for name in "abc":
        flight.run(name)
    assert "par" not in {one.step for one in flight.history}
    assert [one.seq for one in flight.history] == list(range(1, len(flight.history) + 1))


def test_steps_that_a_canvas_carries_on_to_are_born_published() -> None:
    for covered, published in ((frozenset("b"), True), (frozenset("c"), False), (frozenset[str](), False)):
        flight = Flight.of(service("a"), service("b"), service("c"))
        flight.apply(lambda one: flow.leave(one, "a"), covered=covered)
        assert (flight.row("b").published_at is not None) is published


# -- the status that is shown


def test_an_instance_waits_while_all_that_is_left_waits() -> None:
    flight = Flight.of(block("par", gate("a"), service("b")))
    flight.claim("a")
    flight.on("a", _park)
    assert flight.status == "RUNNING"
    flight.run("b")
    assert flight.status == "WAITING"


def _park(instance: Instance, row: Any) -> None:
    attempts.park(instance, row, None, uncertain=False)


def test_what_is_uncertain_shows_as_stuck_once_nothing_else_can_go_on() -> None:
    flight = Flight.of(block("par", service("a", "none.a"), service("b")))
    flight.run("a", reply("uncertain"))
    assert flight.status == "RUNNING"
    flight.run("b")
    assert (flight.status, flight.header.reason) == ("STUCK", "uncertain")


def test_a_status_that_only_follows_from_the_steps_has_no_entry_of_its_own() -> None:
    flight = Flight.of(gate("a"))
    flight.claim("a")
    flight.on("a", _park)
    assert flight.status == "WAITING"
    assert [one.verb for one in flight.history] == ["start", "ready", "claim", "park"]


def test_what_has_ended_is_settled_no_more() -> None:
    flight = Flight.of(service("a"))
    flight.run("a")
    before = flight.header
    flight.wait(10)
    flight.apply(lambda _: None)
    assert flight.header == before


# -- history


def test_an_entry_carries_what_its_own_transition_brought_and_nothing_of_the_one_before() -> None:
    flight = Flight.of(block("par", service("a", undo="key.ua"), service("last")))
    attempt = flight.claim("a")
    assert attempt is not None
    flight.fall()
    flight.land(attempt, reply("done", output={"big": 1}))
    told = {one.verb: (one.output, one.error) for one in flight.history if (one.step, one.phase) == ("a", "do")}
    assert (told["succeed"], told["undo"]) == (({"big": 1}, None), (None, None))


def test_an_instance_goes_only_where_the_table_leads() -> None:
    flight = Flight.of(service("a"))
    with pytest.raises(ValueError, match="restart is not allowed from RUNNING"):
        flight.apply(lambda instance: instance.note("restart", states.RUNNING))
    with pytest.raises(ValueError, match="succeed is not allowed from READY"):
        flight.on("a", lambda instance, row: instance.move(row, "succeed"))


# -- another life


def undone_flight(*steps: Any) -> Flight:
    """Flown until `last` fails, undone, and ordered to be tried again."""
    flight = Flight.of(*steps, service("last"))
    for _ in range(20):
        ready = [row for row in flight.rows.values() if row.state == "READY" and row.step != "last"]
        if not ready:
            break
        for row in ready:
            flight.run(row.step, Opened() if flight.plan.block(row.step) else DONE)
    flight.fall()
    while ready := [row for row in flight.rows.values() if row.phase == "undo" and row.state == "READY"]:
        flight.run(ready[0].step, phase="undo")
    assert flight.status in ("COMPENSATED", "FAILED")
    flight.apply(operators.retry)
    return flight


def test_in_another_life_what_stands_is_not_done_again() -> None:
    flight = undone_flight(service("a"), service("b"))
    assert flight.states() == {"a": "SUCCEEDED", "b": "SUCCEEDED", "last": "READY"}
    assert (flight.row("last").generation, flight.header.life, flight.status) == (2, 2, "RUNNING")


def test_in_another_life_what_was_undone_is_done_again_with_a_new_key() -> None:
    flight = undone_flight(service("a"), service("b", undo="key.ub"))
    assert flight.states() == {"a": "SUCCEEDED", "b": "READY", "last": "FAILED"}
    assert flight.run("b").key.endswith(":b:g2:do")
    assert flight.state("last") == "READY"


@pytest.mark.parametrize("when", [None, TRUE])
def test_in_another_life_a_block_is_gone_through_again_for_what_is_inside_it(when: Any) -> None:
    flight = undone_flight(block("par", service("a", undo="key.ua"), service("b"), when=when))
    if when:
        assert flight.state("par") == "READY"
        flight.run("par", Opened())
    assert flight.states() == {"par": "RUNNING", "a": "READY", "b": "SUCCEEDED", "last": "FAILED"}
    flight.run("a")
    assert (flight.state("par"), flight.state("last")) == ("SUCCEEDED", "READY")


def test_in_another_life_a_step_of_unknown_outcome_keeps_its_key() -> None:
    flight = Flight.of(service("a", retry=Retry(max=0)))
    flight.run("a", reply("uncertain"))
    assert flight.status == "FAILED"
    flight.apply(operators.retry)
    again = flight.claim("a")
    assert again is not None
    assert (again.generation, again.uncertain) == (1, True)


def test_in_another_life_a_step_that_failed_for_certain_has_a_new_key() -> None:
    flight = Flight.of(service("a"))
    flight.run("a", reply("rejected"))
    flight.apply(operators.retry)
    assert flight.run("a").generation == 2
    assert flight.status == "COMPLETED"


def test_a_compensation_has_a_new_key_in_another_life() -> None:
    flight = undone_flight(service("a", undo="key.ua"))
    flight.run("a")
    flight.fall()
    attempt = flight.run("a", phase="undo")
    assert attempt.key.endswith(":a:g2:undo")


def test_a_thousand_steps_that_stand_are_gone_past_without_recursion() -> None:
    flight = Flight.of(*(service(f"s{at}") for at in range(1200)), service("last"))

    def fly(instance: Instance) -> None:
        for at in range(1200):
            attempts.claim(instance, f"s{at}", "do", worker="w1", lease=30, limit=12)
            row = instance.row(f"s{at}")
            assert row is not None
            attempts.succeed(instance, row, None)

    flight.apply(fly)
    flight.fall()
    flight.apply(operators.retry)
    assert flight.state("last") == "READY"
