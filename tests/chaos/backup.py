"""A Postgres of its own whose WAL is archived: backed up while it runs, destroyed, and restored to a named point."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from orchestrator.embedded import Prepared, Server
from orchestrator.errors import ServerError
from orchestrator.servers import embedded_postgres
from orchestrator.servers.child import end_group
from orchestrator.servers.data_directory import Claim, claim
from orchestrator.servers.embedded_postgres import Cluster, checked, run_as
from orchestrator.servers.ports import LOOPBACK, free_port
from tests import flights, servers

RECOVERY = """
restore_command = 'cp "{archive}/%f" "%p"'
recovery_target_name = '{point}'
recovery_target_action = 'promote'
"""


@dataclass(kw_only=True)
class Vault:
    """The server, its archive of WAL, and one backup. `url` stays the same."""

    cluster: Cluster
    port: int
    folder: Path
    server: Server

    @property
    def url(self) -> str:
        return self.cluster.url(self.port)

    @property
    def archive(self) -> Path:
        return self.folder / "archive"

    @property
    def _backup(self) -> Path:
        return self.folder / "backup"

    def back_up(self) -> None:
        """As an operator does: `pg_basebackup`, while it runs."""
        program = self.cluster.binaries / "pg_basebackup"
        to = f"host={LOOPBACK} port={self.port} user=postgres password={self.cluster.password}"
        checked(run_as(self.cluster.user, (program, "-d", to, "-D", self._backup, "-c", "fast")))

    def point(self, name: str) -> None:
        """What one can restore to, later."""
        with self._administrator() as connection:
            connection.execute("SELECT pg_create_restore_point(%s)", [name])

    def destroy(self) -> None:
        """Everything but the backup and the archive."""
        with self._administrator() as connection:
            (segment,) = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone() or ("",)
        flights.until((self.archive / segment).exists, "the last of the WAL is archived")
        end_group(self.server.process.pid)
        self.server.process.wait()
        shutil.rmtree(self.cluster.directory)

    def restore(self, point: str) -> None:
        checked(run_as(self.cluster.user, ("cp", "-a", self._backup, self.cluster.directory)))
        text = RECOVERY.format(archive=self.archive, point=point)
        checked(run_as(self.cluster.user, ("tee", "-a", self.cluster.directory / "postgresql.auto.conf"), text=text))
        checked(run_as(self.cluster.user, ("touch", self.cluster.directory / "recovery.signal")))
        self.server.start()
        flights.until(self._is_open, "the end of the recovery")

    def _is_open(self) -> bool:
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SELECT NOT pg_is_in_recovery()").fetchone()
        return bool(row and row[0])

    def _administrator(self) -> psycopg.Connection[tuple[str]]:
        url = self.url.replace("//orchestrator:", "//postgres:")
        return psycopg.connect(url, autocommit=True)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A cluster that nobody has started yet, in a folder that the user it runs as may write to."""

    folder: Path
    cluster: Cluster
    port: int
    held: Claim

    def server(self, *options: str) -> Server:
        """Started, durable, with these settings of Postgres."""
        child = self.cluster.child(self.port, durable=True)
        child = replace(child, argv=(*child.argv, *(word for option in options for word in ("-c", option))))
        return Server(Prepared(child=child, url=self.cluster.url(self.port), claim=self.held))


@contextmanager
def ground() -> Iterator[Ground]:
    with servers.data_directory() as folder:
        try:
            held, cluster = claim(folder, "postgres"), embedded_postgres.cluster(folder)
        except ServerError as error:
            servers.missing(str(error))
        if not (cluster.binaries / "pg_basebackup").exists():
            servers.missing(f"no pg_basebackup in {cluster.binaries}")
        folder.chmod(0o777)  # a backup is made by the user that Postgres runs as
        try:
            yield Ground(folder=folder, cluster=cluster, port=free_port(), held=held)
        finally:
            shutil.rmtree(cluster.directory, ignore_errors=True)


@contextmanager
def vault() -> Iterator[Vault]:
    with ground() as found:
        archive = found.folder / "archive"
        archive.mkdir()
        if found.cluster.user:
            shutil.chown(archive, found.cluster.user)
        server = found.server("archive_mode=on", f'archive_command=cp "%p" "{archive}/%f"', "wal_level=replica")
        try:
            yield Vault(cluster=found.cluster, port=found.port, folder=found.folder, server=server)
        finally:
            server.stop()
