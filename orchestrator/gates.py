"""Admission to the lanes, where it meets the database: the gates of a transaction, and what a call's outcome says.

A lane has a gate while it has a limit (`concurrency`, `rate`) or is in trouble (held, or its breaker is not closed).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from orchestrator import admission, calls
from orchestrator.admission import Admission, Gate, LaneState, Refusal
from orchestrator.attempts import Attempt
from orchestrator.calls import Result
from orchestrator.lane import Lane, Reply
from orchestrator.store import lanes
from orchestrator.store.database import told
from orchestrator.store.statements import READY_CHANNEL
from orchestrator.system import System

OPEN = Admission({})  # where no lane has a gate
CHANGED = "lanes"  # what the dispatchers' channel says when a lane is in trouble, or no longer
NOTIFY = text(f"SELECT pg_notify('{READY_CHANNEL}', '{CHANGED}')")

log = logging.getLogger(__name__)


def look(system: System) -> None:
    """Once a second, read which lanes are in trouble."""
    system.watch.look(system.database)


def are_any(system: System) -> bool:
    """Whether any lane has a gate."""
    return not system.watch.is_calm or any(admission.is_limited(lane) for lane in system.lanes.values())


def lane_with_gate(system: System, service: str | None) -> Lane | None:
    lane = calls.lane_of(system, service)
    if lane is None:
        return None
    has_gate = admission.is_limited(lane) or system.watch.state(lane.name).is_troubled
    return lane if has_gate else None


def presumed(system: System, lane: Lane) -> Refusal:
    """For what a step waits at this lane's gate, as far as this process knows."""
    state = system.watch.state(lane.name)
    if state.held_at is not None:
        return "held"
    if state.open_until is not None:
        return "breaker"
    return "concurrency" if lane.concurrency is not None else "rate"


def open_for(system: System, connection: Connection, services: Iterable[str | None]) -> Admission:
    """Lock the lanes that have a gate, until the end of the transaction; after its instances, never before."""
    wanted = {lane.name: lane for service in services if (lane := lane_with_gate(system, service))}
    if not wanted:
        return OPEN
    states, now = lanes.lock(connection, wanted)
    counted = [name for name, lane in wanted.items() if lane.concurrency is not None]
    flying = lanes.flying(connection, counted) if counted else {}
    return Admission({name: Gate(lane, states[name], now, flying=flying.get(name, 0)) for name, lane in wanted.items()})


def observe(system: System, attempt: Attempt, result: Result) -> None:
    """What an attempt tells of its lane. A success is free, unless there were failures before. Raises nothing."""
    lane = calls.lane_of(system, attempt.service)
    if lane is None or not _has_news(system, lane, result):
        return
    try:
        with system.database.transaction() as connection:
            states, now = lanes.lock(connection, [lane.name])
            before = states[lane.name]
            after = _told(before, lane, result, now, attempt.now)
            lanes.write(connection, [after])
            if after.opened_at != before.opened_at:
                connection.execute(NOTIFY)
    except (SQLAlchemyError, psycopg.Error) as error:
        log.warning("the outcome of %s is not counted for lane %s: %s", attempt.key, lane.name, told(error))
        return
    system.watch.forget()
    _tell(before, after, result)


def _has_news(system: System, lane: Lane, result: Result) -> bool:
    known = system.watch.state(lane.name)
    if _says_nothing(result):
        return known.open_until is not None
    if isinstance(result, Reply) and result.outcome in admission.FAILURES:
        return lane.breaker is not None or known.open_until is not None
    return known.failures > 0 or known.opened_at is not None


def _says_nothing(result: Result) -> bool:
    """Nothing was sent, or it is our own doing that there was no answer."""
    return not isinstance(result, Reply) or result.is_ours


def _told(state: LaneState, lane: Lane, result: Result, now: datetime, begun: datetime) -> LaneState:
    if _says_nothing(result):
        return admission.unsent(state, begun)
    if isinstance(result, Reply) and result.outcome in admission.FAILURES and lane.breaker is not None:
        return admission.failed(state, lane.breaker, now, begun)
    return admission.answered(state, begun)


def _tell(before: LaneState, after: LaneState, result: Result) -> None:
    if after.opened_at is None and before.opened_at is not None:
        log.warning("lane %s answers again: its breaker is closed", after.name)
    elif after.opened_at != before.opened_at:
        error = result.error if isinstance(result, Reply) else None
        log.warning("lane %s: its breaker is open until %s: %s", after.name, after.open_until, error)
