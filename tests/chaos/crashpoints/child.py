"""One process, from the fork to its end: it flies, says what it passes, and dies or fails where it is told to."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from typing import Any, NoReturn

import psycopg
from kombu.exceptions import OperationalError as BrokerError

from orchestrator.system import process_name
from tests import flights
from tests.chaos.crashpoints.flight import Flight
from tests.chaos.crashpoints.others import Others
from tests.chaos.crashpoints.place import Place
from tests.chaos.crashpoints.schedules import Flying
from tests.chaos.crashpoints.spy import Point, Spy

LONGEST = 60  # seconds of an execution, then it hangs
LOG = "CRASHPOINTS_LOG"  # in the environment: let the processes say what they have to say
log = logging.getLogger(__name__)


class Child:
    """One process, from the fork to its end."""

    def __init__(self, place: Place, flying: Flying, pipe: int) -> None:
        self._place, self._flying, self._pipe = place, flying, pipe
        self._faults = {one.at: one.how for one in flying.faults}
        self._reached = 0
        self._flight: Flight | None = None
        self.spy = Spy(self._reach)

    def live(self) -> NoReturn:
        signal.alarm(LONGEST)
        known = set(sys.modules)
        logging.disable(logging.CRITICAL if LOG not in os.environ else logging.NOTSET)
        try:
            self._fly()
            ended = "over"
        except BaseException as error:  # whatever it is, the parent is told
            if LOG in os.environ:
                log.exception("flight")
            ended = f"stalled: {type(error).__name__}: {error}"
        modules = [name for name in sys.modules if name not in known and name != "__main__"]
        self._say({"ended": ended, "roots": self._flight.roots if self._flight else [], "modules": modules})
        os._exit(0)

    def _fly(self) -> None:
        flying, place = self._flying, self._place
        system = place.system
        object.__setattr__(system, "worker", process_name())  # the tasks are registered for this very system
        if place.bug is not None:
            place.bug()
        if flying.shape.installed is not None:
            flying.shape.installed()
        self.spy.install(system)
        others = Others(
            eyes=place.eyes,
            system=system,
            service=place.service,
            returns=flying.returns,
            spy=self.spy,
            is_first=flying.is_first,
            begins=flying.begins,
        )
        self._flight = Flight(system=system, shape=flying.shape, name=flying.name, clock=place.clock, others=others,
                              roots=list(flying.roots))  # fmt: skip
        self._flight.fly()

    def _reach(self, point: Point) -> None:
        self._reached += 1
        told: dict[str, Any] = {"name": point.name}
        if self._place.meet(point):
            told |= {"new": point.kind, "functions": point.functions}
        self._say(told)
        how = self._faults.get(self._reached)
        if how == "dies":
            self._say({"roots": self._flight.roots if self._flight else []})
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "fails":
            self._fail(point)

    def _say(self, told: dict[str, Any]) -> None:
        os.write(self._pipe, json.dumps(told).encode() + b"\n")

    def _fail(self, point: Point) -> None:
        """The call that is about to be made, or has been made, is heard of as lost."""
        if point.kind in ("commit", "read"):
            self._cut(self.spy.connection.dbapi_connection)
            raise psycopg.OperationalError("the connection is lost")
        if point.kind == "publish":
            raise BrokerError("the broker is lost")
        if point.kind == "send":
            raise ConnectionResetError("the connection is lost")
        raise ConnectionError("the acknowledgement is lost")

    def _cut(self, connection: psycopg.Connection[Any]) -> None:
        pid = connection.info.backend_pid
        connection.close()
        until = time.monotonic() + flights.PATIENCE
        with psycopg.connect(self._place.clock.url, autocommit=True) as other:
            while other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone():
                assert time.monotonic() < until, "a session outlives its connection"
