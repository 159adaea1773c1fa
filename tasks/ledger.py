"""What the sample lanes remember on disk: SQLite ledgers and folders of papers, written once per key.

They live beneath `$ORCHESTRATOR_DATA_DIR/lanes` (`.data/lanes` without it). Several worker
processes and threads call at once, and any of them may be killed at any line: an effect and the
receipt of its idempotency key are one transaction, and a paper appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orchestrator.lane import Call

RECEIPTS = "CREATE TABLE receipts (key TEXT PRIMARY KEY, operation TEXT NOT NULL, reply TEXT NOT NULL);"
PATIENCE = 30.0  # seconds to wait for another process's transaction

Row = sqlite3.Row
Effect = Callable[[sqlite3.Connection], Any]


def folder(*parts: str) -> Path:
    """A folder beneath the lanes' one, made if need be; parts are quoted, so none leads elsewhere."""
    root = Path(os.environ.get("ORCHESTRATOR_DATA_DIR") or ".data", "lanes")
    path = root.joinpath(*(plain(part) for part in parts))
    path.mkdir(parents=True, exist_ok=True)
    return path


def plain(name: str) -> str:
    """A name as a single path segment."""
    quoted = quote(name, safe=" ()[]+,@=")
    return quoted.replace(".", "%2E", 1) if quoted.startswith(".") else quoted


def write_once(path: Path, content: str) -> bool:
    """Write a file that appears whole, unless it is there already; says whether this call wrote it."""
    draft = path.with_name(f".{uuid.uuid4().hex}")
    try:
        draft.touch(mode=0o600, exist_ok=False)  # a paper may hold a callback token
        draft.write_text(content, encoding="utf-8")
        os.link(draft, path)
        return True
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)


def member(call: Call, *names: str) -> Any:
    """The first of these members that the input has, then the payload; none where neither has any."""
    for source in (call.input, call.payload):
        for name in names:
            if isinstance(source, dict) and source.get(name) is not None:
                return source[name]
    return None


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """One lane's SQLite file: its own tables, and the receipts of the keys that it has served."""

    name: str
    schema: str  # SQL statements that make its tables

    def once(self, call: Call, effect: Effect) -> Any:
        """Perform the effect and keep its reply; a key that was served is answered with the first reply."""
        with self.transaction() as db:
            found = db.execute("SELECT reply FROM receipts WHERE key = ?", (call.key,)).fetchone()
            if found:
                return json.loads(found["reply"])
            reply = effect(db)
            db.execute("INSERT INTO receipts VALUES (?, ?, ?)", (call.key, call.operation, json.dumps(reply)))
            return reply

    def rows(self, sql: str, *values: Any) -> list[Row]:
        with self.transaction() as db:
            return db.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The write lock is taken at once: who reads first and writes later could be refused half way."""
        with closing(_open(self._file())) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                if db.in_transaction:  # a full disk has ended it already
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def _file(self) -> Path:
        path = folder() / f"{self.name}.sqlite3"
        if not path.exists():
            self._create(path)
        return path

    def _create(self, path: Path) -> None:
        """Made aside and linked into place: nobody sees it half made, and the first of several wins."""
        draft = path.with_name(f".{uuid.uuid4().hex}")
        with closing(_open(draft)) as db:
            db.execute("PRAGMA journal_mode = WAL")  # kept in the file; readers do not wait for writers
            db.executescript(RECEIPTS + self.schema)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    db.row_factory = sqlite3.Row
    return db
