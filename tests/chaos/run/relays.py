"""The relay process, as the run sees it: links by name, and orders to them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Address = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Link:
    listen: Address
    to: Sequence[Address]


class Relays:
    """Runs until `stop`, or until this process is gone: then its standard input ends."""

    def __init__(self, folder: Path, links: Mapping[str, Link]) -> None:
        file = folder / "links.json"
        file.write_text(json.dumps({name: {"listen": one.listen, "to": one.to} for name, one in links.items()}))
        argv = [sys.executable, "-m", "tests.chaos.run.relay", str(file)]
        with (folder / "relay.log").open("ab") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the relay does not start: {(folder / 'relay.log').read_text()[-2000:]}")

    def order(self, what: str, *links: str, share: float = 0.0) -> None:
        """Returns when it has been obeyed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, "links": links, "share": share}).encode() + b"\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
