"""The schema: which revisions this program works with, and how it is brought up to date while others work on it.

A program needs the newest of its migrations that *expands* the schema: those run before it is rolled out, and the
program before it goes on working meanwhile. One that *contracts* (`UNUSED_SINCE` in its file) may come later, and names
the oldest program that does without what it takes away; a program is named by the newest migration that it knows.
The database remembers that name, so that an older program refuses to start instead of stumbling.
"""

from __future__ import annotations

import importlib.resources
import re
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from orchestrator.errors import SchemaError

if TYPE_CHECKING:
    from alembic.config import Config

VERSIONS = Path(str(importlib.resources.files("orchestrator.store") / "migrations" / "versions"))
CONTRACTS = re.compile(r'^UNUSED_SINCE = "(\d{4})"', re.MULTILINE)
LOCK_TIMEOUT = "2s"  # a table is not kept from everybody for longer than this, waiting for one who holds it
PATIENCE = 60.0  # seconds that a process waits for somebody to upgrade
LOOK = 0.5  # seconds between two looks

HAS_TABLES = text("SELECT to_regclass('alembic_version') IS NOT NULL AND to_regclass('installation') IS NOT NULL")
OLDEST_PROGRAM = "oldest_program"  # in `installation`: who knows no newer migration than this does not fit any more
PRESENT = text("""
SELECT (SELECT max(version_num) FROM alembic_version),
  (SELECT value FROM installation WHERE name = :oldest)
""")
REMEMBER = text("""
INSERT INTO installation VALUES (:oldest, :since)
ON CONFLICT (name) DO UPDATE SET value = greatest(installation.value, excluded.value)
""")


@dataclass(frozen=True, kw_only=True)
class Program:
    """The revisions that a program knows."""

    needs: str  # the newest that expands
    knows: str  # the newest of all
    serves: str | None  # the oldest program that its contracting migrations leave fit


@dataclass(frozen=True, kw_only=True)
class Schema:
    """A database's: its revision (none: no tables of ours), and the oldest program that fits it."""

    revision: str | None
    oldest_program: str | None = None


@cache
def program(versions: Path = VERSIONS) -> Program:
    marks = _marks(versions)
    expanding = [revision for revision, since in marks.items() if since is None]
    return Program(needs=max(expanding), knows=max(marks), serves=max(filter(None, marks.values()), default=None))


def taken_since(schema: Schema, versions: Path = VERSIONS) -> str | None:
    """The oldest program that does without what the migrations take away that are still to come; none: they take nothing."""
    to_come = [since for revision, since in _marks(versions).items() if revision > (schema.revision or "")]
    return max(filter(None, to_come), default=None)


def _marks(versions: Path) -> dict[str, str | None]:
    """Revision → its mark. Read as text: importing Alembic costs every process 0.2 s."""
    found = {file.name[:4]: CONTRACTS.search(file.read_text()) for file in sorted(versions.glob("[0-9]*.py"))}
    return {revision: mark[1] if mark else None for revision, mark in found.items()}


def read(connection: Connection) -> Schema:
    if not connection.execute(HAS_TABLES).scalar_one():
        return Schema(revision=None)
    revision, oldest = connection.execute(PRESENT, {"oldest": OLDEST_PROGRAM}).one()
    return Schema(revision=revision, oldest_program=oldest)


def misfit(schema: Schema, program: Program) -> str | None:
    """Why a program cannot work on a schema, and what to do; none: it can."""
    if schema.revision is None or schema.revision < program.needs:
        return (f"the database's schema is {schema.revision or 'empty'}, and this program needs {program.needs}: "
                "run `orchestrator db upgrade` of this program")  # fmt: skip
    if schema.oldest_program is not None and schema.oldest_program > program.knows:
        return (f"the database's schema ({schema.revision}) serves programs that know {schema.oldest_program} or newer, "
                f"and this one knows {program.knows}: use a newer program, or restore the backup")  # fmt: skip
    return None


def check(connection: Connection) -> None:
    """Raises SchemaError where this program cannot work on the schema."""
    if why := misfit(read(connection), program()):
        raise SchemaError(why)


def await_fit(connect: Callable[[], Connection], *, patience: float = PATIENCE,
              say: Callable[[str], object] = print) -> None:  # fmt: skip
    """Wait until the schema fits: where all is rolled out at once, somebody upgrades just now. Raises SchemaError."""
    until, said = time.monotonic() + patience, False
    while True:
        with closing(connect()) as connection:
            why = misfit(read(connection), program())
        if why is None:
            return
        if time.monotonic() > until:
            raise SchemaError(why)
        if not said:
            say(f"waiting for an upgrade: {why}")
        said = True
        time.sleep(LOOK)


# Migrating


def migrate(connection: Connection, versions: Path = VERSIONS) -> None:
    """One try to bring the schema up to date, a transaction a migration. Raises SchemaError, or what Postgres says."""
    from alembic import command  # 0.2 s that no other process has to spend

    here, known = read(connection), program(versions)
    connection.rollback()
    if here.revision is not None and here.revision > known.knows:
        if why := misfit(here, known):
            raise SchemaError(why)
        return  # a newer program's, which serves this one too: the way back of a program is none of the schema
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.commit()
    command.upgrade(_alembic(connection, versions), "head")
    if known.serves is not None:
        connection.execute(REMEMBER, {"oldest": OLDEST_PROGRAM, "since": known.serves})
        connection.commit()


def _alembic(connection: Connection, versions: Path) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent).replace("%", "%%"))
    config.set_main_option("version_locations", str(versions).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    return config
