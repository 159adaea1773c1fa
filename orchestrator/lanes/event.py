"""Event lanes: done once the event is in the outbox, from where it is published when the transaction has committed.

The idempotency key is the outbox's key and the event's id: a repeat adds nothing, and who gets an event twice knows it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import DataError, SQLAlchemyError

from orchestrator.lane import Call, Lane, Reply
from orchestrator.lanes import body, wire
from orchestrator.store import outbox
from orchestrator.store.database import Database

SOURCE = "/orchestrator"
LONGEST_TOPIC = 255  # bytes, by AMQP: such an event would be refused for ever, and many of them hold up all others


def call(database: Database, lane: Lane, call: Call) -> Reply:
    """One attempt. Never raises for what the database does."""
    event = cloud_event(call, wire.named(lane.topic, call.operation))
    if len(event["type"].encode()) > LONGEST_TOPIC:
        error = f"the topic has more than {LONGEST_TOPIC} bytes: give the operation a shorter name"
        return Reply(outcome="rejected", error=error, is_ours=True)
    try:
        with database.transaction() as connection:
            outbox.put(connection, event, tenant=call.tenant, trace=call.trace, topic=event["type"])
    except DataError as error:
        return Reply(outcome="rejected", error=f"the event cannot be kept: {body.described(error.orig or error)}")
    except SQLAlchemyError as error:
        return Reply(outcome="uncertain", error=f"the event may not be in the outbox: {body.described(error)}")
    return Reply(outcome="done", output={"eventId": call.key})


def cloud_event(call: Call, topic: str) -> dict[str, Any]:
    """A CloudEvent 1.0 without its `time`, which is the database's."""
    return {
        "specversion": "1.0", "id": call.key, "source": SOURCE, "type": topic, "subject": f"{call.trace}/{call.step}",
        "datacontenttype": "application/json", "traceparent": wire.traceparent(call), "data": wire.content(call),
    }  # fmt: skip
