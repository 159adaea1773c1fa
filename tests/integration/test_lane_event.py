"""Event lanes and landed events, with a real subscriber on the broker's exchange."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from kombu import Connection, Consumer, Exchange, Message, Queue
from psycopg.sql import SQL, Identifier
from sqlalchemy import text

from orchestrator import bootstrap, callbacks, landed, landed_events, publisher
from orchestrator.lane import Call, Lane
from orchestrator.publisher import publish
from orchestrator.servers.ports import free_port
from orchestrator.settings import Settings
from orchestrator.store import outbox
from orchestrator.system import System
from orchestrator.tokens import Wait
from tests import flights, servers, services
from tests.clock import Clock

pytestmark = pytest.mark.integration

LANES = """
services:
  sendEmail: {transport: event, topic: "email.{operation}"}
"""
TRACE = "0193a5f0c0de7000800000000000abcd"
LANE = Lane(name="sendEmail", transport="event", topic="email.{operation}")
CALL = Call(
    tenant="local", trace=TRACE, step="tell", lane="sendEmail", operation="invite", key=f"{TRACE}:tell:g1:do", attempt=1,
    payload={"to": "Ada"}, input={"to": "Ada"}, timeout=5.0, callback_url="http://127.0.0.1/callbacks/x?token=t",
)  # fmt: skip


@pytest.fixture
def system(settings: Settings, tmp_path: Path) -> Iterator[System]:
    file = tmp_path / "lanes.yaml"
    file.write_text(LANES)
    with services.composed(replace(settings, services_file=str(file), workflows_dir=str(tmp_path))) as system:
        yield system


class Subscriber:
    """What another system does: a durable queue of its own, bound to what it wants to hear."""

    def __init__(self, url: str, name: str, binding: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.messages: list[Message] = []
        self._queue = Queue(name, Exchange("orchestrator.events", type="topic"), routing_key=binding)
        self._stop = threading.Event()
        self._connection = Connection(url)
        self._queue(self._connection.default_channel).declare()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._connection, Consumer(self._connection, [self._queue], on_message=self._take):
            while not self._stop.is_set():
                try:
                    self._connection.drain_events(timeout=0.1)
                except TimeoutError:
                    continue

    def _take(self, message: Message) -> None:
        self.events.append(json.loads(message.body))
        self.messages.append(message)
        message.ack()

    def came(self, count: int = 1) -> list[dict[str, Any]]:
        return flights.until(lambda: self.events if len(self.events) >= count else None, f"{count} events")

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)


@contextmanager
def subscribed(url: str, name: str, binding: str) -> Iterator[Subscriber]:
    subscriber = Subscriber(url, name, binding)
    try:
        yield subscriber
    finally:
        subscriber.stop()


def land(url: str, content: bytes | dict[str, Any], routing_key: str = "landed.review") -> None:
    """What another system does to settle a step."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    exchange = Exchange("orchestrator.landed", type="topic")
    with Connection(url) as connection:
        connection.Producer().publish(
            raw, exchange=exchange, declare=[exchange], routing_key=routing_key,
            content_type="application/cloudevents+json", content_encoding="binary", retry=True,
        )  # fmt: skip


def answer(data: Any, **changed: Any) -> dict[str, Any]:
    given = {"specversion": "1.0", "id": "1", "source": "/reviews", "type": "landed.review", "data": data}
    return given | changed


def define(system: System, more: str = "") -> str:
    return flights.define(system, f"id: telling\nsteps: [{{id: tell, service: sendEmail.invite{more}}}]")


def rows(system: System) -> list[Any]:
    with system.database.transaction() as connection:
        return list(connection.execute(text("SELECT key, tries, error, sent_at FROM outbox ORDER BY position")))


# Published


