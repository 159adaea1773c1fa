"""Waiting for a moment: timers are kept in Postgres, and its clock is moved, not waited for."""

from __future__ import annotations

import pytest

from orchestrator import engine, sweep
from orchestrator.errors import NotFound
from tests.services import Airport

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

COOL = """
id: cool
steps:
  - {id: sell, service: keyed.sell}
  - {id: coolOff, wait: 14d}
  - {id: ship, service: keyed.ship}
"""


def test_a_timer_lets_nothing_pass_before_its_moment_and_everything_after_it(tower: Airport) -> None:
    instance = tower.fly(COOL)
    tower.run(instance, "sell")
    shown = tower.status(instance)
    assert (shown["status"], shown["currentStep"]) == ("WAITING", "coolOff")
    tower.clock.advance(14 * 86400 - 60)
    sweep.sweep(tower.system)
    assert tower.status(instance)["status"] == "WAITING"
    tower.clock.advance(61)
    sweep.sweep(tower.system)
    tower.run(instance, "ship")
    assert tower.status(instance)["status"] == "COMPLETED"


def test_a_timer_until_a_moment_that_an_expression_gives(tower: Airport) -> None:
    until = tower.clock.now().replace(microsecond=0).isoformat()
    definition = """
id: closure
steps:
  - {id: begin, wait: {until: "timestamp(payload.from) + duration('3600s')"}}
  - {id: close, service: keyed.close}
"""
    instance = tower.fly(definition, {"from": until})
    tower.run(instance, "begin")
    deadline = next(one["deadline"] for one in tower.status(instance)["steps"] if one["step"] == "begin")
    assert deadline is not None
    tower.clock.advance(3601)
    sweep.sweep(tower.system)
    tower.run(instance, "close")
    assert tower.status(instance)["status"] == "COMPLETED"


def test_a_moment_that_has_passed_is_not_waited_for(tower: Airport) -> None:
    instance = tower.fly("id: past\nsteps: [ {id: begin, wait: {until: \"'2020-01-01T00:00:00Z'\"}} ]")
    tower.run(instance, "begin")
    assert tower.status(instance)["status"] == "COMPLETED"


def test_a_moment_that_is_none_fails_the_step_and_says_what_it_got(tower: Airport) -> None:
    instance = tower.fly("id: no-moment\nsteps: [ {id: begin, wait: {until: payload.when}} ]", {"when": "soon"})
    tower.run(instance, "begin")
    shown = tower.status(instance)
    assert (shown["status"], shown["reason"]) == ("FAILED", "expression")
    assert "soon" in shown["steps"][0]["error"]


def test_a_lost_leg_does_not_prolong_a_timer(tower: Airport) -> None:
    instance = tower.fly("id: brief\nsteps: [ {id: pause, wait: 1h} ]")
    tower.claim(instance, "pause")
    tower.clock.advance(1800)
    sweep.sweep(tower.system)
    tower.run(instance, "pause")
    tower.clock.advance(1801)
    sweep.sweep(tower.system)
    assert tower.status(instance)["status"] == "COMPLETED"


def test_nobody_can_decide_a_timer(tower: Airport) -> None:
    instance = tower.fly(COOL)
    tower.run(instance, "sell")
    with pytest.raises(NotFound, match="coolOff awaits no decision"):
        tower.decide(instance, "coolOff", decision="approved")


def test_a_cancelled_instance_waits_no_longer(tower: Airport) -> None:
    instance = tower.fly(COOL)
    tower.run(instance, "sell")
    tower.order(engine.cancel, instance)
    assert tower.status(instance)["status"] == "CANCELLED"
    tower.clock.advance(15 * 86400)
    assert sweep.sweep(tower.system) == 0
