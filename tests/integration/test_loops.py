"""Loops: for each item of a list, some side by side; and again until a condition is true."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from orchestrator import engine
from tests import flights
from tests.services import REJECTED, Airport, Answer, Seen, is_gapless, states_of

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

EACH = """
id: each
steps:
  - id: documents
    forEach: payload.documents
    as: doc
    maxConcurrency: 3
    steps:
      - {id: scan, service: keyed.scan, input: {name: "${doc.name}"}, compensate: keyed.unscan}
      - {id: file, when: doc.keep, service: far.file, input: {name: "${doc.name}", pages: "${steps.scan.result.pages}"}}
  - id: total
    service: keyed.total
    input:
      pages: "${steps.scan.map(one, one.result.pages)}"
      filed: "${steps.file.filter(one, one.status == 'SUCCEEDED').size()}"
"""


def documents(count: int) -> dict[str, Any]:
    return {"documents": [{"name": f"d{number}", "keep": number % 2 == 0} for number in range(count)]}


def number_of(seen: Seen) -> int:
    return int(seen.key.split(":")[2])


def test_each_item_is_gone_through_once_with_a_key_of_its_own(airport: Airport) -> None:
    airport.service.always("scan", Answer(reply={"pages": 7}))
    instance = airport.fly(EACH, documents(7))
    shown = airport.ended(instance)
    assert shown["status"] == "COMPLETED"
    scans = airport.service.calls("scan", instance)
    assert sorted((number_of(one), one.body["input"]["name"]) for one in scans) == [(n, f"d{n}") for n in range(7)]
    files = airport.service.calls("file", instance)
    assert sorted((number_of(one), one.body["input"]["pages"]) for one in files) == [(n, 7) for n in (0, 2, 4, 6)]
    assert airport.service.calls("total", instance)[0].body["input"] == {"pages": [7] * 7, "filed": 4}
    assert states_of(shown)["file[1]"] == "SKIPPED"
    assert is_gapless(shown)


def test_no_more_iterations_are_under_way_than_the_loop_allows(airport: Airport) -> None:
    lock, flying, most = threading.Lock(), set[str](), [0]
    three = threading.Barrier(3, timeout=15)

    def meet(seen: Seen) -> None:
        with lock:
            flying.add(seen.key)
            most[0] = max(most[0], len(flying))
        three.wait()
        with lock:
            flying.discard(seen.key)

    airport.service.always("scan", Answer(reply={"pages": 1}, then=meet))
    instance = airport.fly(EACH, documents(6))
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert most[0] == 3


def test_a_loop_over_nothing_is_done_at_once(airport: Airport) -> None:
    instance = airport.fly(EACH, {"documents": []})
    shown = airport.ended(instance)
    assert shown["status"] == "COMPLETED"
    assert airport.service.calls("total", instance)[0].body["input"] == {"pages": [], "filed": 0}


def test_what_is_no_list_fails_the_loop_with_a_reason(airport: Airport) -> None:
    shown = airport.ended(airport.fly(EACH, {"documents": "all"}))
    assert (shown["status"], shown["reason"]) == ("FAILED", "expression")


def test_when_one_iteration_fails_all_that_have_scanned_are_undone_latest_first(airport: Airport) -> None:
    airport.service.always("file", REJECTED)
    airport.service.always("scan", Answer(reply={"pages": 1}))
    definition = EACH.replace("id: each\n", "id: one-by-one\n").replace("maxConcurrency: 3", "maxConcurrency: 1")
    given = documents(3)
    given["documents"][0]["keep"] = False
    given["documents"][1]["keep"] = False
    instance = airport.fly(definition, given)
    shown = airport.ended(instance)
    assert shown["status"] == "COMPENSATED"
    assert [one["step"] for one in shown["compensations"]] == ["scan[2]", "scan[1]", "scan[0]"]
    assert airport.service.done(instance)[-3:] == ["scan:2:g1:undo", "scan:1:g1:undo", "scan:0:g1:undo"]


def test_an_operators_retry_goes_through_the_loop_again_and_repeats_only_what_was_undone(airport: Airport) -> None:
    airport.service.tell("total", REJECTED)
    airport.service.always("scan", Answer(reply={"pages": 1}))
    instance = airport.fly(EACH.replace("id: each\n", "id: again\n"), documents(4))
    assert airport.ended(instance)["status"] == "COMPENSATED"
    airport.order(engine.retry, instance)
    shown = airport.ended(instance)
    assert shown["status"] == "COMPLETED"
    assert len(airport.service.calls("scan", instance)) == 8
    assert len(airport.service.calls("file", instance)) == 2, "nothing undoes a filing, so it stands"
    assert airport.service.calls("total", instance)[-1].body["input"] == {"pages": [1] * 4, "filed": 2}


def test_a_wait_inside_an_iteration_is_decided_by_its_own_number(airport: Airport) -> None:
    instance = airport.fly("""