def test_a_step_is_done_once_its_event_is_in_the_outbox_and_every_subscriber_gets_it(
    worker: System, broker_url: str, clock: Clock
) -> None:
    clock.advance(86_400)  # the event's time is the database's
    with subscribed(broker_url, "mailer", "email.*") as mailer, subscribed(broker_url, "audit", "#") as audit:
        instance = flights.start(worker, define(worker), {"to": "Ada"})
        shown = flights.ended(worker, instance)
        [event], [same] = mailer.came(), audit.came()
    key = f"{instance}:tell:g1:do"
    assert shown["steps"][0]["result"] == {"eventId": key}
    assert event == same
    assert event["time"][:10] == clock.now().isoformat()[:10]
    data = event.pop("data")
    assert (data["trace"], data["step"], data["payload"], data["input"]) == (
        instance,
        "tell",
        {"to": "Ada"},
        {"to": "Ada"},
    )
    assert f"/callbacks/{instance}/tell?token=" in data["callbackUrl"]
    assert event.pop("time").endswith("Z")
    assert event.pop("traceparent").startswith(f"00-{instance}-")
    assert event == {
        "specversion": "1.0", "id": key, "source": "/orchestrator", "type": "email.invite",
        "subject": f"{instance}/tell", "datacontenttype": "application/json",
    }  # fmt: skip
    assert mailer.messages[0].content_type == "application/cloudevents+json"


def test_a_subscriber_hears_only_what_it_is_bound_to(worker: System, broker_url: str) -> None:
    with subscribed(broker_url, "billing", "bill.#") as billing, subscribed(broker_url, "mailer", "email.#") as mailer:
        flights.ended(worker, flights.start(worker, define(worker), {}))
        mailer.came()
        assert billing.events == []


def test_a_repeat_of_a_call_adds_nothing_not_even_after_it_was_sent(system: System) -> None:
    first = system.caller.call(LANE, CALL)
    assert (first.outcome, first.output) == ("done", {"eventId": CALL.key})
    assert publish(system) == 1
    assert system.caller.call(LANE, replace(CALL, attempt=2)) == first
    assert publish(system) == 0
    assert [row.key for row in rows(system)] == [CALL.key]


