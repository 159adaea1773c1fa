"""What a route needs from its application."""

from __future__ import annotations

from typing import cast

from flask import current_app

from orchestrator.changes import Changes
from orchestrator.system import System


def system() -> System:
    return cast("System", current_app.extensions["system"])


def changes() -> Changes:
    """One a process. It costs nothing before somebody subscribes."""
    made = Changes(system().database, stopping=system().stopping)
    return cast("Changes", current_app.extensions.setdefault("changes", made))
