"""What a route needs from its application."""

from __future__ import annotations

from typing import cast

from flask import current_app

from orchestrator.system import System


def system() -> System:
    return cast("System", current_app.extensions["system"])
