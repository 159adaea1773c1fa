"""The sweep: what time alone has made due. Every worker sweeps on a timer and on beat's messages; ten at once are harmless.

Each kind reads ids without locks, lets a transition lock and check again (`SKIP LOCKED`: somebody who holds an
instance is about to change it anyway), and goes round while something moved.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from orchestrator import attempts, children, compensation, escalation
from orchestrator.instance import Instance
from orchestrator.store import due, transitions
from orchestrator.store.database import Database, told, was_cut
from orchestrator.system import System

BATCH = 100
REPUBLISH_BATCH = 1000
ROUNDS = 20  # of what is due, between two looks at everything else
HAND_AGAIN = 0.05  # seconds between two tries to hand over what is locked
PUT_OFF = 60.0  # seconds before an instance that cannot be swept is looked at again

log = logging.getLogger(__name__)

Verb = Callable[[Instance], bool]


def sweep(system: System) -> int:
    """One sweep of everything. Returns how many instances or messages it moved."""
    moved = 0
    while True:
        due_now = _rounds(system)
        moved += due_now + republish(system) + children.carry(system)
        if not due_now:
            return moved


def _rounds(system: System) -> int:
    """A batch of each kind in turn: a hundred thousand deadlines that pass at once take minutes, and no lost lease waits
    for them, nor for more than some rounds a lost message or the news of a family."""
    kinds = ((due.lost_instances, _lose(system)), (due.overdue_instances, _time_out), (due.past_deadline, _fall))
    moved = 0
    for _ in range(ROUNDS):
        count = sum(_move(system, _read(system, read), verb) for read, verb in kinds)
        moved += count
        if count == 0:
            break
    return moved


def _read(system: System, read: Callable[[Connection, int], list[str]]) -> list[str]:
    with system.database.transaction() as connection:
        due.read_from_the_index(connection)
        return read(connection, BATCH)


def _move(system: System, ids: Sequence[str], verb: Verb, *, puts_off: bool = True) -> int:
    """Move a batch; one that fails is halved until the bad one stands alone, and that one is put off."""
    if not ids:
        return 0
    try:
        results = transitions.transition(
            system.database, system.plans, ids, verb, worker=system.worker, skip_locked=True
        )
        return sum(results.values())
    except Exception as error:
        if len(ids) > 1:
            half = len(ids) // 2
            return sum(_move(system, part, verb, puts_off=puts_off) for part in (ids[:half], ids[half:]))
        if not puts_off:
            log.exception("instance %s cannot be handed over", ids[0])
            return 0
        _put_off(system, ids[0], error)
        return 0


def _put_off(system: System, instance: str, error: Exception) -> None:
    """Where Postgres was away it is not the instance's fault: the next sweep looks at it again. It is put off all the
    same, for an error that looks like that may be its own."""
    seconds = system.settings.sweep_every if was_cut(error) else PUT_OFF
    log.error("instance %s cannot be swept; it is put off for %.0f s", instance, seconds, exc_info=error)
    with system.database.transaction() as connection:
        due.put_off(connection, instance, seconds)


def _lose(system: System) -> Verb:
    def verb(instance: Instance) -> bool:
        lost = [row for row in instance.rows() if row.is_leased and row.lease_until and row.lease_until < instance.now]
        for row in lost:
            attempts.lose(instance, row, losses=system.settings.losses)
        return bool(lost)

    return verb


def hand_over(system: System, *, within: float) -> int:
    """Lose at once what this process holds and cannot end any more. Returns how many instances that concerned.

    What somebody has locked, or an error has kept, is tried again for `within` seconds; after that its lease runs out.
    """
    until, moved = time.monotonic() + within, 0
    while ids := _held(system):
        moved += _move(system, ids, _hand_over(system), puts_off=False)
        if time.monotonic() > until:
            break
        time.sleep(HAND_AGAIN)
    return moved


def _held(system: System) -> list[str]:
    with system.database.transaction() as connection:
        return due.held_instances(connection, system.worker)


def _hand_over(system: System) -> Verb:
    def verb(instance: Instance) -> bool:
        held = [row for row in instance.rows() if row.is_leased and row.worker == system.worker]
        for row in held:  # one whose lease has run out was lost before, and not by being stopped: that counts
            in_time = row.lease_until is None or row.lease_until >= instance.now
            attempts.lose(instance, row, losses=system.settings.losses, handed_over=in_time)
        return bool(held)

    return verb


def _time_out(instance: Instance) -> bool:
    overdue = [row for row in instance.rows() if escalation.is_due(instance, row)]
    for row in overdue:
        current = instance.row(row.step, row.phase)
        if current is not None and escalation.is_due(instance, current):  # the one before may have ended it
            escalation.time_out(instance, current)
    return bool(overdue)


def _fall(instance: Instance) -> bool:
    deadline = instance.header.deadline_at
    is_due = deadline is not None and deadline <= instance.now and not instance.is_falling and not instance.is_over
    if is_due:
        compensation.fall(instance, compensation.DEADLINE, "deadline")
    return is_due


def republish(system: System) -> int:
    """Take the mark of `published` from messages that are surely lost; the dispatcher sends them again."""
    grace, moved = system.settings.republish_after, 0
    with system.database.transaction() as connection:
        queues = due.flying_queues(connection, grace)
    for queue in queues:
        empty = _is_empty(system, queue)
        with system.database.transaction() as connection:
            due.read_from_the_index(connection)
            moved += due.republish(connection, queue=queue, grace=grace, empty=empty, limit=REPUBLISH_BATCH)
    return moved


def _is_empty(system: System, queue: str) -> bool:
    """Whether the broker holds no message for a queue; false when it cannot be asked."""
    try:
        with system.app.connection_for_write() as connection, connection.channel() as channel:
            return bool(channel.queue_declare(queue=queue, passive=True).message_count == 0)
    except Exception as error:  # noqa: BLE001  # whatever the broker's client raises: then it is not known to be empty
        is_missing = getattr(error, "code", None) == 404 or "NOT_FOUND" in str(error)
        if not is_missing:
            log.warning("the broker cannot be asked about queue %s: %s", queue, error)
        return is_missing


class Timer:
    """Does something again and again in a thread, so that neither beat nor the broker is the only clock.

    `at_last`: once more when it is told to stop.
    """

    def __init__(self, name: str, every: float, action: Callable[[], object], *, at_last: bool = False) -> None:
        self._name, self._every, self._action, self._at_last = name, every, action, at_last
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self._act()
        if self._at_last:
            self._act()

    def _act(self) -> None:
        try:
            self._action()
        except Exception as error:  # noqa: BLE001  # a timer that dies is worse than one that complains
            log.warning("%s failed and will try again: %s", self._name, told(error))


def extend_leases(system: System, database: Database) -> int:
    with database.transaction() as connection:
        return due.extend_leases(connection, worker=system.worker, lease=system.settings.lease)
