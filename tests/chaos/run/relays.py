"""The relay process, as the run sees it: links by name, and orders to them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
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
        file, self._log = folder / "links.json", folder / "relay.log"
        file.write_text(json.dumps({name: {"listen": one.listen, "to": one.to} for name, one in links.items()}))
        argv = [sys.executable, "-m", "tests.chaos.run.relay", str(file)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        self._hear("ready")

    def order(self, what: str, *links: str, share: float = 0.0) -> None:
        """Returns when it has been obeyed; raises RuntimeError, with what it said last, when the relay is gone."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": what, "links": links, "share": share}).encode() + b"\n")
            self._process.stdin.flush()
        self._hear("done")

    def _hear(self, word: str) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != f"{word}\n".encode():
            raise RuntimeError(f"the relay has ended ({self._process.wait(10)}): {self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # an order that could not be given any more
            self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
