"""A network namespace that a worker lives in, joined to us by one cable that can be pulled: no reset, nothing.

Needs root and `ip`; without them (`make` returns none) the run has one worker less that is far away, and says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Faraway:
    name: str
    cable: str  # our end of it
    outside: str  # our address on it

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command is prefixed with to be run there."""
        return ("ip", "netns", "exec", self.name)

    def pull(self) -> None:
        _ip("link", "set", self.cable, "down")

    def plug(self) -> None:
        _ip("link", "set", self.cable, "up")


def make(held: ExitStack) -> Faraway | None:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return None
    _bury()
    number = os.getpid()
    made = Faraway(name=f"chaos-{number}", cable=f"chaos{number}"[:15], outside=_address(number, 1))
    peer = f"peer{number}"
    try:
        _ip("netns", "add", made.name)
    except subprocess.CalledProcessError:
        return None
    held.callback(_ip, "netns", "delete", made.name)  # and with it both ends of the cable
    _ip("link", "add", made.cable, "type", "veth", "peer", "name", peer)
    _ip("link", "set", peer, "netns", made.name)
    _ip("addr", "add", f"{made.outside}/30", "dev", made.cable)
    # While the cable is out this answers for the net, silently: else what we send would leave by our own default route.
    dark = (f"{_address(number, 0)}/30", "metric", "65535")
    _ip("route", "replace", "blackhole", *dark)
    held.callback(_ip, "route", "delete", "blackhole", *dark)
    _ip("link", "set", made.cable, "up")
    for words in (("addr", "add", f"{_address(number, 2)}/30", "dev", peer), ("link", "set", peer, "up"),
                  ("link", "set", "lo", "up")):  # fmt: skip
        _ip("-n", made.name, *words)
    return made


def _bury() -> None:
    """What runs have left that were killed: a later one of the same number would find its place taken."""
    found = subprocess.run(["ip", "netns", "list"], check=False, capture_output=True, text=True).stdout
    for name in (line.split()[0] for line in found.splitlines() if line.startswith("chaos-")):
        number = name.removeprefix("chaos-")
        if number.isdigit() and not Path("/proc", number).exists():
            for words in (
                ("netns", "delete", name),
                ("route", "delete", "blackhole", f"{_address(int(number), 0)}/30"),
            ):
                subprocess.run(["ip", *words], check=False, capture_output=True)


def _address(number: int, end: int) -> str:
    """Of a net of four for each run, so that several stand side by side."""
    place = number % 16384 * 4
    return f"10.213.{place // 256}.{place % 256 + end}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
