"""What is done to the database as a whole: brought up to date, or marked as restored."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import click

from orchestrator import settings
from orchestrator.commands.connection import NO_BROKER, composed, configured, data_dir_option
from orchestrator.errors import Problem, ServerError, SettingsError
from orchestrator.servers import running_stack

RECOVERY_WITHIN = 3600.0  # seconds until a database that is being restored can be read
GONE_WITHIN = 5.0  # seconds until the connections of programs that have just been stopped are closed
LOOK_EVERY = 0.2  # seconds between two looks


@click.group()
def db() -> None:
    """The database."""


@db.command()
def upgrade() -> None:
    """Bring the tables up to date and load the workflows directory. A file that is refused stops nobody."""
    from orchestrator.bootstrap import load_workflows
    from orchestrator.store import database

    given = configured("database_url")
    assert given.database_url is not None, "checked above"
    database.upgrade(given.database_url)
    tell_refused(load_workflows(composed(replace(given, broker_url=given.broker_url or NO_BROKER))))


def tell_refused(refused: Mapping[str, tuple[Problem, ...]]) -> None:
    """On standard error, a line a problem."""
    for file, problems in refused.items():
        click.echo(f"refused: {file}", err=True)
        for problem in problems:
            click.echo(f"  {problem}", err=True)


@db.command()
@data_dir_option
def restored(data_dir: Path | None) -> None:
    """Once after a restore to an earlier point, before workers start: nothing that may have been done since is repeated."""
    from orchestrator import restoring
    from orchestrator.bootstrap import compose

    with _resting_database(data_dir) as url:
        _await_recovery(url)
        _refuse_company(url)
        with closing(compose(replace(settings.load(), database_url=url, broker_url=NO_BROKER))) as system:
            found = restoring.doubt_open_instances(system)
    click.echo(f"nothing is known of what came after {found.since.isoformat()}")
    click.echo(
        f"{found.instances} instances had not ended: what they do next may have been done already. It is asked for or"
    )
    click.echo("repeated with the same key where the lane allows it, and else UNKNOWN: see `orchestrator list --stuck`")


@contextmanager
def _resting_database(data_dir: Path | None) -> Iterator[str]:
    """The configured database; or the data directory's, started for this and stopped again: a stack that runs there has
    workers, and they come later."""
    from orchestrator import embedded

    given = settings.load()
    if given.database_url is not None and data_dir is not None:
        raise SettingsError(
            "ORCHESTRATOR_DATABASE_URL names one database and --data-dir another: unset the one, or leave the other"
        )
    if given.database_url is not None:
        yield given.database_url
        return
    folder = data_dir or Path(given.data_dir)
    if not running_stack.has_cluster(folder):  # else one would be made, with nothing in it
        raise SettingsError(
            f"no database: none is in {folder} (name its --data-dir), and ORCHESTRATOR_DATABASE_URL is not set"
        )
    with embedded.postgres(folder, within=RECOVERY_WITHIN) as server:
        yield server.url


def _await_recovery(url: str) -> None:
    """A database that is still being restored can be read, and not written to."""
    from orchestrator.store import restored
    from orchestrator.store.database import Database

    with closing(Database(url, pool_size=1)) as database:
        if restored.recovery(database) != "over":
            click.echo("waiting for the end of its recovery; a standby has to be promoted", err=True)
        while (state := restored.recovery(database)) != "over":
            if state == "paused":
                raise ServerError(
                    "the recovery is paused at its target: set `recovery_target_action = 'promote'` and start it again, "
                    "or call pg_wal_replay_resume()"
                )
            time.sleep(LOOK_EVERY)


def _refuse_company(url: str) -> None:
    """Who is at work already does and records what has not been marked yet."""
    from orchestrator.store import programs
    from orchestrator.store.database import Database

    until = time.monotonic() + GONE_WITHIN
    with closing(Database(url, pool_size=1)) as database:
        while True:
            with database.transaction() as connection:
                others = programs.connected(connection)
            if not others:
                return
            if time.monotonic() > until:
                found = ", ".join(f"{one.name} ({one.connections} connections)" for one in others)
                raise ServerError(
                    f"programs are at work on this database: {found}; stop every worker, beat and web server first"
                )
            time.sleep(LOOK_EVERY)
