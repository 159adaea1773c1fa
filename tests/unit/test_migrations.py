"""Migrations after 0008 are read as the SQL that they would run: none takes from a program that is still at work, unless
it says since which program nobody uses what it takes, and none keeps the traffic waiting while it builds."""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from orchestrator.store import schema

LAST_FREE = "0008"  # these ran with everything stopped
COLUMN = r'(?:COLUMN\s+)?(?:IF\s+NOT\s+EXISTS\s+)?("?\w+"?)'
# What an older program may not survive: it reads what is gone, or leaves out what is asked for.
CONTRACTING = {
    "it drops what may be in use": r"\bDROP\s+(TABLE|COLUMN|FUNCTION|VIEW|TYPE|SCHEMA|ROLE|POLICY|DEFAULT|SEQUENCE)\b"
                                   r"|\bALTER\s+TABLE\b[^;]*\bDROP\s+(?!CONSTRAINT|NOT)\w",
    "it renames": r"\bRENAME\b",
    "it changes a type": r"\bALTER\s+(COLUMN\s+)?\"?\w+\"?\s+(SET\s+DATA\s+)?TYPE\b",
    "it asks for a value": r"\bSET\s+NOT\s+NULL\b",
    "it asks for a value that older programs do not write": r"\bADD\s+(?!CONSTRAINT)[^,;]*\bNOT\s+NULL\b(?![^,;]*\bDEFAULT\b)",
    "it forbids what older programs may write": r"\bADD\s+(CONSTRAINT|CHECK|FOREIGN|UNIQUE|PRIMARY|EXCLUDE)\b"
                                                r"|\bCREATE\s+(OR\s+REPLACE\s+)?(CONSTRAINT\s+)?TRIGGER\b|\bREVOKE\b",
    "it deletes": r"\bTRUNCATE\b|\bDELETE\s+FROM\b",
    "it replaces what older programs call": r"\bCREATE\s+OR\s+REPLACE\s+(FUNCTION|VIEW)\b",
}  # fmt: skip
MADE = re.compile(r"\bCREATE\s+(?:UNLOGGED\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)", re.IGNORECASE)
ADDED = re.compile(rf"\bADD\s+(?!CONSTRAINT|CHECK|FOREIGN|UNIQUE|PRIMARY|EXCLUDE){COLUMN}", re.IGNORECASE)
INDEX = re.compile(
    r"\bCREATE\s+(UNIQUE\s+)?INDEX\s+(CONCURRENTLY\s+)?(?:IF\s+NOT\s+EXISTS\s+)?\w+\s+ON\s+(\w+)[^(]*\(([^)]*)\)",
    re.IGNORECASE,
)


def sql(file: Path) -> str:
    """What a migration would run."""
    spec = importlib.util.spec_from_file_location(f"migration_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": written, "transaction_per_migration": True}
    )
    with Operations.context(context), context.begin_transaction(_per_migration=True):
        module.upgrade()
    return re.sub(r"--[^\n]*", "", written.getvalue())


def contractions(statements: str) -> Iterator[str]:
    """Why an older program could not go on beside it."""
    made = {name.lower() for name in MADE.findall(statements)}
    added = {name.strip('"').lower() for name in ADDED.findall(statements)}
    for statement in statements.split(";"):
        if (altered := re.search(r"\bALTER\s+TABLE\s+(\w+)", statement, re.IGNORECASE)) and altered[1].lower() in made:
            continue
        yield from (why for why, found in CONTRACTING.items() if re.search(found, statement, re.IGNORECASE))
    for unique, _, table, columns in INDEX.findall(statements):
        if unique and table.lower() not in made and not added & set(re.findall(r"\w+", columns.lower())):
            yield "it forbids what older programs may write"


def blocks(statements: str) -> Iterator[str]:
    """What keeps writers waiting for as long as a table is large."""
    made = {name.lower() for name in MADE.findall(statements)}
    for _, concurrently, table, _ in INDEX.findall(statements):
        if not concurrently and table.lower() not in made:
            yield f"it makes an index on {table} without CONCURRENTLY: use `online.index`"


def files() -> list[Path]:
    return [file for file in sorted(schema.VERSIONS.glob("[0-9]*.py")) if file.name[:4] > LAST_FREE]


