"""Finding processes that were started below us and have left their parents' sessions. Linux only; a no-op elsewhere."""

from __future__ import annotations

import ctypes
import sys
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
LINUX = sys.platform == "linux"


def adopt_orphans() -> None:
    """Become the parent of every orphan below this process, instead of init: none can slip away."""
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(ancestor: int) -> list[int]:
    """All living processes below it, children before grandchildren."""
    children = children_by_parent() if LINUX else {}
    found = list(children.get(ancestor, ()))
    for process in found:  # grows while it is walked
        found += children.get(process, ())
    return found


def children_by_parent() -> dict[int, list[int]]:
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended while we looked
            state, parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            if state != "Z":
                children[int(parent)].append(int(folder.name))
    return children
