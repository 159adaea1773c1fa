"""Messages of a protocol that this program does not read: a newer one's, while old and new workers share the queues."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Reject
from celery.worker import state
from kombu import Queue
from kombu.exceptions import OperationalError

from orchestrator import canvas, protocol, unread
from orchestrator.dispatch import dispatch
from orchestrator.lane import DEFAULT_QUEUE, SWEEP_QUEUE
from orchestrator.lanes.exchanges import ANSWERS, LANDED, LANDED_QUEUE, UNREAD_QUEUE
from tasks import landed
from tests import flights, servers, services
from tests.services import LATER, Airport

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

NEWER = protocol.WRITES + 1
TWO_STEPS = """
id: two-steps
steps:
  - {id: one, service: keyed.one, compensate: keyed.unOne}
  - {id: two, service: keyed.two}
"""


@pytest.fixture
def patient(
    postgres_server: str, database_template: str, broker_places: servers.BrokerPlaces, tmp_path: Path
) -> Iterator[Airport]:
    """In which no sweep finds a lost message within the time of a test."""
    with services.airport(
        postgres_server, database_template, broker_places, tmp_path, republish_after=3600.0, sweep_every=3600.0
    ) as found:
        yield found


def replace_message(airport: Airport, task: str, *arguments: Any, number: Any = NEWER, **words: Any) -> None:
    """Take the one message from the queue, and send another in its place."""
    with airport.system.app.connection_for_write() as connection, connection.channel() as channel:
        message = channel.basic_get(DEFAULT_QUEUE, no_ack=True)
        assert message.headers[protocol.HEADER] == protocol.WRITES
        assert channel.basic_get(DEFAULT_QUEUE, no_ack=True) is None
    airport.system.app.send_task(task, arguments, words, queue=DEFAULT_QUEUE, headers={protocol.HEADER: number})


@pytest.mark.parametrize("number", [NEWER, 0, "1", None, [1]], ids=repr)
def test_a_leg_in_words_that_are_not_read_is_said_again_in_words_that_are(patient: Airport, number: Any) -> None:
    instance = patient.fly(TWO_STEPS)
    dispatch(patient.system)
    replace_message(patient, canvas.LEG, [instance], number=number, where={"at": "one"}, covers=["two"])
    with flights.worker(patient.system):
        assert patient.ended(instance)["status"] == "COMPLETED"
    assert patient.service.done(instance) == ["one:g1:do", "two:g1:do"]


def test_a_compensation_in_words_that_are_not_read_is_said_again_in_words_that_are(patient: Airport) -> None:
    patient.service.always("two", services.REJECTED)
    instance = patient.fly(TWO_STEPS)
    for step in ("one", "two"):
        patient.run(instance, step)
    dispatch(patient.system)
    replace_message(patient, canvas.COMPENSATE, [instance], back="one")
    with flights.worker(patient.system):
        assert patient.ended(instance)["status"] == "COMPENSATED"
    assert patient.service.done(instance) == ["one:g1:do", "one:g1:undo"]


def test_a_message_that_names_no_instance_is_dropped_and_the_worker_goes_on(patient: Airport) -> None:
    with flights.worker(patient.system):
        wrong: list[list[Any]] = [[], [7], [["x", None]], [{"ids": []}], [[["deep"]]]]
        for arguments in wrong:
            patient.system.app.send_task(
                canvas.LEG, arguments, {}, queue=DEFAULT_QUEUE, headers={protocol.HEADER: NEWER}
            )
        assert patient.ended(patient.fly(TWO_STEPS))["status"] == "COMPLETED"


def test_a_message_that_says_no_number_is_of_the_first_protocol(patient: Airport) -> None:
    instance = patient.fly(TWO_STEPS)
    dispatch(patient.system)
    with patient.system.app.connection_for_write() as connection, connection.channel() as channel:
        message = flights.until(lambda: Queue(DEFAULT_QUEUE)(channel).get(no_ack=True), "the leg's message")
        (arguments, words, _), headers = message.payload, message.headers
    assert headers.pop(protocol.HEADER) == 1
    patient.system.app.send_task(canvas.LEG, arguments, words, queue=DEFAULT_QUEUE)
    with flights.worker(patient.system):
        assert patient.ended(instance)["status"] == "COMPLETED"


def test_a_sweep_is_a_sweep_whatever_its_message_says(patient: Airport, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[object] = []
    monkeypatch.setattr("tasks.legs.sweep", swept.append)
    with flights.worker(patient.system):
        patient.system.app.send_task(canvas.SWEEP, [1], {"of": "late"}, queue=SWEEP_QUEUE,
                                     headers={protocol.HEADER: NEWER})  # fmt: skip
        flights.until(lambda: swept, "the sweep")


def test_an_answer_that_is_not_read_goes_round_until_somebody_reads_it(
    patient: Airport, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(unread, "PAUSE", 0.05)
    patient.service.tell("one", LATER)
    with flights.worker(patient.system):
        instance = patient.fly(TWO_STEPS)
        told = {"trace": instance, "step": "one", "token": patient.token("one")}
        patient.step_is(instance, "one", "WAITING")
        patient.system.app.send_task(
            LANDED, [{"late": True}], told, exchange=ANSWERS.name, routing_key=LANDED_QUEUE,
            headers={protocol.HEADER: NEWER},
        )  # fmt: skip
        flights.until(
            lambda: caplog.text.count("goes on") > 25,
            "an answer that has come round more often than a broker returns one",
        )
        waits = patient.step(instance, "one")
        assert waits is not None
        assert waits["status"] == "WAITING"
        monkeypatch.setattr(protocol, "READS", {*protocol.READS, NEWER})
        assert patient.ended(instance)["status"] == "COMPLETED"
        step = patient.step(instance, "one")
        assert step is not None
        assert step["result"] == {"late": True}


def test_answers_that_are_not_read_keep_no_thread_from_the_legs(
    patient: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "PAUSE", 3600.0)  # if any of them waited in a thread, all four would be taken
    nobodys = {"trace": "0" * 32, "step": "one", "token": "x" * 40}
    for _ in range(200):
        patient.system.app.send_task(
            LANDED, [{}], nobodys, queue=LANDED_QUEUE, headers={protocol.HEADER: NEWER}, ignore_result=True
        )
    with flights.worker(patient.system):
        for _ in range(3):
            assert patient.ended(patient.fly(TWO_STEPS))["status"] == "COMPLETED"
    assert waiting(patient) >= 200, "none of them is lost"


def test_an_answer_that_is_not_read_does_not_come_round_without_a_pause(
    patient: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "PAUSE", 3600.0)
    with flights.worker(patient.system):
        patient.system.app.send_task(LANDED, [{}], {}, queue=LANDED_QUEUE, headers={protocol.HEADER: NEWER})
        flights.until(lambda: waiting(patient, UNREAD_QUEUE) == 1, "the answer, laid by")
        flights.until(lambda: not state.reserved_requests and not state.active_requests, "its acknowledgement")
    assert (waiting(patient, UNREAD_QUEUE), waiting(patient, LANDED_QUEUE)) == (1, 0)
    assert unread.bring_back(patient.system) == 1
    assert (waiting(patient, UNREAD_QUEUE), waiting(patient, LANDED_QUEUE)) == (0, 1)
    assert unread.bring_back(patient.system) == 0


def waiting(airport: Airport, *names: str) -> int:
    """How many messages wait in the queues of answers."""
    return sum(_count(airport, name) for name in names or (LANDED_QUEUE, UNREAD_QUEUE))


def _count(airport: Airport, name: str) -> int:
    with airport.system.app.connection_for_write() as connection, connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue=name, passive=True).message_count)
        except connection.channel_errors:
            return 0  # nobody has put anything into it


def test_an_answer_that_is_not_read_is_given_back_when_it_cannot_be_laid_by(
    tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("the broker is away")

    monkeypatch.setattr(unread, "lay_by", away)
    system = replace(tower.system, stopping=threading.Event())
    landed.register(system.app, system)
    task = system.app.tasks[LANDED]
    task.push_request(**{protocol.HEADER: NEWER})
    try:
        with pytest.raises(Reject) as given_back:
            task({}, trace="t", step="one", token="x")
    finally:
        task.pop_request()
    assert given_back.value.requeue
