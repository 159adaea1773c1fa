"""A Postgres of its own with a standby, which takes over its address when it dies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import psycopg

from orchestrator.embedded import Server
from orchestrator.servers.child import end_group
from orchestrator.servers.data_directory import claim
from orchestrator.servers.embedded_postgres import checked, run_as
from orchestrator.servers.ports import LOOPBACK, free_port
from tests import flights
from tests.chaos.backup import Ground, ground

FOLLOWS = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = %s"


@dataclass(kw_only=True)
class Replicated:
    """`url` is the address of whoever takes the writes."""

    primary: Ground
    standby: Ground
    leads: Server
    follows: Server

    @property
    def url(self) -> str:
        return self.primary.cluster.url(self.primary.port)

    def lag(self) -> None:
        """From now on the standby is told nothing."""
        end_group(self.follows.process.pid)

    def fail_over(self) -> None:
        """The primary is killed, its address goes to the standby, and that is promoted."""
        end_group(self.leads.process.pid)
        self.leads.stop()
        self.follows.stop()
        self.leads = replace(self.standby, port=self.primary.port, held=claim(self.standby.folder, "moved")).server()
        with _administrator(self.primary) as connection:
            connection.execute("SELECT pg_promote()")


@contextmanager
def replicated(*, synchronous: bool) -> Iterator[Replicated]:
    with ExitStack() as running, ground() as primary:
        leads = primary.server("wal_level=replica")
        standby = _copied(primary)
        found = Replicated(primary=primary, standby=standby, leads=leads, follows=standby.server())
        running.callback(lambda: found.leads.stop())  # noqa: PLW0108 - whoever it is by then
        running.callback(lambda: found.follows.stop())  # noqa: PLW0108
        with _administrator(primary) as connection:
            if synchronous:
                connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                connection.execute("SELECT pg_reload_conf()")
            wanted = ["sync" if synchronous else "async"]
            flights.until(lambda: (connection.execute(FOLLOWS, wanted).fetchone() or (0,))[0], "the standby follows")
        yield found


def _copied(primary: Ground) -> Ground:
    cluster, folder = primary.cluster, primary.folder / "standby"
    folder.mkdir()
    if cluster.user:
        shutil.chown(folder, cluster.user)
    to = f"host={LOOPBACK} port={primary.port} user=postgres password={cluster.password}"
    copy = (cluster.binaries / "pg_basebackup", "-d", to, "-D", folder / "postgres", "-c", "fast", "-R")
    checked(run_as(cluster.user, copy))
    copied = replace(cluster, directory=folder / "postgres", log=primary.folder / "standby.log")
    return Ground(folder=primary.folder, cluster=copied, port=free_port(), held=claim(primary.folder, "standby"))


def _administrator(of: Ground) -> psycopg.Connection[tuple[int]]:
    return psycopg.connect(of.cluster.url(of.port).replace("//orchestrator:", "//postgres:"), autocommit=True)
