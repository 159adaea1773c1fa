"""A process of the run: started, killed, stopped and started again. All of it in the main thread (see `child.spawn`)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.servers.child import Child, end_group, spawn
from orchestrator.servers.descendants import descendants


@dataclass(frozen=True, kw_only=True)
class Life:
    """One process that a member has been."""

    pid: int
    began: float
    ended: float | None = None


@dataclass(kw_only=True)
class Member:
    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    is_stopped: bool = False  # SIGSTOP
    is_down: bool = False  # by our doing, and to be started again later
    deaths: list[Life] = field(default_factory=list)
    began: float = 0.0

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        if self.is_alive:
            return
        with self.log.open("ab") as output:
            self.process = spawn(Child(name=self.name, argv=self.argv, env=self.env), output)
        self.began, self.is_stopped, self.is_down = time.time(), False, False

    def kill(self) -> None:
        """It and all that it has started."""
        if self.process is None:
            return
        was_alive = self.is_alive
        end_group(self.pid)
        self.process.wait()
        if was_alive:
            self.deaths.append(Life(pid=self.pid, began=self.began, ended=time.time()))
        self.is_stopped, self.is_down = False, True

    def supervise(self) -> None:
        """Start it where it has ended by itself, as `up` or a container's restart policy would."""
        if not self.is_alive and not self.is_down:
            self.start()

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)
        self.is_stopped = True

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)
        self.is_stopped = False

    def end(self) -> None:
        """Ask it to end."""
        self.is_down = True
        if self.is_alive:
            self._signal(signal.SIGTERM)

    def children(self) -> list[int]:
        return descendants(self.pid) if self.is_alive else []

    def _signal(self, number: signal.Signals) -> None:
        if self.is_alive:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)
