"""The dispatcher: what it publishes, what it holds back, and what is published again because it was surely lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from kombu.exceptions import OperationalError

from orchestrator import engine, sweep
from orchestrator.dispatch import dispatch
from orchestrator.lane import DEFAULT_QUEUE
from orchestrator.servers.ports import LOOPBACK, free_port
from orchestrator.store import due
from tests import flights, servers, services
from tests.services import Airport

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

ONE_STEP = """
id: one-step
steps:
  - {id: only, service: keyed.only, retry: {max: 1, backoff: 1s, jitter: false}}
"""


def drained(airport: Airport, queue: str = DEFAULT_QUEUE) -> list[list[str]]:
    """Take every message from a queue; the waves that they carry."""
    waves: list[list[str]] = []
    with airport.system.app.connection_for_write() as connection, connection.channel() as channel:
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            body: Any = message.body
            arguments = json.loads(body if isinstance(body, bytes | str) else bytes(body))
            waves.append(arguments[0][0])
    return waves


def published(airport: Airport) -> set[str]:
    found = airport.query("SELECT instance_id FROM step WHERE published_at IS NOT NULL AND state = 'READY'")
    return {row[0].hex for row in found}


def start_some(airport: Airport, count: int, text: str = ONE_STEP) -> list[str]:
    workflow = airport.define(text)
    return [airport.start(workflow) for _ in range(count)]


def test_what_is_ready_is_published_once(tower: Airport) -> None:
    started = start_some(tower, 3)
    assert dispatch(tower.system) == 3
    assert dispatch(tower.system) == 0
    assert sorted(member for wave in drained(tower) for member in wave) == sorted(started)


def test_a_large_backlog_travels_in_waves_that_hold_each_instance_once(tower: Airport) -> None:
    started = start_some(tower, 130)
    while dispatch(tower.system):
        pass
    waves = drained(tower)
    assert sorted(member for wave in waves for member in wave) == sorted(started)
    assert len(waves) < 130
    assert max(len(wave) for wave in waves) > 1


@pytest.fixture
def narrow(
    postgres_server: str, database_template: str, broker_places: servers.BrokerPlaces, tmp_path: Path
) -> Iterator[Airport]:
    """A window of two messages."""
    with services.airport(postgres_server, database_template, broker_places, tmp_path, window=2) as found:
        yield found


def test_the_window_bounds_what_is_in_flight_and_opens_as_messages_are_claimed(narrow: Airport) -> None:
    start_some(narrow, 5)
    assert dispatch(narrow.system) == 2
    assert dispatch(narrow.system) == 0, "both are still in flight"
    narrow.run(min(published(narrow)), "only")
    assert dispatch(narrow.system) == 1
    assert len(published(narrow)) == 2


def test_tenants_take_turns_and_one_with_a_backlog_does_not_hold_up_the_other(tower: Airport) -> None:
    for tenant, count in (("busy", 8), ("calm", 2)):
        engine.put_definition(tower.system, tenant=tenant, workflow_id="one-step", text=ONE_STEP)
        for _ in range(count):
            engine.start(tower.system, tenant=tenant, workflow_id="one-step", payload={})
    with tower.system.database.transaction() as connection:
        first = due.claim_for_publishing(connection, window=100, limit=4)
        second = due.claim_for_publishing(connection, window=100, limit=4)
    assert sorted(one.tenant for one in first) == ["busy", "busy", "calm", "calm"]
    assert [one.tenant for one in second] == ["busy"] * 4


def test_the_window_is_each_tenants_own(narrow: Airport) -> None:
    for tenant in ("busy", "calm"):
        engine.put_definition(narrow.system, tenant=tenant, workflow_id="one-step", text=ONE_STEP)
        for _ in range(3):
            engine.start(narrow.system, tenant=tenant, workflow_id="one-step", payload={})
    assert dispatch(narrow.system) == 4


def test_what_the_broker_refuses_is_unpublished_and_goes_out_once_it_is_back(tower: Airport) -> None:
    started = start_some(tower, 3)
    dead = urlsplit(str(tower.system.settings.broker_url))._replace(netloc=f"{LOOPBACK}:{free_port()}").geturl()
    with (
        services.composed(replace(tower.system.settings, broker_url=dead)) as cut_off,
        pytest.raises((OperationalError, OSError)),
    ):
        dispatch(cut_off)
    assert published(tower) == set()
    assert dispatch(tower.system) == 3
    assert sorted(member for wave in drained(tower) for member in wave) == sorted(started)


def test_a_suspended_instance_is_not_dispatched_and_is_after_resume(tower: Airport) -> None:
    [instance] = start_some(tower, 1)
    engine.suspend(tower.system, tenant=flights.TENANT, instance_id=instance)
    assert dispatch(tower.system) == 0
    engine.resume(tower.system, tenant=flights.TENANT, instance_id=instance)
    assert dispatch(tower.system) == 1


def test_a_message_that_met_a_suspended_instance_is_sent_again_after_resume(tower: Airport) -> None:
    [instance] = start_some(tower, 1)
    assert dispatch(tower.system) == 1
    engine.suspend(tower.system, tenant=flights.TENANT, instance_id=instance)
    tower.run(instance, "only")
    assert tower.service.seen == []
    engine.resume(tower.system, tenant=flights.TENANT, instance_id=instance)
    assert dispatch(tower.system) == 1
    tower.run(instance, "only")
    assert tower.status(instance)["status"] == "COMPLETED"


def test_a_step_that_is_due_later_is_not_published_before(tower: Airport) -> None:
    [instance] = start_some(tower, 1)
    dispatch(tower.system)
    tower.service.tell("only", services.REFUSED)
    tower.run(instance, "only")
    assert tower.step_is(instance, "only", "RETRYING")
    assert dispatch(tower.system) == 0
    tower.clock.advance(1.1)
    assert dispatch(tower.system) == 1


# -- messages that were lost


def test_lost_messages_are_sent_again_when_the_queue_is_empty_and_not_before_the_grace_is_over(tower: Airport) -> None:
    started = start_some(tower, 3)
    dispatch(tower.system)
    drained(tower)  # a broker that was wiped
    assert sweep.republish(tower.system) == 0, "the grace has not passed"
    tower.clock.advance(2)
    assert sweep.republish(tower.system) == 3
    assert dispatch(tower.system) == 3
    assert sorted(member for wave in drained(tower) for member in wave) == sorted(started)


def test_a_backlog_that_nobody_works_off_is_not_mistaken_for_lost_messages(tower: Airport) -> None:
    start_some(tower, 3)
    dispatch(tower.system)
    tower.clock.advance(3600)
    assert sweep.republish(tower.system) == 0


def test_a_message_that_a_later_one_has_overtaken_is_sent_again(tower: Airport) -> None:
    workflow = tower.define(ONE_STEP)
    lost = tower.start(workflow)
    dispatch(tower.system)
    drained(tower)
    later, waiting = tower.start(workflow), None
    dispatch(tower.system)
    waiting = tower.start(workflow)
    dispatch(tower.system)
    tower.run(later, "only")
    assert sweep.republish(tower.system) == 0, "the grace has not passed"
    tower.clock.advance(2)
    assert sweep.republish(tower.system) == 1
    assert published(tower) == {waiting}
    assert dispatch(tower.system) == 1
    assert published(tower) == {waiting, lost}


def test_the_first_claimed_of_a_round_has_not_overtaken_the_rest_of_it(tower: Airport) -> None:
    """The rows of a round are sent in another order than they were marked in."""
    started = start_some(tower, 20)
    assert dispatch(tower.system) == 20
    for instance in started[5:15]:
        tower.run(instance, "only")
    tower.clock.advance(60)
    assert sweep.republish(tower.system) == 0


def test_a_cancelled_instance_sets_no_watermark(tower: Airport) -> None:
    workflow = tower.define(ONE_STEP)
    waiting = tower.start(workflow)
    dispatch(tower.system)
    cancelled = tower.start(workflow)
    dispatch(tower.system)
    engine.cancel(tower.system, tenant=flights.TENANT, instance_id=cancelled)
    tower.clock.advance(60)
    assert sweep.republish(tower.system) == 0
    assert published(tower) == {waiting}


def test_a_backlog_that_was_sent_twice_does_not_multiply_by_itself(tower: Airport) -> None:
    workflow = tower.define(ONE_STEP)
    twice = tower.start(workflow)
    dispatch(tower.system)
    drained(tower)
    tower.clock.advance(2)
    assert sweep.republish(tower.system) == 1
    tower.order(engine.suspend, twice)  # so that the other is sent before it
    patient = tower.start(workflow)
    assert dispatch(tower.system) == 1
    tower.order(engine.resume, twice)
    assert dispatch(tower.system) == 1
    tower.run(twice, "only")
    tower.clock.advance(60)
    assert sweep.republish(tower.system) == 0, "its first message may be the one that was claimed"
    assert published(tower) == {patient}


def test_unpublishing_waits_for_nobody(tower: Airport) -> None:
    """A wave that is being recorded holds some rows and may ask for others: a circle of the two would end one of them."""
    held, free = start_some(tower, 2)
    dispatch(tower.system)
    with tower.system.database.transaction() as holder:
        holder.exec_driver_sql("SELECT 1 FROM step WHERE instance_id = %s FOR NO KEY UPDATE", (held,))
        with tower.system.database.transaction() as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
            due.unpublish(connection, [(held, "only", "do"), (free, "only", "do")])
    assert published(tower) == {held}
