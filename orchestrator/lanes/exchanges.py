"""The exchanges and queues on the broker that other systems meet. Their names are documented: they cannot be changed.

Answers of Celery lanes come by an exchange, not straight into the queue: another app that publishes to a queue by name
declares it first, as its own settings say, and RabbitMQ closes the channel of whoever declares a queue differently.
"""

from __future__ import annotations

from typing import Any

from kombu import Exchange, Queue

LANDED = "orchestrator.landed"  # our task that an answer of a Celery lane is brought to
LANDED_QUEUE = "landed"
FAILED = "orchestrator.failed"  # the same for an error; what another app may define itself, to send on the error's text

ANSWERS = Exchange("orchestrator.answers", type="direct")
EVENTS = Exchange("orchestrator.events", type="topic")  # what event lanes publish
LANDED_EVENTS = Exchange("orchestrator.landed", type="topic")  # what others publish for us
LANDED_EVENTS_QUEUE = "landed-events"
UNREAD_QUEUE = "landed-unread"  # answers of a newer protocol, between two tries to find who reads them

CLOUD_EVENT = "application/cloudevents+json"


def is_amqp(broker_url: str | None) -> bool:
    return (broker_url or "").startswith("amqp")


def arguments(broker_url: str | None) -> dict[str, Any] | None:
    """What our queues are declared with: on RabbitMQ as quorum queues."""
    return {"x-queue-type": "quorum"} if is_amqp(broker_url) else None


def answers_queue(broker_url: str | None) -> Queue:
    """Where the landed tasks wait for our workers."""
    return Queue(LANDED_QUEUE, ANSWERS, routing_key=LANDED_QUEUE, queue_arguments=arguments(broker_url))


def landed_events_queue(broker_url: str | None) -> Queue:
    return Queue(LANDED_EVENTS_QUEUE, LANDED_EVENTS, routing_key="#", queue_arguments=arguments(broker_url))


def unread_queue(broker_url: str | None) -> Queue:
    return Queue(UNREAD_QUEUE, routing_key=UNREAD_QUEUE, queue_arguments=arguments(broker_url))
