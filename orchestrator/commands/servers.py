"""The processes: the whole stack, and each of its parts."""

from __future__ import annotations

import importlib
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator import settings
from orchestrator.commands.connection import configured
from orchestrator.errors import SettingsError
from orchestrator.servers import running_stack
from orchestrator.servers.ports import is_free
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

# Workers agree through Postgres: what Celery's would tell each other is noise on the broker.
SILENT = ("--without-gossip", "--without-mingle", "--without-heartbeat")
LOOK_EVERY = 0.02  # seconds
CANNOT_BIND = 1  # gunicorn's exit code
IN_MEMORY = "celery.beat:Scheduler"  # one interval needs no memory of when it last was; so there is no file


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Of API and UI.  [default: 8080, or a free one]")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where data is kept.  [default: .data]")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Worker processes.")
def up(port: int | None, data_dir: Path | None, workers: int) -> int:
    """Run the whole stack: Postgres, broker, workers, beat, API and UI. Ctrl-C stops all of it."""
    from orchestrator import supervisor

    given = settings.load()
    return supervisor.up(given, workers=workers, port=port, data_dir=data_dir or Path(given.data_dir))


@click.command()
@click.option("--concurrency", type=click.IntRange(1), help="Steps at a time (threads).  [default: 8]")
@click.option("--queues", help="Only these, separated by commas.  [default: all in the services file]")
@click.option("--after", type=click.Path(path_type=Path), hidden=True)
def worker(concurrency: int | None, queues: str | None, after: Path | None) -> int:
    """Run a worker: it calls the service lanes."""
    from celery.platforms import SecurityWarning

    # Celery warns of running as root because a pickled message could run anything: ours are JSON.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    if queues:
        _check_queues(queues)
    if after is not None:
        _wait_for(after)
    _await_schema(settings.load())
    app: Celery = importlib.import_module("worker").app
    threads = concurrency or settings.load().worker_concurrency
    options = ["--pool", "threads", "--concurrency", str(threads), "--loglevel", "INFO", *SILENT]
    return app.start(["--quiet", "worker", *options, *(["--queues", queues] if queues else [])]) or 0


def _check_queues(asked: str) -> None:
    """A worker on a mistyped queue would wait for ever, and nobody would serve the right one."""
    from orchestrator.lane import DEFAULT_QUEUE, SWEEP_QUEUE
    from orchestrator.lanes import registry
    from orchestrator.lanes.exchanges import LANDED_QUEUE

    file = settings.load().services_file
    known = {DEFAULT_QUEUE, SWEEP_QUEUE, LANDED_QUEUE, *(lane.queue for lane in registry.load(file).values())}
    if unknown := [name for name in asked.split(",") if name not in known]:
        there = ", ".join(sorted(known))
        raise click.BadParameter(
            f"{file} names no queue {', '.join(unknown)}; there are {there}", param_hint="--queues"
        )


def _wait_for(file: Path) -> None:
    """Until `run`, whose worker this is, has the servers up. Our imports take longer than that, so they come first."""
    importlib.import_module("orchestrator.bootstrap")
    while not file.exists():
        time.sleep(LOOK_EVERY)


def _await_schema(given: Settings) -> None:
    """What is rolled out beside the upgrade comes before it is done, as likely as not."""
    from contextlib import closing

    from orchestrator.store import schema
    from orchestrator.store.database import Database

    if given.database_url is not None:  # else whoever composes says what is missing
        with closing(Database(given.database_url, pool_size=1)) as database:
            schema.await_fit(database.engine.connect, say=click.echo)


@click.command()
def beat() -> int:
    """Run the clock that sends sweep messages. Workers sweep on a timer of their own as well."""
    configured("broker_url")
    app: Celery = importlib.import_module("beat_schedule").app
    return app.start(["--quiet", "beat", "--scheduler", IN_MEMORY, "--loglevel", "WARNING", "--pidfile", ""]) or 0


@click.command()
@click.option("--passing", is_flag=True, hidden=True)
def web(passing: bool) -> None:
    """Serve API and UI."""
    from orchestrator.api import serve

    given = settings.load()
    _await_schema(given)
    folder = Path(given.data_dir)
    # That of a `run` goes away with it: nobody else shall count on it. One on other servers is not this directory's.
    lasting = not passing and running_stack.has(folder, database_url=given.database_url, broker_url=given.broker_url)
    if lasting:
        running_stack.announce_web(folder, given.base_url)
    try:
        serve.run(given)
    except SystemExit as ended:
        if ended.code == CANNOT_BIND and not is_free(given.port, given.host):
            raise SettingsError(
                f"port {given.port} of {given.host} is taken: set ORCHESTRATOR_PORT to another"
            ) from ended
        raise
    finally:
        if lasting:
            running_stack.forget_web(folder)
