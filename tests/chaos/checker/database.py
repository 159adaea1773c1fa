"""What Postgres holds, instance by instance, as it stood at one moment. Read by SQL of the checker's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import psycopg
from psycopg.rows import args_row

T = TypeVar("T", "Step", "Entry")
BATCH = 5000  # rows a round trip


@dataclass(frozen=True, slots=True)
class Header:
    """A row of `instance`."""

    id: UUID
    tenant: str
    workflow_id: str
    version_id: UUID
    status: str
    reason: str | None
    outcome: str | None
    history_seq: int
    life: int
    suspended_at: datetime | None
    cancel_requested_at: datetime | None
    deadline_at: datetime | None
    ended_at: datetime | None
    parent_id: UUID | None
    parent_step: str | None
    parent_generation: int | None

    @property
    def trace(self) -> str:
        return self.id.hex


@dataclass(frozen=True, slots=True)
class Step:
    """A row of `step`."""

    instance_id: UUID
    step: str
    phase: str
    tenant: str
    version_id: UUID
    state: str
    reason: str | None
    service: str | None
    generation: int
    attempt: int
    uncertain: bool  # of this generation, or of one that was escalated away
    done_seq: int | None
    decision: str | None
    items: int
    due_at: datetime | None
    deferred: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of `history`."""

    instance_id: UUID
    seq: int
    tenant: str
    verb: str
    status: str
    step: str | None
    phase: str | None
    reason: str | None
    attempt: int | None
    generation: int | None
    service: str | None
    worker: str | None
    decision: str | None


HEADERS = """
SELECT id, tenant, workflow_id, version_id, status, reason, outcome, history_seq, life, suspended_at, cancel_requested_at,
  deadline_at, ended_at, parent_id, parent_step, parent_generation FROM instance ORDER BY id
"""
STEPS = """
SELECT instance_id, step, phase, tenant, version_id, state, reason, service, generation, attempt,
  uncertain OR uncertain_before, done_seq, decision, items, due_at, deferred FROM step ORDER BY instance_id
"""
HISTORY = """
SELECT instance_id, seq, tenant, verb, status, step, phase, reason, attempt, generation, service, worker,
  CASE WHEN verb IN ('resolve', 'reject') AND jsonb_typeof(output) = 'object' THEN output->>'decision' END
FROM history ORDER BY instance_id, seq
"""
VERSIONS = "SELECT id, tenant, text FROM definition_version"
CROSSED = """
SELECT o.trace, o.tenant, i.tenant FROM outbox o JOIN instance i ON i.id = o.trace WHERE o.tenant <> i.tenant
"""


@dataclass(frozen=True, kw_only=True)
class Version:
    tenant: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One moment; rows of the two large tables are streamed."""

    connection: psycopg.Connection[Any]
    now: datetime
    headers: dict[UUID, Header]
    versions: dict[UUID, Version]
    crossed: tuple[tuple[UUID, str, str], ...]  # events of the outbox: trace, their tenant, its instance's

    def instances(self) -> Iterator[tuple[Header, list[Step], list[Entry]]]:
        with self._stream(Step, STEPS) as steps, self._stream(Entry, HISTORY) as entries:
            for trace, header in self.headers.items():  # in the same order
                yield header, steps.of(trace), entries.of(trace)

    @contextmanager
    def _stream(self, made: type[T], statement: str) -> Iterator[_Stream[T]]:
        with self.connection.cursor(name=made.__name__, row_factory=args_row(made)) as cursor:
            cursor.itersize = BATCH
            cursor.execute(statement.encode())
            yield _Stream(iter(cursor))


class _Stream(Generic[T]):
    """Rows in the order of their instances, as many of them at a time as one instance has."""

    def __init__(self, rows: Iterator[T]) -> None:
        self._rows: Iterator[T] = rows
        self._next: T | None = next(rows, None)

    def of(self, trace: UUID) -> list[T]:
        found: list[T] = []
        while self._next is not None and self._next.instance_id <= trace:
            if self._next.instance_id == trace:
                found.append(self._next)
            self._next = next(self._rows, None)
        return found


@contextmanager
def snapshot(url: str) -> Iterator[Snapshot]:
    """`url` may name a driver, as SQLAlchemy's do."""
    with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://", 1)) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = connection.execute("SELECT clock_now()").fetchone()
        assert row is not None
        with connection.cursor(row_factory=args_row(Header)) as cursor:
            headers = {one.id: one for one in cursor.execute(HEADERS)}
        versions = {row: Version(tenant=tenant, text=text) for row, tenant, text in connection.execute(VERSIONS)}
        crossed = tuple(connection.execute(CROSSED).fetchall())
        yield Snapshot(connection=connection, now=row[0], headers=headers, versions=versions, crossed=crossed)
