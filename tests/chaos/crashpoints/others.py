"""Everybody who is not ours: the broker's queues, another team's app, who listens to events, and who looks at the rows.

What they do is no boundary of the engine's, so the spy does not see it; what they publish goes through the broker.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu import Exchange, Queue
from kombu.message import Message
from sqlalchemy import Engine

from orchestrator.landed_events import LandedEvents
from orchestrator.lanes.exchanges import EVENTS, LANDED_EVENTS, LANDED_EVENTS_QUEUE
from orchestrator.system import System
from tests.chaos.crashpoints.posting import is_known, post
from tests.chaos.crashpoints.spy import Spy

THEIRS = "theirs"  # the queue of the other team's app
HEARD = Queue("heard", EVENTS, routing_key="#")
ANSWERED = "answered"  # operation: who hears of it answers by an event
FORGOTTEN = ("legs", "far", "sweep")  # our own hints: a broker that loses an answer of others loses what it was given
UNACKED = ("unacked", "unacked_index")  # where the Redis transport keeps what was taken and not acknowledged


@dataclass(kw_only=True)
class Others:
    system: System
    service: str  # URL
    eyes: Engine  # to look at the rows with, unseen by the spy
    returns: bool  # whether the broker gives back what a dead process had not acknowledged
    spy: Spy | None = None
    our_queues: tuple[str, ...] = ()
    is_first: bool = True  # the broker has no queues yet
    begins: bool = True  # a schedule: nothing of an earlier one may be left
    _channel: Any = None
    _theirs: Any = None

    @property
    def completion_url(self) -> str:
        return f"{self.service}/keyed/completed"

    def open(self) -> None:
        self._channel = self.system.app.connection_for_read().channel()
        self.our_queues = tuple(name for name in self.system.app.amqp.queues if name != "landed-events")
        for exchange in (
            EVENTS,
            LANDED_EVENTS,
        ):  # else what comes back finds no way: how they route, a process has to know
            exchange(self._channel).declare()
        if self.is_first:
            self._declare()
        if self.begins:
            self.clear()
        self._settle_the_taken()

    def _declare(self) -> None:
        for queue in [*self.system.app.amqp.queues.values(), Queue(THEIRS, Exchange(""), routing_key=THEIRS), HEARD]:
            queue(self._channel).declare()
        LandedEvents(self.system)._bind()

    def clear(self) -> None:
        """What a schedule that hung may have left."""
        with self._channel.conn_or_acquire() as client:
            client.delete(*UNACKED, *self.system.app.amqp.queues, THEIRS, HEARD.name, LANDED_EVENTS_QUEUE)

    def _settle_the_taken(self) -> None:
        """What a dead process had taken and not acknowledged comes back, or is lost."""
        with self._channel.conn_or_acquire() as client:
            taken = {tag.decode(): json.loads(content)[2] for tag, content in client.hgetall(UNACKED[0]).items()}
        for tag, queue in taken.items():
            if self.returns or queue not in FORGOTTEN:
                self._channel.qos.restore_by_tag(tag)
            else:
                self._channel.qos._remove_from_indices(tag).execute()

    def take(self, queue: str) -> Message | None:
        found: Message | None = self._channel.basic_get(queue)
        return found

    def look(self, statement: Any, **values: Any) -> Any:
        with self.eyes.begin() as connection:
            return connection.execute(statement, values).scalar()

    def rows(self, statement: Any, **values: Any) -> list[Any]:
        with self.eyes.begin() as connection:
            return list(connection.execute(statement, values).mappings())

    # -- the other team's app

    def work(self) -> int:
        from tests.chaos.crashpoints.flight import execute

        moved = 0
        while (message := self.take(THEIRS)) is not None:
            self._theirs = self._theirs or other_app(self.system.settings.broker_url or "", self)
            with self._unseen():
                execute(self._theirs, message)
            moved += 1
        return moved

    # -- who listens to events

    def hear(self) -> int:
        moved = 0
        while (message := self.take(HEARD.name)) is not None:
            event = json.loads(message.body)
            self.do(event["type"], event["id"], event["data"])
            if event["type"].endswith(ANSWERED):
                self._answer(event)
            with self._unseen():
                message.ack()
            moved += 1
        return moved

    def _answer(self, event: dict[str, Any]) -> None:
        trace, step = event["subject"].split("/")
        data = {"trace": trace, "step": step, "callbackUrl": event["data"]["callbackUrl"], "decision": "approved"}
        content = json.dumps({"specversion": "1.0", "id": f"answer-{event['id']}", "source": "/others",
                              "type": "answer", "data": data})  # fmt: skip
        with self._unseen(), self.system.app.connection_for_write() as connection:
            producer = connection.Producer(auto_declare=False)
            producer.publish(content, exchange=LANDED_EVENTS, routing_key="answer", content_type="application/json",
                             content_encoding="utf-8", declare=[LANDED_EVENTS])  # fmt: skip

    def do(self, operation: str, key: str, body: Any) -> None:
        post(self.service, "keyed", operation, key, body)

    def was_done(self, key: str) -> bool:
        return is_known(self.service, key)

    def _unseen(self) -> Any:
        return self.spy.looking_away() if self.spy is not None else nullcontext()


def other_app(broker_url: str, others: Others) -> Celery:
    app = Celery("theirs", broker=broker_url, set_as_current=False)
    app.conf.update(task_default_queue=THEIRS, task_acks_late=True, task_ignore_result=True)

    @app.task(name="theirs.write", shared=False)  # type: ignore[untyped-decorator]
    def write(**call: Any) -> dict[str, Any]:
        others.do("write", call["key"], call)
        return {"pages": 3}

    @app.task(name="theirs.unwrite", shared=False)  # type: ignore[untyped-decorator]
    def unwrite(**call: Any) -> dict[str, Any]:
        others.do("unwrite", call["key"], call)
        return {}

    return app
