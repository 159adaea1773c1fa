"""Definition versions: immutable texts, and the plans made from them, kept per process."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import uuid_utils
from sqlalchemy import Connection, text

from orchestrator import loader
from orchestrator.definition import Definition, WorkflowStep, walk
from orchestrator.errors import Invalid, NotFound, Problem
from orchestrator.lane import Lane
from orchestrator.plan import Plan
from orchestrator.store.database import Database

KEPT = 1000  # plans in a process
COLUMNS = "id, tenant, workflow_id, version, title, text, created_at"
NEWEST = text(
    f"SELECT {COLUMNS} FROM definition_version WHERE tenant = :tenant AND workflow_id = :workflow_id"
    " AND (CAST(:version AS int) IS NULL OR version = :version) ORDER BY version DESC LIMIT 1"
)
BY_ID = text("SELECT text FROM definition_version WHERE id = CAST(:id AS uuid)")
VERSIONS = text(
    "SELECT version FROM definition_version WHERE tenant = :tenant AND workflow_id = :workflow_id ORDER BY 1"
)
INSERT = text(
    "INSERT INTO definition_version (id, tenant, workflow_id, version, title, text)"
    " VALUES (CAST(:id AS uuid), :tenant, :workflow_id, :version, :title, :text)"
)
# Two who save the same workflow at once take turns; the second then sees the first one's version.
TURN = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
LIST = text("""
SELECT DISTINCT ON (workflow_id) workflow_id, title, version, created_at FROM definition_version
WHERE tenant = :tenant ORDER BY workflow_id, version DESC
""")
REFUSE = text("""
INSERT INTO definition_refused (tenant, workflow_id, file, problems)
VALUES (:tenant, :workflow_id, :file, CAST(:problems AS jsonb))
ON CONFLICT (tenant, workflow_id) DO UPDATE SET file = excluded.file, problems = excluded.problems, refused_at = clock_now()
""")
ACCEPT = text("DELETE FROM definition_refused WHERE tenant = :tenant AND workflow_id = :workflow_id")
REFUSED = text("SELECT workflow_id, problems FROM definition_refused WHERE tenant = :tenant")


@dataclass(frozen=True, kw_only=True)
class Version:
    id: str
    tenant: str
    workflow_id: str
    version: int
    title: str | None
    text: str
    created_at: datetime


class Plans:
    """version id → plan. A version never changes, so what is kept is never stale."""

    def __init__(self, database: Database | None, lanes: Mapping[str, Lane]) -> None:
        """`database`: where a version's text is looked up; none: only plans of texts at hand are made."""
        self._database, self._lanes = database, lanes
        self._kept: dict[str, Plan] = {}

    def __call__(self, version_id: str, connection: Connection | None = None) -> Plan:
        """`connection`: the caller's, when it holds one: a second from the same pool might not be had."""
        return self._kept.get(version_id) or self.of_text(version_id, self._text(version_id, connection))

    def of_text(self, version_id: str, stored: str) -> Plan:
        """The plan of a version whose text is at hand."""
        if version_id not in self._kept:
            while len(self._kept) >= KEPT:  # the one that was read first
                self._kept.pop(next(iter(self._kept)), None)
            self._kept[version_id] = Plan(loader.load(stored, lanes=self._lanes, strict=False), self._lanes)
        return self._kept[version_id]

    def forget(self) -> None:
        """Read every version again: after a text was changed behind our back, or the lanes were."""
        self._kept.clear()

    def _text(self, version_id: str, connection: Connection | None) -> str:
        if connection is not None:
            return _text_of(connection, version_id)
        if self._database is None:
            raise NotFound(f"definition version {version_id} is not at hand")
        with self._database.across_tenants() as own:  # asked by the id that a row of the caller's names
            return _text_of(own, version_id)


def _text_of(connection: Connection, version_id: str) -> str:
    stored: str | None = connection.execute(BY_ID, {"id": version_id}).scalar_one_or_none()
    if stored is None:
        raise NotFound(f"definition version {version_id} is not in the database")
    return stored


def find(connection: Connection, tenant: str, workflow_id: str, version: int | None = None) -> Version | None:
    """The newest version, or the one asked for."""
    values = {"tenant": tenant, "workflow_id": workflow_id, "version": version}
    row = connection.execute(NEWEST, values).mappings().first()
    return Version(**{**row, "id": row["id"].hex}) if row else None


def save(connection: Connection, tenant: str, definition: Definition, source: str) -> tuple[Version, bool]:
    """Store a new version unless the newest has the same text. Returns it, and whether it is new. Raises Invalid for
    one that would come to contain itself, by sub-workflows that are stored."""
    connection.execute(TURN, {"name": f"{tenant}/{definition.id}"})
    connection.execute(ACCEPT, {"tenant": tenant, "workflow_id": definition.id})
    newest = find(connection, tenant, definition.id)
    if newest is not None and newest.text == source:
        return newest, False
    if found := loader.cycles(_family(connection, tenant, definition)):
        raise Invalid(found)
    values = {"id": uuid_utils.uuid7().hex, "tenant": tenant, "workflow_id": definition.id,
              "version": newest.version + 1 if newest else 1, "title": definition.title, "text": source}  # fmt: skip
    connection.execute(INSERT, values)
    saved = find(connection, tenant, definition.id)
    assert saved is not None, "it was inserted in this transaction"
    return saved, True


def _family(connection: Connection, tenant: str, definition: Definition) -> list[Definition]:
    """A definition, and the newest versions of all that it starts, and that those start."""
    family, wanted = {definition.id: definition}, deque(_started(definition))
    while wanted:
        name = wanted.popleft()
        stored = find(connection, tenant, name) if name not in family else None
        if stored is not None:
            family[name] = loader.load(stored.text, strict=False)
            wanted.extend(_started(family[name]))
    return list(family.values())


def _started(definition: Definition) -> list[str]:
    return [step.workflow for step in walk(definition.steps) if isinstance(step, WorkflowStep)]


def versions(connection: Connection, tenant: str, workflow_id: str) -> list[int]:
    return list(connection.execute(VERSIONS, {"tenant": tenant, "workflow_id": workflow_id}).scalars())


def listed(connection: Connection, tenant: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(LIST, {"tenant": tenant}).mappings()]


def refuse(connection: Connection, tenant: str, workflow_id: str, file: str, problems: Sequence[Problem]) -> None:
    """Remember why a file in workflows/ was refused, until a good one of the same id comes."""
    told = json.dumps([asdict(problem) for problem in problems])
    values = {"tenant": tenant, "workflow_id": workflow_id, "file": file, "problems": told}
    connection.execute(REFUSE, values)


def refused(connection: Connection, tenant: str) -> dict[str, tuple[Problem, ...]]:
    """Workflow id → the problems of its newest file."""
    found = connection.execute(REFUSED, {"tenant": tenant})
    return {row[0]: tuple(Problem(**problem) for problem in row[1]) for row in found}
