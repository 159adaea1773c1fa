"""The installation that every process finds: composed once, before the forks, and holding no connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import redis.utils
from sqlalchemy import Engine, create_engine
from urllib3.util.ssl_ import create_urllib3_context

from orchestrator import completions, dispatch, landed, lane_watch, legs, publisher
from orchestrator.bootstrap import compose
from orchestrator.lanes import connections
from orchestrator.settings import Settings
from orchestrator.store.database import plain_url, sqlalchemy_url
from orchestrator.system import System
from tasks import landed as landed_tasks
from tasks import legs as leg_tasks
from tests import flights
from tests.chaos.crashpoints.flight import Inline
from tests.chaos.crashpoints.planting import plant
from tests.chaos.crashpoints.shapes import SHAPES
from tests.chaos.crashpoints.spy import Point
from tests.chaos.crashpoints.still_clock import StillClock


@dataclass(kw_only=True)
class Place:
    system: System
    service: str  # its URL
    clock: StillClock
    eyes: Engine
    points: dict[str, Point] = field(default_factory=dict)  # by name, all that was ever seen
    functions: set[str] = field(default_factory=set)  # of ours that were under way at any point
    bug: Callable[[], None] | None = None  # planted in every process

    def meet(self, point: Point) -> bool:
        """Whether there is something new about it."""
        is_new = point.name not in self.points or not self.functions.issuperset(point.functions)
        self.points.setdefault(point.name, point)
        self.functions.update(point.functions)
        return is_new


def install(settings: Settings, service: str) -> Place:
    """On a migrated database."""
    clock = StillClock(plain_url(settings.database_url or ""))
    clock.install()
    system = replace(compose(settings), chance=lambda: 0.5)
    _define(system)
    _prepare(system)
    return Place(system=system, service=service, clock=clock, eyes=_eyes(clock))


def _prepare(system: System) -> None:
    """Once, before the forks. Nothing is timed by the wall clock, nothing is done in another thread, and what a worker registers is registered."""
    leg_tasks.register(system.app, system)
    landed_tasks.register(system.app, system)
    plant(legs, "ThreadPoolExecutor", Inline)
    plant(completions, "ThreadPoolExecutor", Inline)
    legs.DATABASE_AWAY = landed.DATABASE_AWAY = dispatch.IDLE = dispatch.TURNS = publisher.IDLE = 0.0
    lane_watch.EVERY = 1e9  # read once, and anew whenever something was said of a lane
    _ = system.app.backend  # looked for among all that is installed
    plant(redis.utils, "get_lib_version", lambda: "unknown")  # the same, for each connection to the broker
    context = create_urllib3_context()
    plant(context, "load_default_certs", lambda *_: None)  # plain HTTP only; they take their time
    plant(connections, "create_urllib3_context", lambda: context)
    plant(completions, "create_urllib3_context", lambda: context)


def _eyes(clock: StillClock) -> Engine:
    """It has met the database, and has no connection to it."""
    eyes = create_engine(sqlalchemy_url(clock.url), pool_size=1)
    eyes.connect().close()
    eyes.dispose()
    return eyes


def _define(system: System) -> None:
    for shape in SHAPES.values():
        for plan in shape.plans:
            flights.define(system, plan)
    system.database.close()  # no connection outlives a fork
    system.database._is_closed.clear()
