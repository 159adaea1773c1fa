"""Starting an instance from the command line."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.commands import reading
from orchestrator.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from orchestrator.engine import Started
    from orchestrator.system import System


def start(system: System, workflow: str, payload: Any, *, key: str | None = None) -> Started:
    """`workflow` is an id, or a definition's file, which is then stored first. Raises what `engine.start` does."""
    from orchestrator import engine

    tenant = system.settings.tenant
    name = store(system, Path(workflow)) if reading.is_definition_file(workflow) else workflow
    try:
        return engine.start(system, tenant=tenant, workflow_id=name, payload=payload, idempotency_key=key)
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


def _unknown(system: System, name: str) -> BadRequest:
    from orchestrator import engine

    known = [one["id"] for one in engine.list_definitions(system, tenant=system.settings.tenant)]
    near = difflib.get_close_matches(name, known, n=1)
    mend = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known) or 'none'}"
    return BadRequest(f"there is no workflow `{name}`; {mend}")
