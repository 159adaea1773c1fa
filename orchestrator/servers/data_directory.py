"""What the embedded servers keep: whose a data directory is, and the secrets in it."""

from __future__ import annotations

import fcntl
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from orchestrator.errors import ServerError


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A data directory's server is ours until `release`, or until this process is gone."""

    file: IO[str]

    def release(self) -> None:
        self.file.close()


def claim(data_dir: Path, server: str) -> Claim:
    """Make the directory if need be and lock it. Raises ServerError when another stack has it.

    The kernel drops the lock with the process, so that a crash leaves nothing to clean up.
    """
    make(data_dir)
    file = (data_dir / f"{server}.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise ServerError(
            f"the {server} in {data_dir} is in use by process {holder}: stop that one, or give another data "
            "directory (--data-dir or ORCHESTRATOR_DATA_DIR)"
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return Claim(file=file)


def make(data_dir: Path) -> None:
    if data_dir.is_dir():
        return
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(f"cannot make the data directory {data_dir}: {error}; set ORCHESTRATOR_DATA_DIR") from error
    if os.geteuid() == 0:
        data_dir.chmod(0o711)  # Postgres runs as another user and must be able to pass through


def private_file(path: Path, text: str) -> None:
    """Write it whole, readable by this user alone from the start."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def secret(path: Path) -> str:
    """The password kept in this file, made at the first call."""
    if not path.exists():
        private_file(path, secrets.token_urlsafe(24) + "\n")
    return path.read_text().strip()
