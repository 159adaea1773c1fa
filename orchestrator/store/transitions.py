"""The one place where states are written: lock instances, let a verb work on them, write the difference.

A transition is one transaction of three statements. The first locks the instances in the order of their ids, so
that two waves never wait for each other in a circle. The second reads the rows with a snapshot taken *after* the
lock was had, so that it sees all that earlier holders have committed. The third writes everything at once: steps
(guarded by the state and the attempt that were read), history, instances. A guard that does not hold although the
lock is had means that somebody writes without it: LostRace, and the whole transaction is rolled back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, bindparam, text

from orchestrator import flow, logs, states
from orchestrator.errors import LostRace
from orchestrator.instance import Instance, Partial
from orchestrator.plan import Plan
from orchestrator.rows import Entry, Header, Row
from orchestrator.store.database import Database

PATIENCE = 10_000  # milliseconds
READY_CHANNEL = "orchestrator_ready"
NEWS = "news"  # what the channel says when a parent or a child has something to learn of the other
CHANGED_CHANNEL = "orchestrator_changed"  # only while somebody listens: see `changes`
LONGEST_NOTE = 7900  # bytes; Postgres refuses a payload of 8000

T = TypeVar("T")
PlanOf = Callable[[str, Connection], Plan]  # of a definition version's id

HEADER_COLUMNS = tuple(field.name for field in fields(Header))
WRITE_ONLY = frozenset({"output", "error", "comment", "decided_by"})
TOLD_ONLY = frozenset({"clears"})  # of a row, and no column
ROW_COLUMNS = tuple(field.name for field in fields(Row) if field.name not in WRITE_ONLY | TOLD_ONLY)


def _quoted(names: Iterable[str], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{name}"' for name in names)


# Nobody waits for ever: not for a lock, and not for a process that was stopped while it holds one. Set for this
# transaction only (a pooler may give the connection to somebody else next), and before the first lock is asked for.
LOCK = text(
    f"SELECT {_quoted(HEADER_COLUMNS)} FROM (SELECT set_config('lock_timeout', '{PATIENCE}', true),"
    f" set_config('idle_in_transaction_session_timeout', '{PATIENCE}', true)) bounded CROSS JOIN instance"
    " WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE OF instance"
)
LOCK_FREE = text(LOCK.text + " SKIP LOCKED")
READ = text(
    f"SELECT instance_id, clock_now() AS now, {_quoted(ROW_COLUMNS)} FROM step"
    " WHERE instance_id = ANY(CAST(:ids AS uuid[])) ORDER BY instance_id"
)
READ_NARROW = text(
    READ.text.replace(
        "ORDER BY", "AND (state NOT IN ('SUCCEEDED', 'SKIPPED', 'FAILED') OR step NOT LIKE '%]') ORDER BY"
    )
)
NOW = text("SELECT clock_now()")
NOTIFY = text(f"SELECT pg_notify('{READY_CHANNEL}', '')")

# Types of the columns as they travel in JSON; everything else is text.
TYPES = {
    "instance_id": "uuid", "version_id": "uuid", "order": "int", "generation": "int", "attempt": "int", "tries": "int",
    "losses": "int", "rounds": "int", "alone": "bool", "escalated": "bool", "uncertain": "bool", "uncertain_before": "bool", "branches_left": "int",
    "done_seq": "int", "output": "jsonb", "from_attempt": "int", "writes_output": "bool", "clears": "bool", "id": "uuid", "version": "int",
    "items": "int", "begun": "int", "parent_id": "uuid", "parent_generation": "int", "root_id": "uuid", "parent_told": "bool",
    "history_seq": "int", "from_seq": "int", "life": "int", "seq": "int", "time": "timestamptz",
}  # fmt: skip
TYPES |= {
    field.name: "timestamptz" for field in (*fields(Row), *fields(Header)) if field.name.endswith(("_at", "_until"))
}


def _record(parameter: str, columns: Sequence[str]) -> str:
    """A JSON list of objects as a table."""
    typed = ", ".join(f'"{name}" {TYPES.get(name, "text")}' for name in columns)
    return f"json_to_recordset(CAST(:{parameter} AS json)) AS t({typed})"


STEP_KEY = ("instance_id", "step", "phase")
STEP_SET = tuple(name for name in ROW_COLUMNS if name not in ("step", "phase", "order"))
STEP_TOLD = (
    "instance_id",
    "tenant",
    "version_id",
    *ROW_COLUMNS,
    *sorted(WRITE_ONLY),
    "from_state",
    "from_attempt",
    "writes_output",
    "clears",
)
HEADER_SET = ("status", "reason", "outcome", "cause", "history_seq", "life", "deadline_at", "suspended_at",
              "cancel_requested_at", "ended_at", "parent_told")  # fmt: skip
ENTRY_COLUMNS = ("instance_id", "tenant", "time", *(field.name for field in fields(Entry)))
STEP_INSERT = ("instance_id", "tenant", "version_id", *ROW_COLUMNS, *sorted(WRITE_ONLY))

WRITE = text(f"""
WITH moved AS (
  UPDATE step s SET {", ".join(f'"{name}" = t."{name}"' for name in STEP_SET)},
    output = CASE WHEN t.writes_output OR t.clears THEN t.output ELSE s.output END,
    error = CASE WHEN t.error = '' THEN NULL WHEN t.clears THEN t.error ELSE coalesce(t.error, s.error) END,
    comment = CASE WHEN t.clears THEN t.comment ELSE coalesce(t.comment, s.comment) END,
    decided_by = CASE WHEN t.clears THEN t.decided_by ELSE coalesce(t.decided_by, s.decided_by) END
  FROM {_record("moved", STEP_TOLD)}
  WHERE s.instance_id = t.instance_id AND s.step = t.step AND s.phase = t.phase
    AND s.state = t.from_state AND s.attempt = t.from_attempt
  RETURNING 1),
