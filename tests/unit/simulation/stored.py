"""The same world on the real store: what `world` models is done by Postgres, with the statements that it stands for.

Broker, workers, services and people are the simulated ones, so that the same numbers make the same schedule; and when
both come to the same after every commit, the model does what the store does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, TypeVar
from unittest.mock import patch

from sqlalchemy import Connection, text

from orchestrator import flow
from orchestrator.instance import Instance
from orchestrator.rows import Entry
from orchestrator.states import Phase
from orchestrator.store import due, transitions
from orchestrator.store.database import Database
from orchestrator.store.transitions import Birth
from tests.unit.simulation.world import GRACE, HEADER, LEASE, Message, World

T = TypeVar("T")

MANY = 1_000  # more than there ever is
CLOCK = """
CREATE TABLE test_clock (at timestamptz NOT NULL);
INSERT INTO test_clock VALUES ('epoch');
CREATE OR REPLACE FUNCTION clock_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT at FROM test_clock';
"""
DEFINED = text("""
INSERT INTO definition_version (id, tenant, workflow_id, version, text)
VALUES (CAST(:version_id AS uuid), :tenant, :workflow_id, :version, '')
""")
HISTORY = text(f"""
SELECT {", ".join(one.name for one in fields(Entry))} FROM history
WHERE instance_id = CAST(:id AS uuid) AND seq > :known ORDER BY seq
""")
LISTED = text("""
SELECT step, output -> 'items' FROM step WHERE instance_id = CAST(:id AS uuid) AND jsonb_typeof(output -> 'items') = 'array'
""")


class InOrder(World):
    """The store promises no order of an instance's rows, so that to compare them one has to be chosen: by name."""

    def _write(self, instance: Instance, origin: str) -> None:
        super()._write(instance, origin)
        self.rows = dict(sorted(self.rows.items()))


class CutOff(Exception):
    """The connection is lost before the commit."""


@dataclass
class Store:
    """A migrated database, whose clock says what it is told."""

    database: Database
    now: datetime | None = None

    def install(self) -> None:
        with self.database.transaction() as connection:
            connection.execute(text(CLOCK))
            connection.execute(DEFINED, asdict(HEADER))

    def clear(self) -> None:
        with self.database.transaction() as connection:
            connection.execute(text("DELETE FROM instance"))

    @contextmanager
    def at(self, now: datetime) -> Iterator[Database]:
        if now != self.now:
            with self.database.transaction() as connection:
                connection.execute(text("UPDATE test_clock SET at = :now"), {"now": now})
            self.now = now
        yield self.database


@contextmanager
def rows_in_order() -> Iterator[None]:
    """As `InOrder` has them."""
    with ExitStack() as stack:
        for name in ("READ", "READ_NARROW"):
            sql = getattr(transitions, name).text
            stack.enter_context(patch.object(transitions, name, text(f'{sql}, step COLLATE "C", phase')))
        yield


@dataclass(kw_only=True)
class StoredWorld(World):
    store: Store
    known: int = field(default=0, init=False)  # entries of the history

    # -- transitions

    def transition(self, verb: Callable[[Instance], T], origin: str, *, covered: frozenset[str] = frozenset(),
                   worker: str | None = None, is_narrow: bool = False, is_undone: bool = False) -> T:  # fmt: skip
        before, said, entries = self.header, list[T](), list[Entry]()

        def heard(instance: Instance) -> T:
            said.append(verb(instance))
            return said[-1]

        try:
            if verb is flow.begin:
                self._begin(heard)
            else:
                self._change(
                    heard, covered=covered, worker=worker, is_narrow=is_narrow, then=_cut_off if is_undone else None
                )
        finally:  # who is refused has to have changed nothing
            entries = self._read()
        if not is_undone:
            self.on_commit(self, before, entries, origin)
        return said[-1]

    def _begin(self, heard: Callable[[Instance], object]) -> None:
        heard(Instance(self.header, (), self.plan, self.now))
        with self._connection() as connection:
            transitions.begin(connection, self.plan, [Birth(header=self.header, payload={})], self.now)

    def _change(self, heard: Callable[[Instance], object], **how: Any) -> None:
        with self.store.at(self.now) as database, suppress(CutOff):
            transitions.transition(database, lambda *_: self.plan, [self.header.id], heard, **how)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with self.store.at(self.now) as database, database.transaction() as connection:
            yield connection

    def _read(self) -> list[Entry]:
        """Everything there is; the entries that are new."""
        with self._connection() as connection:
            (found,) = transitions.lock(connection, lambda *_: self.plan, [self.header.id])
            values = {"id": self.header.id, "known": self.known}
            entries = [Entry(**row) for row in connection.execute(HISTORY, values).mappings()]
            self.listed |= {row[0]: row[1] for row in connection.execute(LISTED, values)}
        assert found.now == self.now
        self.header, self.rows = found.header, dict(sorted(found.loaded.items()))
        self.history += entries
        self.known += len(entries)
        return entries

    # -- dispatcher

    def publish(self, *, is_lost: bool = False) -> int:
        with self._connection() as connection:
            ready = due.claim_for_publishing(connection, window=MANY, limit=MANY)
        if not ready:
            return 0
        self._read()
        found = {(one.step, one.phase) for one in ready}
        messages: list[Message] = [one for key in self.rows if key in found for one in self._messages(self.rows[key])]
        self.broker += [] if is_lost else messages
        return len(found)

    def republish(self, *, is_surely: bool = False) -> int:
        held = {message.queue for message in self.broker} if is_surely else set()
        with self._connection() as connection:
            queues = [queue for queue in due.flying_queues(connection, GRACE) if queue not in held]
            count = sum(due.republish(connection, queue=queue, grace=GRACE, empty=True, limit=MANY) for queue in queues)
        if count:
            self._read()
        return count

    def unpublish(self, step: str, phase: Phase) -> None:
        with self._connection() as connection:
            due.unpublish(connection, [(self.header.id, step, phase)])
        self._read()

    # -- leases

    def extend(self, worker: str) -> None:
        with self._connection() as connection:
            due.extend_leases(connection, worker=worker, lease=LEASE)
        self._read()

    def renew(self, values: dict[str, Any]) -> int:
        with self._connection() as connection:
            count = connection.execute(due.RENEW, values).rowcount
        self._read()
        return count

    # -- sweep

    def has_lost(self) -> bool:
        return self._is_among(due.lost_instances)

    def has_overdue(self) -> bool:
        return self._is_among(due.overdue_instances)

    def is_past_deadline(self) -> bool:
        return self._is_among(due.past_deadline)

    def _is_among(self, read: Callable[[Connection, int], list[str]]) -> bool:
        with self._connection() as connection:
            return self.header.id in read(connection, MANY)


def _cut_off(*_: object) -> None:
    raise CutOff
