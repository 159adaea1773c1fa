"""What a process knows of the lanes without asking: which are in trouble. At most a second old where anybody looks.

Only a hint whom to ask: a lane without limits and without trouble is not asked at all, so that it costs a claim nothing.
A lane that is asked answers under its lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.admission import LaneState
from orchestrator.store import lanes
from orchestrator.store.database import Database, told

EVERY = 1.0  # seconds

log = logging.getLogger(__name__)


class LaneWatch:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at = -EVERY
        self._states: Mapping[str, LaneState] = {}
        self.next_turn: float | None = None  # seconds until a lane's rate lets in the next that waits; the dispatcher's

    def look(self, database: Database) -> None:
        """Read anew what is older than a second. Raises nothing: without a database nobody can claim anyway."""
        if time.monotonic() - self._read_at < EVERY:
            return
        with self._lock:
            if time.monotonic() - self._read_at >= EVERY:
                self._read(database)

    def forget(self) -> None:
        """Something was said of a lane: whoever looks next reads anew."""
        self._read_at = -EVERY

    def _read(self, database: Database) -> None:
        began = time.monotonic()
        try:
            with database.across_tenants() as connection:
                self._states = lanes.states(connection)[0]
        except (SQLAlchemyError, psycopg.Error) as error:
            log.warning("what is known of the lanes cannot be read: %s", told(error))
        self._read_at = began

    def state(self, lane: str) -> LaneState:
        return self._states.get(lane) or LaneState(name=lane)

    @property
    def is_calm(self) -> bool:
        """No lane is in trouble."""
        return not any(state.is_troubled for state in self._states.values())