born AS (
  INSERT INTO step ({_quoted(STEP_INSERT)}) SELECT {_quoted(STEP_INSERT, "t.")} FROM {_record("born", STEP_TOLD)}
  RETURNING 1),
told AS (
  INSERT INTO history ({_quoted(ENTRY_COLUMNS)}) SELECT {_quoted(ENTRY_COLUMNS, "t.")} FROM {_record("entries", ENTRY_COLUMNS)}
  RETURNING 1),
shown AS (
  UPDATE instance i SET {", ".join(f'"{name}" = t."{name}"' for name in HEADER_SET)}
  FROM {_record("headers", ("id", "from_seq", *HEADER_SET))}
  WHERE i.id = t.id AND i.history_seq = t.from_seq
  RETURNING 1)
SELECT (SELECT count(*) FROM moved) AS moved, (SELECT count(*) FROM born) AS born,
  (SELECT count(*) FROM told) AS told, (SELECT count(*) FROM shown) AS shown,
  CASE WHEN :notify THEN pg_notify('{READY_CHANNEL}', '') END,
  CASE WHEN :news THEN pg_notify('{READY_CHANNEL}', '{NEWS}') END,
  CASE WHEN EXISTS (SELECT FROM watching WHERE until > (SELECT clock_timestamp()))
    THEN pg_notify('{CHANGED_CHANNEL}', :changed) END
""").bindparams(bindparam("notify"), bindparam("news"))

INSERT_INSTANCE = text(f"""
INSERT INTO instance ({_quoted(HEADER_COLUMNS)}, payload, idempotency_key, request_digest)
SELECT {_quoted(HEADER_COLUMNS, "t.")}, t.payload, t.idempotency_key, t.request_digest
FROM json_to_recordset(CAST(:instances AS json)) AS t({
    ", ".join(f'"{name}" {TYPES.get(name, "text")}' for name in HEADER_COLUMNS)
}, payload jsonb, idempotency_key text, request_digest text)
ON CONFLICT DO NOTHING RETURNING id
""")


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
