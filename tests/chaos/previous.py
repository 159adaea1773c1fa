"""The program before the present change: a working tree of its own, with an environment from its own lock file.

Which: ORCHESTRATOR_PREVIOUS, or the commit in `previous.txt`, which is what had landed last when it was written.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.servers.stack import command
from tests import servers
from tests.chaos.fleets import Program

ROOT = Path(__file__).parents[2]
NAMED = Path(__file__).with_name("previous.txt")
PREVIOUS = "ORCHESTRATOR_PREVIOUS"


def commit() -> str:
    return os.environ.get(PREVIOUS) or NAMED.read_text().strip()


def present() -> Program:
    return Program(name="new", folder=ROOT, command=command())


@contextmanager
def previous() -> Iterator[Program]:
    """Without the commit, or without the packages that it asks for, its tests are skipped (and fail in CI)."""
    with tempfile.TemporaryDirectory(prefix="orchestrator-previous-") as temporary:
        folder = Path(temporary) / "tree"
        _or_missing(["git", "worktree", "add", "--quiet", "--detach", str(folder), commit()], ROOT)
        try:
            _or_missing(["make", "--silent", "setup", f"PYTHON={sys.executable}"], folder)
            program = str(folder / ".venv" / "bin" / "orchestrator")
            yield Program(name="old", folder=folder, command=(program,))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(folder)], cwd=ROOT, check=True)


def _or_missing(argv: list[str], folder: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS")}
    done = subprocess.run(argv, cwd=folder, env=env, text=True, capture_output=True, check=False)
    if done.returncode:
        servers.missing(f"the previous program cannot be had: {' '.join(argv)}: {done.stdout}{done.stderr}"[-2000:])