def test_who_crashes_between_publish_and_commit_sends_the_same_event_again(
    system: System, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subscribed(broker_url, "mailer", "#") as mailer:
        system.caller.call(LANE, CALL)

        def crash(*_: Any) -> None:
            raise SystemExit

        with monkeypatch.context() as patch:
            patch.setattr(outbox, "sent", crash)
            with pytest.raises(SystemExit):
                publish(system)
        assert publish(system) == 1
        first, second = mailer.came(2)
    assert first == second


def test_two_publishers_share_the_outbox(system: System) -> None:
    for number in range(3):
        system.caller.call(LANE, replace(CALL, key=f"k{number}"))
    with system.database.transaction() as connection:
        assert [one.key for one in outbox.take(connection, 2)] == ["k0", "k1"]
        with system.database.transaction() as other:
            assert [one.key for one in outbox.take(other, 2)] == ["k2"]


def test_a_round_ends_in_time_and_what_it_did_not_come_to_is_sent_by_the_next(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        system.caller.call(LANE, replace(CALL, key=f"k{number}"))
    monkeypatch.setattr(publisher, "ROUND", 0.0)
    assert [publish(system) for _ in range(4)] == [1, 1, 1, 0]


def test_a_publisher_that_was_stopped_does_not_keep_its_events_for_ever(system: System) -> None:
    system.caller.call(LANE, CALL)
    with system.database.transaction() as connection:
        assert len(outbox.take(connection, 10)) == 1
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one() == "1min"


def test_a_topic_that_no_broker_takes_is_rejected_before_it_is_in_the_outbox(system: System) -> None:
    reply = system.caller.call(LANE, replace(CALL, operation="x" * 250))
    assert (reply.outcome, rows(system)) == ("rejected", [])
    assert "255 bytes" in (reply.error or "")


def test_events_wait_for_a_broker_that_is_away(system: System, settings: Settings, clock: Clock) -> None:
    system.caller.call(LANE, CALL)
    away = replace(settings, broker_url=f"redis://127.0.0.1:{free_port()}/0")
    lost = replace(system, app=bootstrap.celery_app(away, ["legs"]))
    with pytest.raises(Exception, match="refused"):
        publish(lost)
    [row] = rows(system)
    assert (row.sent_at, row.tries) == (None, 1)
    assert "refused" in row.error
    clock.advance(outbox.LONGEST_PAUSE)
    assert publish(system) == 1
    assert rows(system)[0].sent_at is not None


def test_what_was_sent_long_ago_is_forgotten_and_what_was_not_is_kept(system: System, clock: Clock) -> None:
    system.caller.call(LANE, CALL)
    publish(system)
    system.caller.call(LANE, replace(CALL, key="unsent"))
    clock.advance(31 * 86_400)
    with system.database.transaction() as connection:
        assert outbox.forget(connection, 10) == 1
    assert [row.key for row in rows(system)] == ["unsent"]


def test_what_postgres_cannot_keep_is_rejected(system: System) -> None:
    reply = system.caller.call(LANE, replace(CALL, input={"a": "\0"}))
    assert (reply.outcome, "NUL" in str(reply.error)) == ("rejected", True)
    reply = system.caller.call(LANE, replace(CALL, payload={"a": "\0"}, input=None))
    assert (reply.outcome, "cannot be kept" in str(reply.error)) == ("rejected", True)


# Landed


def test_a_landed_event_decides_a_step_that_was_told_by_an_event(worker: System, broker_url: str) -> None:
    with subscribed(broker_url, "reviewers", "email.invite") as reviewers:
        instance = flights.start(worker, define(worker, ", pause: true"), {})
        [event] = reviewers.came()
        flights.reached(worker, instance, "WAITING")
        told = {name: event["data"][name] for name in ("trace", "step", "callbackUrl")}
        land(broker_url, answer({**told, "decision": "approved", "result": {"seats": 2}, "comment": "welcome"}))
        shown = flights.ended(worker, instance)
    assert shown["status"] == "COMPLETED"
    assert shown["steps"][0]["result"] == {"seats": 2}
    assert shown["steps"][0]["decision"] == "approved"


def token(system: System, instance: str) -> str:
    return system.tokens.make(Wait(trace=instance, step="tell", phase="do", generation=1))


def test_a_landed_error_rejects(worker: System, broker_url: str) -> None:
    instance = flights.start(worker, define(worker, ", pause: true"), {})
    flights.reached(worker, instance, "WAITING")
    land(broker_url, answer({"trace": instance, "step": "tell", "token": token(worker, instance), "error": "full"}))
    shown = flights.ended(worker, instance)
    assert (shown["status"], shown["steps"][0]["error"]) == ("FAILED", "full")


BAD: list[bytes | dict[str, Any]] = [
    b"",
    b"\xff\xfe",
    b"[1, 2]",
    b'{"specversion": "1.0", "data": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'"' + b"x" * 1_100_000 + b'"',
    answer(None),
    answer([]),
    answer({"trace": TRACE, "step": "tell"}),
    answer({"trace": TRACE, "step": "tell", "token": 7}),
    answer({"trace": TRACE, "step": "tell", "token": "g1.do.wrong"}),
    answer({"trace": "nonsense", "step": "tell", "token": "g1.do.wrong"}),
    answer({"trace": TRACE, "step": "tell", "callbackUrl": "http://x/?token=%00"}),
    answer({"trace": TRACE, "step": "tell", "callbackUrl": "http://[bad"}),
    answer({"trace": TRACE, "step": "tell", "token": "t"}, specversion="0.3"),
]


def test_what_is_no_answer_is_dropped_and_the_next_one_is_read(worker: System, broker_url: str) -> None:
    instance = flights.start(worker, define(worker, ", pause: true"), {})
    flights.reached(worker, instance, "WAITING")
    good = {"trace": instance, "step": "tell", "token": token(worker, instance)}
    for content in BAD:
        land(broker_url, content)
    for wrong in ({"decision": "perhaps"}, {"step": "nobody"}, {"result": "x" * 999_900 + "\0"}):
        land(broker_url, answer(good | wrong))
    land(broker_url, answer(good))
    assert flights.ended(worker, instance)["status"] == "COMPLETED"


@pytest.mark.parametrize("content", BAD)
def test_no_event_is_an_error_of_ours(system: System, content: bytes | dict[str, Any]) -> None:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    assert landed_events.take(system, raw) is False


def test_an_unknown_trace_with_a_token_of_ours_is_dropped(system: System) -> None:
    given = {"trace": TRACE, "step": "tell", "token": token(system, TRACE)}
    assert landed_events.take(system, json.dumps(answer(given)).encode()) is False


@contextmanager
def database_away(server: str, system: System) -> Iterator[None]:
    """Postgres refuses whoever comes, and has thrown out who was there."""
    name = servers.database_name(system.database.url)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(Identifier(name)))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND datname = %s",
            [name],
        )
        try:
            yield
        finally:
            connection.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(Identifier(name)))


