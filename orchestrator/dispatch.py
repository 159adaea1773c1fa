"""The dispatcher: publishes what is READY, after the commit that made it so. The READY row is the outbox.

A crash between marking a row as published and the publish itself loses the message, not the work: the sweep takes
the mark away again (`due.REPUBLISH`). A message sent twice finds nothing to claim.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import groupby
from typing import Any

import psycopg
from celery.canvas import Signature
from sqlalchemy.exc import SQLAlchemyError

from orchestrator import calls, canvas, children, gates, turns
from orchestrator.errors import OrchestratorError
from orchestrator.store import due
from orchestrator.store.database import told
from orchestrator.store.due import Ready
from orchestrator.store.statements import NEWS, NOTIFY, READY_CHANNEL
from orchestrator.system import System

BATCH = 500  # rows a round
WAVE = 50  # instances a message, at most
MESSAGES = 32  # a round that fits into so many messages sends one for each instance
PUT_OFF = 60.0  # seconds before a step that cannot be dispatched is tried again
IDLE = 1.0  # seconds between two looks when nobody notifies; also how soon a broken connection is tried again
ID = re.compile("[0-9a-f]{32}")
TURNS = 0.05  # seconds between two looks at who waits for a lane, while there is always something else to publish

log = logging.getLogger(__name__)


def dispatch(system: System) -> int:
    """Publish one round of what is READY. Returns how many steps; go round again while it is not zero."""
    gates.look(system)
    with system.database.transaction() as connection:
        due.read_from_the_index(connection)
        found = due.claim_for_publishing(connection, window=system.settings.window, limit=BATCH)
    ready = turns.put_aside(system, found)
    _send(system, ready)
    return len(found)


def let_in(system: System) -> int:
    """The same for what a lane kept waiting: published where it takes it now, or let go so that `dispatch` finds it."""
    ready, let_go = turns.let_in(system)
    _send(system, ready)
    return len(ready) + let_go


def say_again(system: System, wave: Any) -> int:
    """For a message in words that this program does not read: what it may have been about is sent once more, in words
    that it does. So an older program that meets a newer one's messages holds nothing up. Returns how many steps.

    `wave`: what stands where a message has its instances. It may be anything: then the message counts as lost.
    """
    ids = [one for one in wave[:WAVE] if _is_id(one)] if isinstance(wave, list) else []
    if not ids:
        return 0
    with system.database.transaction() as connection:
        ready = due.promised(connection, ids)
    _send(system, ready)
    return len(ready)


def _is_id(text: Any) -> bool:
    return isinstance(text, str) and ID.fullmatch(text) is not None


def _send(system: System, ready: list[Ready]) -> None:
    waves = list(_waves(system, ready))
    for sent, wave in enumerate(waves):
        try:
            if (message := _message(system, wave)) is not None:
                _publish(system, wave, message)
        except Exception:
            _unpublish(system, [row for left in waves[sent:] for row in left])
            raise


def _waves(system: System, ready: list[Ready]) -> Iterator[list[Ready]]:
    """Rows that one message can carry: of one tenant, version, step, phase and queue."""
    size = max(1, min(WAVE, len(ready) // MESSAGES))
    for _, rows in groupby(sorted(ready, key=_position), key=_position):
        together = list(rows)
        yield from _chunks(together, 1 if _is_single(system, together[0]) else size)


def _is_single(system: System, row: Ready) -> bool:
    """After a lost lease, and where a call may not simply be repeated, a step goes alone."""
    lane = calls.lane_of(system, row.service)
    return row.alone or (lane is not None and lane.idempotency in ("none", "query"))


def _position(row: Ready) -> tuple[str, str, str, str, str, str, bool]:
    return row.tenant, row.version_id, row.step, row.phase, row.queue, row.service or "", row.alone


def _chunks(rows: list[Ready], size: int) -> Iterator[list[Ready]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _message(system: System, wave: list[Ready]) -> Signature | None:
    """What carries a wave; None where its definition cannot be read any more: it is put off, and shown with the reason."""
    first = wave[0]
    try:
        if first.phase == "undo":
            return canvas.compensation(system.app, first.version_id, first.step, first.queue)
        return _canvas(system, first.version_id, first.step)
    except (OrchestratorError, LookupError) as error:
        log.error("%s of version %s cannot be dispatched: %s", first.step, first.version_id, error)  # noqa: TRY400
        with system.database.transaction() as connection:
            due.cannot_publish(connection, _keys(wave), error=f"cannot be dispatched: {error}", seconds=PUT_OFF)
        return None


def _publish(system: System, wave: list[Ready], message: Signature) -> None:
    queue = _queue(system, wave)
    message.apply_async(([row.instance_id for row in wave],), queue=queue, retry=False, ignore_result=True)


def _queue(system: System, wave: list[Ready]) -> str:
    """The lane's queue as it is configured now: nobody may serve the one that it had when the step became READY."""
    first = wave[0]
    lane = calls.lane_of(system, first.service)
    if lane is None or lane.queue == first.queue:
        return first.queue
    with system.database.transaction() as connection:
        due.reroute(connection, _keys(wave), lane.queue)
    return lane.queue


