"""Starting an instance from the command line."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.commands import reading
from orchestrator.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from orchestrator.births import Started
    from orchestrator.system import System


def named(system: System, workflow: str) -> str:
    """The workflow's id; for a definition's file it is stored first."""
    return store(system, Path(workflow)) if reading.is_definition_file(workflow) else workflow


def start(system: System, name: str, payload: Any, *, key: str | None = None,
          completion_url: str | None = None) -> Started:  # fmt: skip
    """Start the workflow of that id. Raises what `engine.start` does, but names a near one when there is none."""
    from orchestrator import engine

    tenant = system.settings.tenant
    try:
        return engine.start(system, tenant=tenant, workflow_id=name, payload=payload, idempotency_key=key,
                            completion_url=completion_url)  # fmt: skip
    except NotFound as error:
        raise _unknown(system, name) from error


def store(system: System, path: Path) -> str:
    """Put a definition's file into the database; returns the workflow's id."""
    from orchestrator import engine

    limit = system.settings.max_definition
    definition = reading.definition(path, system.lanes, limit=limit)
    engine.put_definition(
        system, tenant=system.settings.tenant, workflow_id=definition.id, text=reading.file_text(path)
    )
    return definition.id


def calls_over_http(system: System, name: str) -> bool:
    """Whether a service may answer by callback before we know that anything waits."""
    from orchestrator import loader, queries
    from orchestrator.definition import ServiceStep, walk

    try:
        found = queries.get_definition(system, tenant=system.settings.tenant, workflow_id=name)
    except NotFound:
        return False  # `start` will say so
    steps = walk(loader.load(found["text"], lanes=system.lanes, strict=False).steps) if found["text"] else ()
    called = {step.operation.lane for step in steps if isinstance(step, ServiceStep) and step.operation}
    return any(system.lanes[lane].transport == "http" for lane in called & set(system.lanes))


def _unknown(system: System, name: str) -> BadRequest:
    from orchestrator import queries

    known = [one["id"] for one in queries.list_definitions(system, tenant=system.settings.tenant)]
    near = difflib.get_close_matches(name, known, n=1)
    mend = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known) or 'none'}"
    return BadRequest(f"there is no workflow `{name}`; {mend}")