def test_a_landed_event_waits_out_a_database_that_is_away(
    worker: System, broker_url: str, postgres_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    instance = flights.start(worker, define(worker, ", pause: true"), {})
    flights.reached(worker, instance, "WAITING")
    with database_away(postgres_server, worker):
        land(broker_url, answer({"trace": instance, "step": "tell", "token": token(worker, instance)}))
        flights.until(lambda: "an answer waits for the database" in caplog.text or None, "a try without the database")
    assert flights.ended(worker, instance)["status"] == "COMPLETED"


def test_an_answer_is_not_dropped_because_its_process_was_stopped_in_a_transaction(
    worker: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = flights.start(worker, define(worker, ", pause: true"), {})
    flights.reached(worker, instance, "WAITING")
    turns, decide = count(1), callbacks.decide

    def stopped(system: System, **told: Any) -> callbacks.Decided:
        if next(turns) == 1:
            with system.database.transaction() as connection:
                services.cut_off(system, connection)
                connection.execute(text("SELECT 1"))
        return decide(system, **told)

    monkeypatch.setattr(callbacks, "decide", stopped)
    given = {"trace": instance, "step": "tell", "token": token(worker, instance)}
    assert landed_events.take(worker, json.dumps(answer(given)).encode()) is True
    assert flights.ended(worker, instance)["status"] == "COMPLETED"


def test_who_stops_while_the_database_is_away_leaves_the_event_to_others(
    system: System, broker_url: str, postgres_server: str
) -> None:
    given = json.dumps(answer({"trace": TRACE, "step": "tell", "token": token(system, TRACE)})).encode()
    with database_away(postgres_server, system):
        threading.Timer(0.1, system.stopping.set).start()
        with pytest.raises(landed.Stopped):
            landed_events.take(system, given)


def test_bindings_come_back_after_the_broker_was_wiped(
    system: System, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broker_url.startswith("amqp"):
        pytest.skip("RabbitMQ ends the connections of what it has lost")
    monkeypatch.setattr(landed_events, "BIND_EVERY", 0.1)
    client = redis.from_url(broker_url)
    with flights.worker(system):
        instance = flights.start(system, define(system, ", pause: true"), {})
        flights.reached(system, instance, "WAITING")
        client.flushdb()
        keys = [f"_kombu.binding.{name}" for name in ("orchestrator.landed", "orchestrator.answers")]
        flights.until(lambda: client.exists(*keys) == 2 or None, "the bindings")
        land(broker_url, answer({"trace": instance, "step": "tell", "token": token(system, instance)}))
        assert flights.ended(system, instance)["status"] == "COMPLETED"
    client.close()
