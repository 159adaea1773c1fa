"""Who waits for a lane, and whose turn it is: the dispatcher's part of admission.

Nothing is sent for a step before its lane has room for it, so that a backlog of any size costs each step one write
when it is put aside and one when it is let in. The claim is what admits; this only keeps messages from being in vain.
"""

from __future__ import annotations

import logging

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from orchestrator import admission, attempts, gates
from orchestrator.admission import Gate
from orchestrator.errors import OrchestratorError
from orchestrator.lane import Lane
from orchestrator.store import deferred, lanes
from orchestrator.store.database import told
from orchestrator.store.deferred import Aside
from orchestrator.store.due import Ready
from orchestrator.system import System

BATCH = 500  # steps a round
SOONEST = 0.05  # seconds between two looks at a lane with a rate

log = logging.getLogger(__name__)


def put_aside(system: System, ready: list[Ready]) -> list[Ready]:
    """Keep back what is directed at a lane with a gate. Returns the others, which are to be published."""
    if not gates.are_any(system):
        return ready
    aside = [_aside(system, row, lane) for row in ready if (lane := gates.lane_with_gate(system, row.service))]
    if not aside:
        return ready
    with system.database.transaction() as connection:
        waiting = deferred.put_aside(connection, aside)
    return [row for row in ready if (row.instance_id, row.step, row.phase) not in waiting]


def _aside(system: System, row: Ready, lane: Lane) -> Aside:
    reason = gates.presumed(system, lane)
    budget = _budget(system, row) if reason in admission.SHUT else None
    return Aside(instance_id=row.instance_id, step=row.step, phase=row.phase, gate=lane.name, reason=reason,
                 budget=budget)  # fmt: skip


def _budget(system: System, row: Ready) -> float | None:
    """Its deadline has to come though it is never sent."""
    try:
        return attempts.planned_budget(system.plans(row.version_id), row.step, row.phase, escalated=row.escalated)
    except (OrchestratorError, LookupError):  # its definition cannot be read any more: the publish will say so
        return None


def let_in(system: System) -> tuple[list[Ready], int]:
    """Whose turn it is, marked as published: the caller publishes them. And how many were let go, which the dispatcher
    finds like any other."""
    with system.database.transaction() as connection:
        waited_for = deferred.gates(connection)
        asked = [name for name in waited_for if name in system.lanes and system.lanes[name].idempotency == "query"]
        let_go = deferred.let_go_overdue(connection, asked, BATCH) if waited_for else 0
    system.watch.next_turn = None
    turns = [_surely(system, name) for name in waited_for]
    return [row for rows, _ in turns for row in rows], let_go + sum(count for _, count in turns)


def _surely(system: System, name: str) -> tuple[list[Ready], int]:
    """Those whom the lanes before have let in are marked already, so what goes wrong with one lane may not keep them."""
    try:
        return _let_in(system, name)
    except (SQLAlchemyError, psycopg.Error) as error:
        log.warning("lane %s cannot be looked at and is tried again: %s", name, told(error))
        return [], 0


def _let_in(system: System, name: str) -> tuple[list[Ready], int]:
    lane = system.lanes.get(name)
    with system.database.transaction() as connection:
        states, now = lanes.lock(connection, [name])
        state = states[name]
        if state.is_troubled != system.watch.state(name).is_troubled:
            system.watch.forget()  # or those who are let go would be put aside again as they were
        if lane is None or not (admission.is_limited(lane) or state.is_troubled):
            return [], deferred.let_go(connection, name, BATCH)
        if state.shut(now):
            return [], deferred.let_go_limited(connection, name, BATCH)
        return _take_turns(system, connection, Gate(lane, state, now, flying=_flying(connection, lane))), 0


def _flying(connection: Connection, lane: Lane) -> int:
    return lanes.flying(connection, [lane.name]).get(lane.name, 0) if lane.concurrency is not None else 0


def _take_turns(system: System, connection: Connection, gate: Gate) -> list[Ready]:
    name = gate.lane.name
    if admission.is_limited(gate.lane) and gate.state.open_until is None:
        deferred.call_limited(connection, name, "concurrency" if gate.lane.concurrency is not None else "rate", BATCH)
    if gate.lane.rate is not None:
        soon = max(gate.seconds_to_next(), min(gate.lane.rate.interval * gate.lane.rate.burst, SOONEST))
        system.watch.next_turn = min(soon, system.watch.next_turn or soon)
    room = gate.room(BATCH)
    free = room - deferred.published(connection, name) if room else 0
    return deferred.let_in(connection, name, free) if free > 0 else []
