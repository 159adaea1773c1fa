"""Sequences, neighbours side by side, branches within branches, conditions, and what is handed on."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from celery import chain, group
from celery.canvas import _chain

from tests import flights
from tests.services import REJECTED, Airport, Answer, is_gapless, order_of, states_of

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]


def test_steps_in_a_sequence_run_one_after_the_other_and_once_each(airport: Airport) -> None:
    instance = airport.fly("""
id: sequence
steps:
  - {id: one, service: keyed.one}
  - {id: two, service: far.two}
  - {id: three, service: safe.three}
  - {id: four, service: keyed.four}
""")
    shown = airport.ended(instance)
    assert shown["status"] == "COMPLETED"
    assert airport.service.done(instance) == ["one:g1:do", "two:g1:do", "three:g1:do", "four:g1:do"]
    assert order_of(shown, "succeed") == ["one", "two", "three", "four"]
    assert is_gapless(shown)


def test_neighbours_marked_parallel_are_in_flight_at_the_same_time_and_are_joined(airport: Airport) -> None:
    together = threading.Barrier(3, timeout=15)
    for operation in ("a", "b", "c"):
        airport.service.tell(operation, Answer(then=lambda _: _meet(together)))
    instance = airport.fly("""
id: neighbours
steps:
  - {id: a, service: keyed.a, parallel: true}
  - {id: b, service: far.b, parallel: true}
  - {id: c, service: safe.c, parallel: true}
  - {id: after, service: keyed.after}
""")
    shown = airport.ended(instance)
    assert shown["status"] == "COMPLETED"
    assert not together.broken
    assert airport.service.done(instance)[-1] == "after:g1:do"
    assert sorted(airport.service.done(instance)[:-1]) == ["a:g1:do", "b:g1:do", "c:g1:do"]
    assert set(states_of(shown)) == {"a", "b", "c", "after"}, "the block that nobody wrote is not shown"


def _meet(barrier: threading.Barrier) -> None:
    barrier.wait()


NESTED = """
id: nested
steps:
  - id: outer
    branches:
      left:
        - {id: l1, service: keyed.work}
        - id: inner
          branches:
            x:
              - {id: x1, service: far.work}
              - id: deepest
                branches:
                  p: [{id: p1, service: keyed.work}, {id: p2, service: keyed.work}]
                  q: [{id: q1, service: safe.work}]
            y: [{id: y1, service: keyed.work}, {id: y2, service: far.work}]
      right:
        - {id: r1, service: keyed.work}
  - id: next
    branches:
      m: [{id: m1, service: keyed.work}]
      n: [{id: n1, service: far.work}, {id: n2, service: keyed.work}]
  - {id: last, service: keyed.work}
"""


def test_a_block_first_one_at_the_end_of_a_branch_and_one_right_after_another_are_all_joined(airport: Airport) -> None:
    instance = airport.fly(NESTED)
    shown = airport.ended(instance)
    assert shown["status"] == "COMPLETED"
    order = order_of(shown, "succeed")
    assert_before(order, "p2", "deepest")
    assert_before(order, "q1", "deepest")
    assert_before(order, "deepest", "inner")
    assert_before(order, "y2", "inner")
    assert_before(order, "inner", "outer")
    assert_before(order, "r1", "outer")
    assert order.index("outer") < min(order.index(step) for step in ("m1", "n1"))
    assert_before(order, "next", "last")
    assert len(order) == len(set(order)) == 16
    assert len(airport.service.done(instance)) == 12
    assert not airport.service.doubles()
    assert is_gapless(shown)


def assert_before(order: list[str], first: str, second: str) -> None:
    assert order.index(first) < order.index(second), order


@pytest.mark.parametrize("last", ["slow", "quick"])
def test_the_join_waits_for_whichever_branch_is_last(airport: Airport, last: str) -> None:
    release = airport.service.hold(last)
    instance = airport.fly("""