@lru_cache(maxsize=1024)
def _canvas(system: System, version: str, start: str) -> Signature:
    """Building a canvas costs more than sending it, and it is the same for every wave."""
    return canvas.compile(system.app, system.plans(version), version, start)


def _unpublish(system: System, rows: list[Ready]) -> None:
    """The broker did not take them: another round will."""
    with system.database.transaction() as connection:
        due.unpublish(connection, _keys(rows))


def _keys(rows: list[Ready]) -> list[due.Key]:
    return [(row.instance_id, row.step, row.phase) for row in rows]


class Dispatcher:
    """A thread that waits for notifications, and for what will be due."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._stop = threading.Event()
        self._let_in_at = 0.0
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        with suppress(psycopg.Error, SQLAlchemyError), self._system.database.transaction() as connection:
            connection.execute(NOTIFY)  # wakes it; without a database it wakes by itself after IDLE
        self._thread.join(timeout=5)

    def _is_stopping(self) -> bool:
        """Whoever is about to end marks nothing as published any more: others will."""
        return self._stop.is_set() or self._system.stopping.is_set()

    def _run(self) -> None:
        while not self._is_stopping():
            try:
                self._listen()
            except (psycopg.Error, SQLAlchemyError) as error:
                log.warning("the dispatcher has lost the database and tries again: %s", told(error))
                self._stop.wait(IDLE)
            except Exception:  # a thread that dies is worse than one that complains: it serves all tenants
                log.exception("the dispatcher stumbled and goes on")
                self._stop.wait(IDLE)

    def _listen(self) -> None:
        with self._system.database.listen(READY_CHANNEL) as connection:
            while not self._is_stopping():
                pause = self._rounds()
                for told in connection.notifies(timeout=pause, stop_after=1):
                    if told.payload == NEWS:
                        children.carry(self._system)
                    elif told.payload == gates.CHANGED:
                        self._system.watch.forget()

    def _rounds(self) -> float:
        """Dispatch until there is nothing left; returns the seconds until something may be due."""
        try:
            while self._round() and not self._is_stopping():
                pass
        except (psycopg.Error, SQLAlchemyError):
            raise
        except Exception as error:  # noqa: BLE001  # whatever the broker's client raises: the rows are unpublished again
            log.warning("the broker did not take a message; trying again: %s", error)
            self._stop.wait(IDLE)
        with self._system.database.transaction() as connection:
            next_due = due.seconds_to_next(connection)
        return max(0.005, min(pause for pause in (IDLE, next_due, self._system.watch.next_turn) if pause is not None))

    def _round(self) -> int:
        """One look at everything. Who waits for a lane has his turn however busy the other lanes are."""
        found = dispatch(self._system)
        return found + self._let_in(is_busy=found > 0)

    def _let_in(self, *, is_busy: bool) -> int:
        """Where no lane has a gate, only a change of the configuration may have left somebody waiting: that is no hurry."""
        pause = (TURNS if is_busy else 0.0) if gates.are_any(self._system) else IDLE
        if time.monotonic() - self._let_in_at < pause:
            return 0
        self._let_in_at = time.monotonic()
        return let_in(self._system)
