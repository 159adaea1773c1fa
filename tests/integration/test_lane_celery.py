"""Celery lanes against another app in a worker process of its own, whose answers come back over the broker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kombu import Exchange, Queue

from orchestrator import bootstrap, callbacks, engine, landed
from orchestrator.lane import Call, Idempotency, Lane
from orchestrator.lanes.caller import Caller
from orchestrator.servers.ports import free_port
from orchestrator.settings import Settings
from orchestrator.system import System
from orchestrator.tokens import Wait
from tests import flights, other_team, services
from tests.clock import Clock

pytestmark = pytest.mark.integration

LANES = """
services:
  reports: {transport: celery, queue: reports, task: "reports.{operation}", idempotency: none}
  keyed: {transport: celery, queue: reports, task: "reports.{operation}", idempotency: key}
  fileSvc: {transport: local, module: tasks.file_svc}
"""
FLIGHT = """
id: {id}
steps:
  - {{id: write, service: {service}{more}}}
"""


@pytest.fixture
def system(settings: Settings, tmp_path: Path) -> Iterator[System]:
    file = tmp_path / "lanes.yaml"
    file.write_text(LANES)
    with services.composed(replace(settings, services_file=str(file), workflows_dir=str(tmp_path))) as system:
        yield system


@pytest.fixture
def team(worker: System, broker_url: str, tmp_path: Path) -> Iterator[Path]:
    """The folder in which the other team's running app notes what it does."""
    declare(worker)  # else RabbitMQ may be asked for a queue that its worker is about to make
    with other_team.process(broker_url, tmp_path):
        yield tmp_path


def declare(system: System) -> None:
    """The other team's queue, as their worker would."""
    with system.app.connection_for_write() as connection:
        Queue("reports", Exchange("reports"), routing_key="reports")(connection.default_channel).declare()


def fly(system: System, service: str, more: str = "", **payload: Any) -> str:
    name = service.replace(".", "-").lower()
    return flights.start(system, flights.define(system, FLIGHT.format(id=name, service=service, more=more)), payload)


def step(system: System, instance: str) -> dict[str, Any]:
    found: dict[str, Any] = flights.status(system, instance)["steps"][0]
    return found


def test_a_task_of_another_app_ends_the_step_with_what_it_returns(worker: System, team: Path) -> None:
    instance = fly(worker, "reports.write", ", input: {month: '${payload.month}'}", month="May")
    shown = flights.ended(worker, instance)
    assert shown["status"] == "COMPLETED"
    assert step(worker, instance)["result"] == {"pages": 3, "on": "2026-01-02T00:00:00+00:00"}
    [effect] = other_team.effects(team)
    call, key = effect["call"], f"{instance}:write:g1:do"
    assert (call["trace"], call["step"], call["key"]) == (instance, "write", key)
    assert (call["payload"], call["input"]) == ({"month": "May"}, {"month": "May"})
    assert f"/callbacks/{instance}/write?token=" in call["callbackUrl"]
    assert effect["headers"]["Idempotency-Key"] == key
    assert effect["headers"]["X-Attempt"] == "1"
    assert effect["headers"]["traceparent"].startswith(f"00-{instance}-")


def test_a_task_that_raises_fails_the_step_and_what_it_may_have_done_is_undone(worker: System, team: Path) -> None:
    instance = fly(worker, "keyed.explode", ", compensate: reports.retract")
    shown = flights.ended(worker, instance)
    assert shown["status"] == "COMPENSATED"
    assert "the task failed in its worker" in next(one["error"] for one in shown["history"] if one["verb"] == "reject")
    assert [one["task"] for one in other_team.effects(team)] == ["explode", "retract"]


def test_where_neither_key_nor_question_helps_a_task_that_raises_is_left_to_a_person(
    worker: System, team: Path
) -> None:
    instance = fly(worker, "reports.explode", ", compensate: reports.retract")
    shown = flights.reached(worker, instance, "STUCK")
    assert shown["reason"] == "uncertain"
    engine.resolve(worker, tenant=flights.TENANT, instance_id=instance, step="write", verdict="failed")
    assert flights.ended(worker, instance)["status"] == "FAILED"
    assert [one["task"] for one in other_team.effects(team)] == ["explode"]


