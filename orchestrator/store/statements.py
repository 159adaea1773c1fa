"""The statements by which instances are locked, read and written. Which columns there are, the fields of `rows` say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields

from sqlalchemy import bindparam, text

from orchestrator.rows import Entry, Header, Row

PATIENCE = 10_000  # milliseconds
READY_CHANNEL = "orchestrator_ready"
NEWS = "news"  # what the channel says when a parent or a child has something to learn of the other
CHANGED_CHANNEL = "orchestrator_changed"  # only while somebody listens: see `changes`
LONGEST_NOTE = 7900  # bytes; Postgres refuses a payload of 8000

HEADER_COLUMNS = tuple(field.name for field in fields(Header))
WRITE_ONLY = frozenset({"output", "error", "comment", "decided_by"})
TOLD_ONLY = frozenset({"clears"})  # of a row, and no column
ROW_COLUMNS = tuple(field.name for field in fields(Row) if field.name not in WRITE_ONLY | TOLD_ONLY)


def _quoted(names: Iterable[str], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{name}"' for name in names)


# Nobody waits for ever: not for a lock, and not for a process that was stopped while it holds one. Set for this
# transaction only (a pooler may give the connection to somebody else next), and before the first lock is asked for.
# Every statement of a transition finds its rows by their key, and says so: a plan that was made while the tables were
# small, and scanned them, would be kept until they are next analyzed.
LOCK = text(
    f"SELECT {_quoted(HEADER_COLUMNS)} FROM (SELECT set_config('lock_timeout', '{PATIENCE}', true),"
    f" set_config('idle_in_transaction_session_timeout', '{PATIENCE}', true),"
    " set_config('enable_seqscan', 'off', true)) bounded CROSS JOIN instance"
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
    field.name: "timestamptz"
    for field in (*fields(Row), *fields(Header))
    if field.name.endswith(("_at", "_until", "_since"))
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
              "cancel_requested_at", "ended_at", "parent_told", "doubted_since", "restored_at")  # fmt: skip
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