@pytest.mark.parametrize("file", files(), ids=lambda file: file.stem)
def test_a_migration_leaves_the_programs_before_it_at_work(file: Path) -> None:
    text, statements = file.read_text(), sql(file)
    mark = schema.CONTRACTS.search(text)
    why = list(contractions(statements))
    if mark is None:
        assert not why, f"{file.name}: {'; '.join(why)}. Or say since which program nobody uses it: UNUSED_SINCE"
    else:
        assert why, f"{file.name} contracts nothing: take UNUSED_SINCE away"
        assert mark[1] < file.name[:4], "the program that does without was there before"
        assert len(text.split(chr(34) * 3)[1].split()) > 5, "its docstring says why"
    assert not list(blocks(statements)), f"{file.name}: {'; '.join(blocks(statements))}"


def test_revisions_are_numbered_without_a_gap_and_named_by_their_files() -> None:
    numbers = [file.name[:4] for file in sorted(schema.VERSIONS.glob("[0-9]*.py"))]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    for number, file in zip(numbers, sorted(schema.VERSIONS.glob("[0-9]*.py")), strict=True):
        assert f'revision = "{number}"' in file.read_text()


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE lane", "ALTER TABLE step DROP COLUMN gate", "ALTER TABLE step DROP gate",
        "ALTER TABLE step RENAME gate TO door", "ALTER TABLE step RENAME TO steps",
        "ALTER TABLE step ADD colour text NOT NULL", "ALTER TABLE step ADD COLUMN colour text NOT NULL",
        "ALTER TABLE step ADD a int, ADD b int NOT NULL", "ALTER TABLE step ALTER COLUMN tries TYPE bigint",
        "ALTER TABLE step ALTER tries SET DATA TYPE bigint", "ALTER TABLE step ALTER error SET NOT NULL",
        "ALTER TABLE step ALTER items DROP DEFAULT", "ALTER TABLE step ADD CONSTRAINT few CHECK (tries < 9)",
        "ALTER TABLE step ADD CHECK (tries < 9)", "CREATE UNIQUE INDEX CONCURRENTLY one ON step (worker)",
        "CREATE OR REPLACE FUNCTION clock_now() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
        "DROP POLICY all_rows ON step", "REVOKE SELECT ON step FROM PUBLIC", "DELETE FROM history", "TRUNCATE outbox",
        "CREATE TRIGGER no BEFORE UPDATE ON step EXECUTE FUNCTION no()",
    ],
)  # fmt: skip
def test_what_an_older_program_would_not_survive_is_seen(statement: str) -> None:
    assert list(contractions(statement)), statement
    assert list(contractions(statement.lower())), statement


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE step ADD colour text", "ALTER TABLE step ADD COLUMN colour int NOT NULL DEFAULT 0",
        "ALTER TABLE step ADD a int NOT NULL DEFAULT 0, ADD b text", "CREATE TABLE letters (id int NOT NULL, a text)",
        "CREATE TABLE letters (id int);CREATE UNIQUE INDEX one ON letters (id)",
        "CREATE TABLE letters (id int);ALTER TABLE letters ADD CHECK (id > 0)",
        "ALTER TABLE step ADD colour text;CREATE UNIQUE INDEX CONCURRENTLY one ON step (instance_id, colour)",
        "CREATE INDEX CONCURRENTLY some ON step (tenant) WHERE state = 'READY'",
        "DROP INDEX CONCURRENTLY IF EXISTS some", "ALTER TABLE step ALTER error DROP NOT NULL",
        "ALTER TABLE step DROP CONSTRAINT few", "GRANT SELECT ON step TO PUBLIC",
        "SELECT protect_tenant_rows('letters', 'SELECT, INSERT, UPDATE, DELETE')",
    ],
)  # fmt: skip
def test_what_only_adds_is_let_pass(statement: str) -> None:
    assert not list(contractions(statement)), statement
    assert not list(blocks(statement)), statement


def test_an_index_that_keeps_writers_waiting_is_seen() -> None:
    assert list(blocks("CREATE INDEX some ON step (tenant) WHERE state = 'READY'"))
    assert list(blocks("create unique index some on step (tenant)"))