id: waits-for-both
steps:
  - id: both
    branches:
      one: [{id: slow, service: keyed.slow}]
      two: [{id: quick, service: far.quick}, {id: quicker, service: keyed.quicker}]
  - {id: after, service: keyed.after}
""")
    other = "quicker" if last == "slow" else "slow"
    airport.step_is(instance, other, "SUCCEEDED")
    airport.service.came(last)
    assert airport.step(instance, "after") is None
    release.set()
    assert airport.ended(instance)["status"] == "COMPLETED"
    assert not airport.service.doubles()


CONDITIONAL = """
id: conditional
steps:
  - {id: first, service: keyed.first, when: payload.first}
  - id: block
    when: payload.block
    branches:
      a: [{id: a1, service: keyed.work, when: payload.inside}, {id: a2, service: far.work}]
      b: [{id: b1, service: far.work}]
  - id: second
    when: payload.second
    branches:
      c: [{id: c1, service: keyed.work}]
      d: [{id: d1, service: far.work}]
  - {id: last, service: keyed.last, when: "has(steps.a2.result) || payload.last"}
"""


@pytest.mark.parametrize(
    ("payload", "done", "skipped"),
    [
        ("", [], ["first", "block", "second", "last"]),
        ("first", ["first"], ["block", "second", "last"]),
        ("block", ["a2", "b1", "last"], ["first", "a1", "second"]),
        ("block inside", ["a1", "a2", "b1", "last"], ["first", "second"]),
        ("second", ["c1", "d1"], ["first", "block", "last"]),
        ("block second inside first", ["first", "a1", "a2", "b1", "c1", "d1", "last"], []),
        ("last", ["last"], ["first", "block", "second"]),
    ],
)
def test_conditions_skip_and_take_steps_and_blocks(
    airport: Airport, payload: str, done: list[str], skipped: list[str]
) -> None:
    names = ("first", "block", "inside", "second", "last")
    instance = airport.fly(CONDITIONAL, {name: name in payload.split() for name in names})
    shown = airport.ended(instance)
    assert shown["status"] == "COMPLETED"
    assert sorted(airport.service.done(instance)) == sorted(f"{step}:g1:do" for step in done)
    assert {step for step, state in states_of(shown).items() if state == "SKIPPED"} == set(skipped)
    assert is_gapless(shown)


def test_results_and_payload_are_handed_on_through_input_templates(airport: Airport) -> None:
    airport.service.tell("measure", Answer(reply={"result": {"m2": 12, "rooms": ["a", "b"]}, "note": "whole"}))
    instance = airport.fly(
        """
id: handed-on
steps:
  - {id: measure, service: keyed.measure}
  - id: price
    service: far.price
    input:
      area: "${steps.measure.result.m2}"
      text: "about ${steps.measure.result.m2} m2 for $${x} ${payload.who}"
      rooms: "${steps.measure.result.rooms}"
      note: "${steps.measure.output.note}"
      trace: "${trace}"
      nothing: null
  - {id: plain, service: keyed.plain}
""",
        {"who": "Märia", "deep": {"list": [1, 2.5, True, None]}},
    )
    assert airport.ended(instance)["status"] == "COMPLETED"
    [price] = airport.service.calls("price")
    assert price.body["input"] == {
        "area": 12,
        "text": "about 12 m2 for ${x} Märia",
        "rooms": ["a", "b"],
        "note": "whole",
        "trace": instance,
        "nothing": None,
    }
    [plain] = airport.service.calls("plain")
    assert plain.body["input"] == plain.body["payload"] == {"who": "Märia", "deep": {"list": [1, 2.5, True, None]}}
    assert airport.step(instance, "measure") is not None


def test_an_expression_that_cannot_be_evaluated_fails_the_step_and_undoes_the_rest(airport: Airport) -> None:
    instance = airport.fly("""