id: signatures
steps:
  - id: everybody
    forEach: payload.people
    as: person
    steps:
      - {id: sign, service: keyed.ask, input: {who: "${person}"}, pause: true}
  - {id: count, service: keyed.count, input: {answers: "${steps.sign.map(one, one.decision)}"}}
""", {"people": ["ann", "bob"]})  # fmt: skip
    airport.step_is(instance, "sign[0]", "WAITING")
    airport.step_is(instance, "sign[1]", "WAITING")
    calls = {one.body["input"]["who"]: one.body["callbackUrl"] for one in airport.service.calls("ask", instance)}
    assert "/sign%5B1%5D?token=" in calls["bob"]
    airport.decide(instance, "sign[1]", token=calls["bob"].partition("token=")[2], decision="approved")
    airport.decide(instance, "sign[0]", decision="approved")
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert airport.service.calls("count", instance)[0].body["input"] == {"answers": ["approved", "approved"]}


def test_a_loop_within_a_loop_sees_both_items_and_gives_lists_of_lists(airport: Airport) -> None:
    instance = airport.fly("""
id: nested-loops
steps:
  - id: houses
    forEach: payload.houses
    as: house
    steps:
      - id: rooms
        forEach: house.rooms
        as: room
        steps:
          - {id: look, service: safe.look, input: "${house.name + '/' + room}"}
      - {id: sum, service: keyed.sum, input: "${steps.look.map(one, one.result.seen)}"}
  - {id: all, service: keyed.all, input: "${steps.look.map(house, house.size())}"}
""", {"houses": [{"name": "a", "rooms": ["x", "y"]}, {"name": "b", "rooms": []}, {"name": "c", "rooms": ["z"]}]})  # fmt: skip
    airport.service.always("look", Answer(reply={"seen": 1}))
    shown = airport.ended(instance)
    assert shown["status"] == "COMPLETED", shown["reason"]
    assert sorted(one.body["input"] for one in airport.service.calls("look", instance)) == ["a/x", "a/y", "c/z"]
    sums = {one.key.split(":")[2]: one.body["input"] for one in airport.service.calls("sum", instance)}
    assert sums == {"0": [1, 1], "1": [], "2": [1]}
    assert airport.service.calls("all", instance)[0].body["input"] == [2, 0, 1]
    assert {"look[0][1]", "look[2][0]"} <= set(states_of(shown))


def test_a_step_inside_a_loop_names_what_was_done_before_it(airport: Airport) -> None:
    airport.service.always("head", Answer(reply={"title": "list"}))
    instance = airport.fly("""
id: outside
steps:
  - {id: head, service: keyed.head}
  - id: outer
    forEach: payload.rows
    as: row
    steps:
      - {id: first, service: keyed.first, input: "${row}"}
      - id: inner
        repeat: {until: steps.second.status == 'SUCCEEDED', max: 2}
        steps:
          - {id: second, service: keyed.second, input: {of: "${steps.head.result.title}", got: "${steps.first.result.row}"}}
""", {"rows": ["x", "y"]})  # fmt: skip
    airport.service.tell("first", Answer(reply={"row": "a"}), Answer(reply={"row": "a"}))
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert [one.body["input"] for one in airport.service.calls("second", instance)] == [{"of": "list", "got": "a"}] * 2


REPEATED = """
id: repeated
steps:
  - id: untilComplete
    repeat: {until: steps.review.result.complete, max: 3}
    steps:
      - {id: ask, service: keyed.ask}
      - {id: review, service: far.review, input: {asked: "${steps.ask.result.round}"}}
  - {id: last, service: keyed.last, input: "${steps.review.map(one, one.result.complete)}"}