def test_a_task_whose_process_was_killed_is_undone_as_if_done(worker: System, broker_url: str, tmp_path: Path) -> None:
    declare(worker)
    with other_team.process(broker_url, tmp_path, pool="prefork"):
        instance = fly(worker, "keyed.die", ", compensate: reports.retract")
        assert flights.ended(worker, instance)["status"] == "COMPENSATED"
    assert [one["task"] for one in other_team.effects(tmp_path)] == ["die", "retract"]


def test_an_app_that_pickles_answers_all_the_same(worker: System, broker_url: str, tmp_path: Path) -> None:
    declare(worker)
    with other_team.process(broker_url, tmp_path, **{other_team.SERIALIZER: "pickle"}):
        done, failed = fly(worker, "reports.write"), fly(worker, "keyed.explode")
        assert flights.ended(worker, done)["status"] == "COMPLETED"
        assert flights.ended(worker, failed)["status"] == "FAILED"


def test_an_app_that_has_the_errback_sends_on_what_the_error_says(
    worker: System, broker_url: str, tmp_path: Path
) -> None:
    declare(worker)
    with other_team.process(broker_url, tmp_path, **{other_team.FORWARD: "1"}):
        shown = flights.ended(worker, instance := fly(worker, "keyed.explode"))
        assert shown["status"] == "FAILED"
        assert step(worker, instance)["error"] == "ValueError: no such month"


def test_a_compensation_by_a_task_gets_what_the_step_returned(worker: System, team: Path) -> None:
    text = """
id: undone
steps:
  - {id: write, service: reports.write, compensate: reports.retract}
  - {id: stop, service: keyed.explode}
"""
    instance = flights.start(worker, flights.define(worker, text), {})
    assert flights.ended(worker, instance)["status"] == "COMPENSATED"
    undone = other_team.effects(team)[-1]
    assert (undone["task"], undone["call"]["key"]) == ("retract", f"{instance}:write:g1:undo")
    assert undone["call"]["result"] == {"pages": 3, "on": "2026-01-02T00:00:00+00:00"}


@pytest.mark.parametrize("operation", ["shapeless", "large"])
def test_a_task_whose_result_cannot_be_kept_is_undone_for_it_was_done(
    worker: System, team: Path, operation: str
) -> None:
    instance = fly(worker, f"keyed.{operation}", ", compensate: reports.retract")
    assert flights.ended(worker, instance)["status"] == "COMPENSATED"
    assert [one["task"] for one in other_team.effects(team)] == [operation, "retract"]


def test_a_result_larger_than_is_kept_settles_its_step_all_the_same(worker: System) -> None:
    declare(worker)
    instance = fly(worker, "keyed.write")
    flights.reached(worker, instance, "WAITING")
    token = worker.tokens.make(Wait(trace=instance, step="write", phase="do", generation=1))
    small = replace(worker, settings=replace(worker.settings, max_payload=1000))
    assert landed.succeeded(small, "x" * 1000, trace=instance, step="write", token=token)
    assert flights.ended(worker, instance)["status"] == "FAILED"
    assert "the task was carried out, but" in step(worker, instance)["error"]


def test_a_task_that_retries_itself_answers_once_at_its_end(worker: System, team: Path) -> None:
    instance = fly(worker, "reports.persevere")
    assert flights.ended(worker, instance)["status"] == "COMPLETED"
    assert step(worker, instance)["result"] == "at last"


def test_where_a_decision_is_awaited_the_task_only_tells_somebody(worker: System, team: Path) -> None:
    instance = fly(worker, "reports.write", ", pause: true")
    follower = fly(worker, "reports.persevere")  # behind it on the same queue
    flights.ended(worker, follower)
    assert flights.status(worker, instance)["status"] == "WAITING"
    [effect] = [one for one in other_team.effects(team) if one["task"] == "write"]
    token = effect["call"]["callbackUrl"].partition("token=")[2]
    callbacks.decide(worker, trace=instance, step="write", token=token, tenant=None, decision="approved")
    assert flights.ended(worker, instance)["status"] == "COMPLETED"


