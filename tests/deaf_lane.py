"""A local lane by which a worker makes itself deaf: connected to its broker, and consuming nothing."""

from __future__ import annotations

import gc
from typing import Any

from orchestrator.consumer import Consumer
from orchestrator.lane import Call
from tests import held_lane


def pass_by(call: Call) -> Any:
    return held_lane.pass_by(call)


def cancel(call: Call) -> Any:
    """The broker is told to send no more, and Celery is not told."""
    held_lane.pass_by(call)
    consumer = own()
    consumer.call_soon(consumer.task_consumer.cancel)


def forget(call: Call) -> Any:
    """The event loop forgets the connection's sockets; what has come by them and was not read lies there."""
    held_lane.pass_by(call)
    consumer = own()
    consumer.call_soon(_forget, consumer)


def stay(call: Call) -> Any:
    """Deaf for good: a new connection is of no help."""
    held_lane.pass_by(call)
    consumer = own()
    type(consumer.task_consumer).consume = lambda *_, **__: None
    consumer.call_soon(consumer.task_consumer.cancel)


def linger(call: Call) -> Any:
    """It loses its connection, and makes another no sooner than the test lets it."""
    held_lane.pass_by(call)
    consumer, connect = own(), own().connect

    def connect_later() -> Any:
        held_lane.wait("linger")
        return connect()

    consumer.connect = connect_later
    consumer.call_soon(_lose)


def own() -> Consumer:
    """The consumer of the process that this runs in."""
    return next(one for one in gc.get_objects() if type(one) is Consumer)


def _lose() -> None:
    raise ConnectionError("lost")


def _forget(consumer: Consumer) -> None:
    hub = consumer.hub
    for fd in list(hub.readers):
        hub.remove(fd)
    if consumer.connection.transport.driver_type == "redis":
        cycle = consumer.connection.transport.cycle
        cycle._channels.clear()
        cycle._fd_to_chan.clear()