"""


def rounds(airport: Airport, *complete: bool) -> None:
    airport.service.tell("ask", *(Answer(reply={"round": number}) for number in range(len(complete))))
    airport.service.tell("review", *(Answer(reply={"complete": one}) for one in complete))


def test_rounds_are_repeated_until_the_condition_is_true(airport: Airport) -> None:
    rounds(airport, False, True)
    instance = airport.fly(REPEATED)
    shown = airport.ended(instance)
    assert shown["status"] == "COMPLETED"
    assert airport.service.done(instance) == [
        "ask:0:g1:do", "review:0:g1:do", "ask:1:g1:do", "review:1:g1:do", "last:g1:do"
    ]  # fmt: skip
    assert [one.body["input"]["asked"] for one in airport.service.calls("review", instance)] == [0, 1]
    assert airport.service.calls("last", instance)[0].body["input"] == [False, True]


def test_after_the_last_round_it_is_exhausted(airport: Airport) -> None:
    rounds(airport, False, False, False)
    shown = airport.ended(airport.fly(REPEATED))
    assert (shown["status"], shown["reason"]) == ("FAILED", "exhausted")
    assert "was not true after 3 rounds" in next(
        one["error"] for one in shown["steps"] if one["step"] == "untilComplete"
    )


def test_an_operators_retry_of_an_exhausted_loop_allows_as_many_rounds_again(airport: Airport) -> None:
    rounds(airport, False, False, False, False, True)
    instance = airport.fly(REPEATED)
    airport.ended(instance)
    airport.order(engine.retry, instance)
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert len(airport.service.calls("ask", instance)) == 5


def test_an_exhausted_loop_that_tolerates_it_lets_the_flight_go_on(airport: Airport) -> None:
    rounds(airport, False, False, False)
    tolerant = REPEATED.replace("id: repeated", "id: tolerated").replace(
        "    steps:", "    onError: continue\n    steps:"
    )
    shown = airport.ended(airport.fly(tolerant))
    assert shown["status"] == "COMPLETED"


def test_hundreds_of_iterations_end_and_every_one_is_done_once(airport: Airport) -> None:
    instance = airport.fly("""
id: many
steps:
  - {id: all, forEach: payload.numbers, as: number, maxConcurrency: 50, steps: [ {id: one, service: safe.one, input: "${number}"} ]}
""", {"numbers": list(range(300))})  # fmt: skip
    flights.until(lambda: airport.status(instance)["ended"], "the end")
    assert sorted(one.body["input"] for one in airport.service.calls("one", instance)) == list(range(300))


def test_in_a_later_life_what_was_done_for_another_item_does_not_stand_for_this_one(airport: Airport) -> None:
    airport.service.tell("find", Answer(reply={"docs": ["A", "B"]}), Answer(reply={"docs": ["A", "C"]}))
    airport.service.tell("last", REJECTED)
    instance = airport.fly("""
id: changed-list
steps:
  - {id: find, service: keyed.find, compensate: keyed.lose}
  - {id: each, forEach: steps.find.result.docs, as: doc, steps: [ {id: send, service: keyed.send, input: "${doc}"} ]}
  - {id: last, service: keyed.last}
""")
    assert airport.ended(instance)["status"] == "COMPENSATED"
    airport.order(engine.retry, instance)
    assert airport.ended(instance)["status"] == "COMPLETED"
    sent = [(one.key.partition(":")[2], one.body["input"]) for one in airport.service.calls("send", instance)]
    assert sorted(sent) == [("send:0:g1:do", "A"), ("send:1:g1:do", "B"), ("send:1:g2:do", "C")]


def test_a_compensation_after_the_loop_still_knows_its_item(airport: Airport) -> None:
    airport.service.tell("last", REJECTED)
    instance = airport.fly("""
id: undone-items
steps:
  - id: each
    forEach: payload.docs
    as: doc
    steps: [ {id: pay, service: keyed.pay, compensate: {service: keyed.refund, input: "${doc}"}} ]
  - {id: last, service: keyed.last}
""", {"docs": ["A", "B"]})  # fmt: skip
    assert airport.ended(instance)["status"] == "COMPENSATED"
    assert sorted(one.body["input"] for one in airport.service.calls("refund", instance)) == ["A", "B"]
