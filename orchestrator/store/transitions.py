"""The one place where states are written: lock instances, let a verb work on them, write the difference.

A transition is one transaction of three statements. The first locks the instances in the order of their ids, so
that two waves never wait for each other in a circle. The second reads the rows with a snapshot taken *after* the
lock was had, so that it sees all that earlier holders have committed. The third writes everything at once: steps
(guarded by the state and the attempt that were read), history, instances. A guard that does not hold although the
lock is had means that somebody writes without it: LostRace, and the whole transaction is rolled back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from orchestrator import flow, logs, states
from orchestrator.errors import LostRace
from orchestrator.instance import Instance, Partial
from orchestrator.plan import Plan
from orchestrator.rows import Entry, Header, Row
from orchestrator.store.database import Database
from orchestrator.store.statements import (
    HEADER_SET,
    INSERT_INSTANCE,
    LOCK,
    LOCK_FREE,
    LONGEST_NOTE,
    NOW,
    READ,
    READ_NARROW,
    ROW_COLUMNS,
    WRITE,
    WRITE_ONLY,
)

T = TypeVar("T")
PlanOf = Callable[[str, Connection], Plan]  # of a definition version's id


@dataclass(frozen=True, kw_only=True)
class Birth:
    """A new instance, and what is stored of its request beside the header."""

    header: Header
    payload: Any
    idempotency_key: str | None = None
    request_digest: str | None = None


def transition(
    database: Database,
    plan_of: PlanOf,
    ids: Sequence[str],
    verb: Callable[[Instance], T],
    *,
    tenant: str | None = None,
    covered: frozenset[str] = frozenset(),
    worker: str | None = None,
    skip_locked: bool = False,
    is_narrow: bool = False,
    first: Callable[[Connection, list[Instance]], None] | None = None,
    then: Callable[[Connection, dict[str, T]], None] | None = None,
) -> dict[str, T]:
    """Let `verb` work on each of the instances under its lock, and commit what it changed.

    Returns what the verb returned, by instance id; an id that does not exist, belongs to another tenant or (with
    `skip_locked`) is held by somebody else is missing. When a verb raises, nothing is written. `first` reads, and may
    lock, what the verbs need beside the instances, once these are locked; `then` reads, in the same transaction, what
    the caller needs next: a transaction of its own would cost three round trips more.
    `is_narrow`: iterations that have ended are left out, unless a verb turns out to need them; it then works again.
    """
    with database.transaction(tenant) as connection:

        def work(*, is_narrow: bool) -> tuple[list[Instance], dict[str, T]]:
            found = lock(connection, plan_of, ids, covered=covered, worker=worker, skip_locked=skip_locked,
                         is_narrow=is_narrow)  # fmt: skip
            mine = [one for one in found if tenant is None or one.header.tenant == tenant]
            if first is not None:
                first(connection, mine)
            return mine, {one.header.id: verb(one) for one in mine}

        try:
            mine, results = work(is_narrow=is_narrow)
        except Partial:
            mine, results = work(is_narrow=False)
        write(connection, mine)
        if then is not None:
            then(connection, results)
    for one in mine:
        logs.tell(one.header, one.entries)
    return results


def lock(
    connection: Connection,
    plan_of: PlanOf,
    ids: Sequence[str],
    *,
    covered: frozenset[str] = frozenset(),
    worker: str | None = None,
    skip_locked: bool = False,
    is_narrow: bool = False,
) -> list[Instance]:
    """Lock the instances and read their rows; in the order of their ids.

    With `is_narrow` iterations that have ended are not read, which may be thousands; what only looks ahead has no need of
    them. An instance that falls, or lives again, looks back.
    """
    found = connection.execute(LOCK_FREE if skip_locked else LOCK, {"ids": list(ids)}).mappings().all()
    headers = [_header(row) for row in found]
    if not headers:
        return []
    is_narrow = is_narrow and all(header.outcome is None and header.life == 1 for header in headers)
    rows, now = _rows(connection, [header.id for header in headers], is_narrow=is_narrow)
    return [
        Instance(
            header, rows.get(header.id, ()), plan_of(header.version_id, connection), now, covered=covered, worker=worker,
            is_whole=not is_narrow,
        )
        for header in headers
    ]  # fmt: skip


def _header(row: Any) -> Header:
    values = dict(row)
    values |= {name: value.hex for name, value in values.items() if isinstance(value, UUID)}
    return Header(**values)


def _rows(connection: Connection, ids: list[str], *, is_narrow: bool) -> tuple[dict[str, list[Row]], datetime]:
    rows: dict[str, list[Row]] = {}
    now: datetime | None = None
    for found in connection.execute(READ_NARROW if is_narrow else READ, {"ids": ids}):
        now = now or found[1]
        rows.setdefault(found[0].hex, []).append(Row(**dict(zip(ROW_COLUMNS, found[2:], strict=True))))
    return rows, now or connection.execute(NOW).scalar_one()


def begin(connection: Connection, plan: Plan, births: Sequence[Birth], now: datetime) -> list[Instance]:
    """Insert instances and their first steps. One whose idempotency key is taken is left out of the answer."""
    started = [_begun(birth, plan, now) for birth in births]
    told = [
        {**asdict(one.header), "payload": birth.payload, "idempotency_key": birth.idempotency_key,
         "request_digest": birth.request_digest, "history_seq": 0}
        for one, birth in zip(started, births, strict=True)
    ]  # fmt: skip
    inserted = {row[0].hex for row in connection.execute(INSERT_INSTANCE, {"instances": _json(told)})}
    new = [one for one in started if one.header.id in inserted]
    write(connection, new)
    return new


def _begun(birth: Birth, plan: Plan, now: datetime) -> Instance:
    instance = Instance(birth.header, (), plan, now)
    flow.begin(instance)
    return instance


def write(connection: Connection, instances: Sequence[Instance]) -> None:
    """Write what the verbs have changed. Raises LostRace when a guard does not hold."""
    for one in instances:
        one.settle()
    changed = [(one, row) for one in instances for row in one.changed()]
    born = [_told_row(one, row) for one, row in changed if row.key not in one.loaded]
    moved = [_told_row(one, row) for one, row in changed if row.key in one.loaded]
    headers = [_told_header(one) for one in instances if one.entries or one.header != one.loaded_header]
    if not (born or moved or headers):
        return
    entries = [_told_entry(one, entry) for one in instances for entry in one.entries]
    counts = connection.execute(
        WRITE,
        {"moved": _json(moved), "born": _json(born), "entries": _json(entries), "headers": _json(headers),
         "notify": any(_wants_dispatch(one.loaded.get(row.key), row) for one, row in changed), "changed": _note(instances),
         "news": any(one.has_news for one in instances)},
    ).one()  # fmt: skip
    if tuple(counts[:4]) != (len(moved), len(born), len(entries), len(headers)):
        raise LostRace


def _note(instances: Sequence[Instance]) -> str:
    """Which have changed, as {tenant: [id]}; nothing where these are too many to be named."""
    ids: dict[str, list[str]] = {}
    for one in instances:
        ids.setdefault(one.header.tenant, []).append(one.header.id)
    said = json.dumps(ids, separators=(",", ":"))
    return said if len(said) < LONGEST_NOTE else ""


def _wants_dispatch(before: Row | None, row: Row) -> bool:
    """It is to be published, or its lane has room again for one that waits to be let in."""
    has_left = before is not None and before.gate is not None and row.gate is None
    return has_left or (row.state in states.CLAIMABLE and row.published_at is None and row.deferred is None)


def _told_row(instance: Instance, row: Row) -> dict[str, Any]:
    before = instance.loaded.get(row.key)
    return {
        **{name: getattr(row, name) for name in ROW_COLUMNS},
        **{name: getattr(row, name) for name in WRITE_ONLY},
        "instance_id": instance.header.id, "tenant": instance.header.tenant, "version_id": instance.header.version_id,
        "from_state": before.state if before else None, "from_attempt": before.attempt if before else None,
        "clears": row.clears, "writes_output": row.output is not None or _has_just_succeeded(before, row),
    }  # fmt: skip


def _has_just_succeeded(before: Row | None, row: Row) -> bool:
    """Its reply is written even when that is null, or an earlier generation's would stand there still. A loop's are its
    items, which are needed as long as something inside it may be undone."""
    return row.state == states.SUCCEEDED and (before is None or before.state != states.SUCCEEDED) and not row.items


def _told_header(instance: Instance) -> dict[str, Any]:
    header = instance.header
    seq = header.history_seq + len(instance.entries)
    return {**{name: getattr(header, name) for name in HEADER_SET}, "id": header.id,
            "from_seq": header.history_seq, "history_seq": seq}  # fmt: skip


def _told_entry(instance: Instance, entry: Entry) -> dict[str, Any]:
    return {**{field.name: getattr(entry, field.name) for field in fields(Entry)}, "instance_id": instance.header.id,
            "tenant": instance.header.tenant, "time": instance.now}  # fmt: skip


def _json(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, default=_iso, allow_nan=False, ensure_ascii=False)


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")