def test_a_step_waits_for_an_app_that_is_not_there_until_its_time_is_up(worker: System) -> None:
    declare(worker)
    clock = Clock(worker.database.url)
    clock.install()
    instance = fly(worker, "reports.write", ", timeout: 1h, retry: {max: 0}")
    flights.reached(worker, instance, "WAITING")
    clock.advance(3601)
    shown = flights.reached(worker, instance, "STUCK")
    assert shown["reason"] == "uncertain"  # a lane of kind `none`: only a person can tell what became of it


def test_an_answer_for_a_wait_that_was_escalated_away_is_dropped(worker: System) -> None:
    declare(worker)
    clock = Clock(worker.database.url)
    clock.install()
    more = ", pause: false, timeout: 1h, onTimeout: escalate, escalate: {to: reports.other}"
    instance = fly(worker, "reports.write", more)
    flights.reached(worker, instance, "WAITING")
    clock.advance(3601)
    flights.until(lambda: step(worker, instance)["generation"] == 2 or None, "the escalation")
    first = worker.tokens.make(Wait(trace=instance, step="write", phase="do", generation=1))
    assert not landed.succeeded(worker, "late", trace=instance, step="write", token=first)
    second = worker.tokens.make(Wait(trace=instance, step="write", phase="do", generation=2))
    flights.reached(worker, instance, "WAITING")
    assert landed.succeeded(worker, "in time", trace=instance, step="write", token=second)
    assert landed.succeeded(worker, "again", trace=instance, step="write", token=second)  # a message that came twice
    assert step(worker, instance)["result"] == "in time"


# The attempt itself

CALL = Call(
    tenant="local", trace="0193a5f0c0de7000800000000000abcd", step="write", lane="reports", operation="write",
    key="0193a5f0c0de7000800000000000abcd:write:g1:do", attempt=1, payload={}, input={}, timeout=5.0,
    callback_url="http://127.0.0.1/callbacks/0193a5f0c0de7000800000000000abcd/write?token=g1.do.x",
)  # fmt: skip
REPORTS = Lane(name="reports", transport="celery", task="reports.{operation}", task_queue="reports", idempotency="none")


def sent(system: System) -> list[Any]:
    """The messages in the other team's queue."""
    found = []
    with system.app.connection_for_read() as connection, connection.channel() as channel:
        while message := channel.basic_get("reports", no_ack=True):
            found.append(message)
    return found


@pytest.mark.parametrize("kind", ["none", "key"])
def test_a_repeat_has_the_same_task_id_and_the_same_body(system: System, kind: Idempotency) -> None:
    declare(system)
    lane = replace(REPORTS, idempotency=kind)
    replies = [system.caller.call(lane, replace(CALL, attempt=attempt)) for attempt in (1, 2)]
    assert [(one.outcome, one.later) for one in replies] == [("done", True)] * 2
    first, second = sent(system)
    assert first.headers["id"] == second.headers["id"] == replies[0].output["taskId"]
    assert bytes_of(first) == bytes_of(second)
    assert [one.headers["X-Attempt"] for one in (first, second)] == ["1", "2"]


def bytes_of(message: Any) -> bytes:
    return message.body if isinstance(message.body, bytes) else str(message.body).encode()


@pytest.mark.parametrize("kind", ["none", "key"])
@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_nothing_was_sent_where_no_broker_listens(settings: Settings, kind: Idempotency, scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{free_port()}//" if scheme == "amqp" else f"redis://127.0.0.1:{free_port()}/0"
    app = bootstrap.celery_app(replace(settings, broker_url=url), ["legs"])
    reply = Caller(app=app).call(replace(REPORTS, idempotency=kind), CALL)
    assert reply.outcome in ("refused", "not_sent"), reply.error
    assert "no connection to the broker" in str(reply.error)


def test_a_queue_that_rabbitmq_does_not_have_takes_nothing(system: System, broker_url: str) -> None:
    if not broker_url.startswith("amqp"):
        pytest.skip("Redis makes every queue that it is sent to")
    reply = system.caller.call(REPORTS, CALL)
    assert (reply.outcome, "no queue `reports`" in str(reply.error)) == ("not_sent", True)


def test_what_cannot_be_written_as_json_is_rejected(system: System) -> None:
    assert system.caller.call(REPORTS, replace(CALL, input={"a": float("nan")})).outcome == "rejected"
    assert system.caller.call(REPORTS, replace(CALL, input={"a": "x" * 1_000_001})).outcome == "rejected"
