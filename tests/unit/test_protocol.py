"""The words of each protocol, as programs that are at work now write and read them. A change of these is another number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from orchestrator import bootstrap, canvas, protocol
from orchestrator.lanes import celery as celery_lane
from orchestrator.lanes.exchanges import FAILED, LANDED, landed_events_queue, unread_queue
from orchestrator.settings import Settings
from tests.unit.flying import plan_of, service

WORDS = {
    1: {
        "orchestrator.leg": {"start", "version"},
        "orchestrator.compensate": {"step", "version"},
        "orchestrator.landed": {"step", "token", "trace"},
        "orchestrator.failed": {"step", "token", "trace"},
    }
}
ARGUMENTS = {"x-queue-type": "quorum"}
QUEUES = {  # name → exchange, its type, routing key: whoever declares one differently has his channel closed (406)
    "legs": ("legs", "direct", "legs"),
    "sweep": ("legs", "direct", "sweep"),
    "landed": ("orchestrator.answers", "direct", "landed"),
    "landed-events": ("orchestrator.landed", "topic", "#"),
    "landed-unread": ("", "direct", "landed-unread"),
}
AMQP = Settings(broker_url="amqp://guest:guest@127.0.0.1:1//")


@pytest.fixture
def app() -> Celery:
    return bootstrap.celery_app(AMQP, ["legs"])


def test_the_words_that_are_written_are_those_of_the_number_that_is_written(app: Celery) -> None:
    plan = plan_of(service("only"))
    told: Any = SimpleNamespace(trace="t", step="s", callback_url="x?token=k")
    written = [
        canvas.compile(app, plan, "v", "only"),
        canvas.compensation(app, "v", "only", "legs"),
        celery_lane._answer(app, LANDED, told),
        celery_lane._answer(app, FAILED, told),
    ]
    assert {one.task: set(one.kwargs) for one in written} == WORDS[protocol.WRITES]
    assert all(one.options["headers"] == {"orchestrator_protocol": protocol.WRITES} for one in written)


def test_a_nudge_says_its_number_too(app: Celery) -> None:
    assert canvas.nudge(app).options["headers"] == protocol.headers()
    assert app.conf.beat_schedule["sweep"]["options"]["headers"] == protocol.headers()


def test_what_is_written_is_read_and_so_is_what_the_version_before_wrote() -> None:
    assert protocol.WRITES in protocol.READS
    assert {max(1, protocol.WRITES - 1)} <= protocol.READS
    assert set(WORDS) == protocol.READS, "each number that is read has its words here"


@pytest.mark.parametrize("number", [0, max(protocol.READS) + 1, "1", 1.0, True, None, [1], {}], ids=repr)
def test_anything_else_is_not_read(number: Any) -> None:
    assert not protocol.is_read(number)


def test_queues_and_exchanges_are_declared_as_programs_at_work_declare_them(app: Celery) -> None:
    queues = [*app.amqp.queues.values(), landed_events_queue(AMQP.broker_url), unread_queue(AMQP.broker_url)]
    assert {one.name: (one.exchange.name, one.exchange.type, one.routing_key) for one in queues} == QUEUES
    for one in queues:
        assert one.queue_arguments == ARGUMENTS
        assert (one.durable, one.exclusive, one.auto_delete) == (True, False, False)
        assert (one.exchange.durable, one.exchange.auto_delete, one.exchange.arguments) == (True, False, None)
