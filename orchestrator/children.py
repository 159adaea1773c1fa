"""Sub-workflows: a child is started once for each generation of its step, and the news goes from one to the other.

No transaction locks two related instances. What one has to learn of the other stands in Postgres until it has been told,
so that a crash between two of these transactions only delays it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, OperationalError

from orchestrator import births, kinship
from orchestrator.attempts import Attempt
from orchestrator.births import Parent
from orchestrator.errors import OrchestratorError
from orchestrator.kinship import End
from orchestrator.lane import result_of
from orchestrator.store import due, family, transitions
from orchestrator.system import System

BATCH = 100
PUT_OFF = 60.0  # seconds before news that cannot be carried are tried again
OLDEST = 20  # generations of a family: a definition cannot contain itself, but a chain of them may be long

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Refused:
    """There is no such child to be had: no such workflow, or one that does not take this payload."""

    error: str


def start(system: System, attempt: Attempt, workflow: str, payload: object) -> str | Refused | None:
    """Start the child of an attempt, or find the one that an earlier attempt has started: its id. None: the parent has
    fallen before there was one."""
    with system.database.transaction() as connection:
        has_fallen = family.has_fallen(connection, attempt.instance)
        known = family.child(connection, attempt.instance, attempt.step, attempt.generation)
        if known is not None:
            family.tell_again(connection, known)
        if known is not None or has_fallen or not family.is_held(connection, attempt):
            return known
        try:
            return _bear(system, connection, attempt, workflow, payload)
        except OrchestratorError as error:
            return Refused(error=f"sub-workflow {workflow}: {error}")


def _bear(
    system: System, connection: Connection, attempt: Attempt, workflow: str, payload: object
) -> str | Refused | None:
    line = family.line(connection, attempt.instance)
    if workflow in [name for _, name in line] or len(line) >= OLDEST:
        path = " → ".join([name for _, name in reversed(line)] + [workflow])
        return Refused(error=f"sub-workflow {workflow} would run inside itself, or too deep: {path}")
    parent = Parent(id=attempt.instance, step=attempt.step, generation=attempt.generation, root=line[-1][0])
    born = births.start_child(
        connection, system.plans, system.settings, tenant=attempt.tenant, workflow_id=workflow, payload=payload,
        parent=parent,
    )  # fmt: skip
    return born or family.child(connection, attempt.instance, attempt.step, attempt.generation)


def recall(system: System, attempt: Attempt) -> str | None:
    """Have the child of a step undone: its id. None: there is none."""
    with system.database.transaction() as connection:
        child = family.child(connection, attempt.instance, attempt.step, family.generation(connection, attempt))
    if child is not None:
        transitions.transition(system.database, system.plans, [child], kinship.recall, worker=system.worker)
    return child


def carry(system: System) -> int:
    """Carry all news there is between parents and children. Returns how many."""
    return _tell(system) + _abandon(system)


def _tell(system: System) -> int:
    with system.database.transaction() as connection:
        found = family.untold(connection, BATCH)
    return sum(_one(system, child.id, partial(_tell_parent, system, child)) for child in found)


def _abandon(system: System) -> int:
    with system.database.transaction() as connection:
        found = family.abandoned(connection, BATCH)
    return sum(_one(system, child, partial(_cancel, system, child)) for child in found)


def _one(system: System, child: str, carry: Callable[[], object]) -> int:
    """One that cannot be carried is put off, and does not hold up the others'."""
    try:
        carry()
    except (OperationalError, InterfaceError):
        raise  # the database is away: so for all of them
    except Exception:
        log.exception(
            "what concerns child %s and its parent cannot be carried; it is put off for %.0f s", child, PUT_OFF
        )
        with system.database.transaction() as connection:
            due.put_off(connection, child, PUT_OFF)
        return 0
    return 1


def _tell_parent(system: System, child: family.Ended) -> None:
    with system.database.transaction() as connection:
        end = _end(system, connection, child)
    transitions.transition(
        system.database, system.plans, [child.parent_id], partial(kinship.learn, end=end), worker=system.worker,
        is_narrow=True,
    )  # fmt: skip
    with system.database.transaction() as connection:
        family.told(connection, child)


def _cancel(system: System, child: str) -> None:
    transitions.transition(
        system.database, system.plans, [child], kinship.abandon, worker=system.worker, skip_locked=True
    )


def _end(system: System, connection: Connection, child: family.Ended) -> End:
    results = {step: result_of(output) for step, output in family.results(connection, child.id).items()}
    if len(json.dumps(results)) > system.settings.max_payload:
        log.warning("the results of %s are too large for its parent; it learns the status only", child.id)
        results = {}
    failure = family.failure(connection, child.id)
    output = {"instanceId": child.id, "status": child.status, "reason": child.reason, "result": results}
    return End(
        step=child.parent_step, generation=child.parent_generation, status=child.status, output=output,
        error=f"{child.workflow_id} is {child.status}" + (f": {failure}" if failure else ""),
    )  # fmt: skip
