"""The system that a command talks to: the configured one, or a stack that runs in the data directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator import settings
from orchestrator.errors import SettingsError
from orchestrator.servers import running_stack
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from orchestrator.system import System

NO_BROKER = "memory://"  # for commands that publish nothing: the workers' dispatchers do

data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the stack keeps its data.  [default: .data]"
)


def located(data_dir: Path | None) -> Settings:
    """The settings, completed from a running stack's. Raises SettingsError when there is no database to talk to."""
    given = settings.load()
    folder = data_dir or Path(given.data_dir)
    given = replace(given, data_dir=str(folder))
    if given.database_url is None:
        given = joined(given, running_stack.find(folder))
    if given.database_url is None:
        raise SettingsError(
            f"no database: none runs in {folder} (start one with `orchestrator up`, or name its --data-dir), "
            "and ORCHESTRATOR_DATABASE_URL is not set"
        )
    return replace(given, broker_url=given.broker_url or NO_BROKER)


def joined(given: Settings, stack: running_stack.RunningStack | None) -> Settings:
    """The settings with a running stack's addresses where they name none."""
    if stack is None:
        return given
    return replace(
        given,
        database_url=given.database_url or stack.database_url,
        broker_url=given.broker_url or stack.broker_url,
        public_url=given.public_url or stack.web_url,
    )


def connect(data_dir: Path | None) -> System:
    """For the command that runs: at its end the connections are closed."""
    return composed(located(data_dir))


def composed(given: Settings) -> System:
    from orchestrator.bootstrap import compose

    system = compose(given)
    click.get_current_context().call_on_close(system.database.close)
    return system


def configured(name: str) -> Settings:
    """The settings, for a command that brings no server of its own for that one. Raises SettingsError."""
    given = settings.load()
    if not getattr(given, name):
        raise SettingsError(f"{settings.PREFIX}{name.upper()} is not set; `orchestrator up` brings servers of its own")
    return given