id: inexpressible
steps:
  - {id: first, service: keyed.first, compensate: keyed.undoFirst}
  - {id: second, service: keyed.second, input: {x: "${payload.missing}"}}
""")
    shown = airport.ended(instance)
    assert (shown["status"], shown["reason"]) == ("COMPENSATED", "expression")
    assert airport.service.done(instance) == ["first:g1:do", "first:g1:undo"]
    second = airport.step(instance, "second")
    assert second is not None
    assert "missing" in second["error"]


WAVE = """
id: wave
steps:
  - {id: first, service: keyed.work}
  - id: both
    branches:
      near: [{id: near, service: keyed.work}]
      far: [{id: far1, service: far.work}, {id: far2, service: keyed.work}]
  - {id: last, service: keyed.work}
"""


def test_two_hundred_started_at_once_all_end_and_every_effect_happens_once(airport: Airport) -> None:
    workflow = airport.define(WAVE)
    started: list[str] = []
    failures: list[Exception] = []

    def start_some() -> None:
        try:
            started.extend([airport.start(workflow, {}) for _ in range(50)])
        except Exception as error:  # noqa: BLE001  # shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=start_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for instance in started:
        assert airport.ended(instance)["status"] == "COMPLETED"
    assert len(airport.service.effects) == 200 * 5
    assert not airport.service.doubles()


def test_a_wave_whose_members_go_different_ways_loses_none(airport: Airport) -> None:
    """Some fail, some skip, some wait: each drops out of the wave and ends as it should."""
    workflow = airport.define("""
id: different-ways
steps:
  - {id: begin, service: keyed.begin, compensate: keyed.unbegin}
  - {id: maybe, service: keyed.maybe, when: payload.n % 2 == 0}
  - {id: bad, service: safe.bad, when: payload.n % 5 == 0}
  - {id: ask, pause: true, when: payload.n % 7 == 0}
  - {id: end, service: far.end}
""")
    airport.service.always("bad", REJECTED)
    numbers = range(60)
    instances = [airport.start(workflow, {"n": n}) for n in numbers]
    ends = [_ended(airport, instance, n) for instance, n in zip(instances, numbers, strict=True)]
    assert ends == ["COMPENSATED" if n % 5 == 0 else "COMPLETED" for n in numbers]
    assert not airport.service.doubles()
    for instance, n in zip(instances, numbers, strict=True):
        ran = ["begin:g1:do"] + ["maybe:g1:do"] * (n % 2 == 0) + ["begin:g1:undo" if n % 5 == 0 else "end:g1:do"]
        assert airport.service.done(instance) == ran


def _ended(airport: Airport, instance: str, n: int) -> str:
    if n % 7 == 0 and n % 5 != 0:
        airport.step_is(instance, "ask", "WAITING")
        decide(airport, instance)
    status: str = airport.ended(instance)["status"]
    return status


def decide(airport: Airport, instance: str) -> Any:
    from orchestrator import callbacks

    return callbacks.decide(airport.system, trace=instance, step="ask", token=None, tenant=flights.TENANT)


def test_threads_that_send_branches_at_the_same_moment_do_not_wait_for_each_other(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery holds a producer for the group, and takes another one for each chain in it."""
    threads = tower.system.settings.worker_concurrency + 4  # dispatcher, publisher and the like
    together, run = threading.Barrier(threads, timeout=20), _chain.run
    within = threading.local()

    def run_together(self: Any, *args: Any, **options: Any) -> Any:
        if not getattr(within, "met", False):
            within.met = True
            together.wait()
        return run(self, *args, **options)

    monkeypatch.setattr(_chain, "run", run_together)
    task = tower.system.app.task(name=flights.WAKE, shared=False)(flights._nothing)
    branches = group(chain(task.si(), task.si()), chain(task.si(), task.si()))
    senders = [threading.Thread(target=branches.clone().apply_async, daemon=True) for _ in range(threads)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(30)
    assert not [one for one in senders if one.is_alive()]
    assert together.broken is False
