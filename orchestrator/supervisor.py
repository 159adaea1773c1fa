"""Keeps a set of processes running until it is told to stop, and then leaves none of them behind.

One loop in the main thread: collect who died, start who is due, ask the newest whether it is ready, pass on what
they print, sleep until a signal, a line or a time. Who dies is started again, later each time it dies young.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.servers.child import Child, end_group, send, spawn
from orchestrator.servers.console import Console, Lines
from orchestrator.servers.descendants import adopt_orphans, descendants
from orchestrator.servers.stack import compose
from orchestrator.servers.wake import Wake, wakened
from orchestrator.settings import Settings

STOP_AFTER = 14.0  # seconds from being told to the last process gone
FOR_NEEDED = 0.25  # of that, kept for those that the others need
TO_END = 0.5  # seconds beyond the time that a worker gives itself, in which its process has to be gone
READY_WITHIN = 60.0  # seconds for each at its first start
LOOK_EVERY = 0.1  # seconds between questions whether a child is ready
FIRST_DELAY, LONGEST_DELAY = 0.25, 10.0  # seconds before a dead child is started again: doubled each time …
GROWN_UP = 10.0  # … until one has lived so long


def up(settings: Settings, *, workers: int, port: int | None, data_dir: Path) -> int:
    """Run the whole stack until it is told to stop; port and data directory are `stack.compose`'s.

    Returns what `supervise` returns; raises ServerError when the stack cannot be started at all.
    """
    stack = compose(settings, workers=workers, port=port, data_dir=data_dir)
    with stack.held:
        return supervise(stack.children, stop_after=stop_after(settings), announce=f"ready: {stack.url}/ui")


def stop_after(settings: Settings) -> float:
    """So long that a worker can end by itself; 14 seconds with the default."""
    return (settings.stop_within + TO_END) / (1 - FOR_NEEDED)


@dataclass
class Kept:
    """A child and what has become of it."""

    child: Child
    process: subprocess.Popen[bytes] | None = None  # none: it is not running
    first_started: float | None = None
    started: float = 0.0
    ready: bool = False  # was, at least once; a child that runs once: has ended well
    young_deaths: int = 0  # in a row
    due: float = 0.0  # when it may be started

    @property
    def done(self) -> bool:
        return self.ready and not self.child.restart


def supervise(children: Sequence[Child], *, stop_after: float = STOP_AFTER, announce: str | None = None) -> int:
    """Run the children, each started when the one before is ready, until SIGTERM, SIGINT or SIGHUP.

    `announce` is printed once all are ready. The last started is stopped first; those that are `needed` go after
    all others. Returns 0 when told to stop, and 1 when a child did not get ready or one that runs once failed.
    To be called from the main thread of a process without other children: it collects every one that ends.
    """
    adopt_orphans()
    with Console() as console, wakened() as wake:
        return Supervisor(children, console=console, wake=wake, stop_after=stop_after, announce=announce).run()


class Supervisor:
    def __init__(
        self, children: Sequence[Child], *, console: Console, wake: Wake, stop_after: float, announce: str | None
    ) -> None:
        self._kept = [Kept(child=child) for child in children]
        self._console = console
        self._wake = wake
        self._stop_after = stop_after
        self._announce = announce
        self._failed = False
        self._outputs = selectors.DefaultSelector()
        self._outputs.register(wake.reader, selectors.EVENT_READ)

    def run(self) -> int:
        try:
            while not (self._wake.told_to_stop or self._failed):
                self._collect()
                self._start_due()
                self._wait()
        finally:
            self._stop()
        return 1 if self._failed else 0

    def _start_due(self) -> None:
        """Bring up the first that is not ready yet; those before it are only kept running."""
        for kept in self._kept:
            if kept.process is None and not kept.done and time.monotonic() >= kept.due:
                self._start(kept)
            if not kept.ready and not self._becomes_ready(kept):
                return
        if self._announce:
            self._console.say(self._announce)
            self._announce = None

    def _start(self, kept: Kept) -> None:
        if kept.child.log:
            with kept.child.log.open("ab") as output:
                kept.process = spawn(kept.child, output)
        else:
            kept.process = spawn(kept.child, subprocess.PIPE)
            assert kept.process.stdout is not None
            self._outputs.register(kept.process.stdout, selectors.EVENT_READ, (kept.child.name, Lines()))
        kept.started = time.monotonic()
        kept.first_started = kept.first_started or kept.started

    def _becomes_ready(self, kept: Kept) -> bool:
        if kept.process is not None and kept.child.restart:
            kept.ready = kept.child.ready is None or kept.child.ready()
        if not kept.ready and time.monotonic() - (kept.first_started or 0.0) > READY_WITHIN:
            self._fail(f"{kept.child.name} was not ready within {READY_WITHIN:g} s: {_where_to_look(kept.child)}")
        return kept.ready

    def _collect(self, *, restart: bool = True) -> None:
        """Take note of every process below us that has ended, orphans that were left to us included."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                for kept in self._kept:
                    if kept.process is not None and kept.process.pid == ended[0]:
                        self._bury(kept, os.waitstatus_to_exitcode(ended[1]), restart=restart)

    def _bury(self, kept: Kept, code: int, *, restart: bool) -> None:
        assert kept.process is not None
        end_group(kept.process.pid)  # what it started would be in the way of its successor
        kept.process.returncode = code  # we collected it, not Popen
        kept.process = None
        if restart and kept.child.restart:
            self._schedule(kept, code)
        elif restart and code:
            self._fail(f"{kept.child.name} {_end(code)}: {_where_to_look(kept.child)}")
        elif restart:
            kept.ready = True

    def _schedule(self, kept: Kept, code: int) -> None:
        now = time.monotonic()
        kept.young_deaths = 0 if now - kept.started >= GROWN_UP else kept.young_deaths + 1
        delay = backoff(kept.young_deaths)
        kept.due = now + delay
        self._say(f"{kept.child.name} {_end(code)}; it is started again in {delay:g} s")

    def _wait(self) -> None:
        """Until something happens or there may be something to do; pass on what was printed meanwhile."""
        for key, _ in self._outputs.select(LOOK_EVERY):
            if key.data is None:
                self._wake.drain()
            else:
                self._relay(key)

    def _relay(self, key: selectors.SelectorKey) -> None:
        name, lines = key.data
        data = os.read(key.fd, 65536)
        for line in lines.feed(data) if data else lines.end():
            self._console.relay(name, line)
        if not data:
            self._outputs.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]  # a pipe, as registered

    def _stop(self) -> None:
        until = time.monotonic() + self._stop_after
        running = [kept for kept in reversed(self._kept) if kept.process is not None]
        self._end([kept for kept in running if not kept.child.needed], until - FOR_NEEDED * self._stop_after)
        self._end([kept for kept in running if kept.child.needed], until)
        self._kill_what_is_left()

    def _end(self, these: Sequence[Kept], until: float) -> None:
        for kept in these:
            if kept.process is not None:
                send(kept.process.pid, kept.child.stop_signal)
        self._wait_for(lambda: all(kept.process is None for kept in these), until)
        for kept in these:
            if kept.process is not None:
                self._say(f"{kept.child.name} did not stop in time and is killed")
                end_group(kept.process.pid)
        self._wait_for(lambda: all(kept.process is None for kept in these), time.monotonic() + 1.0)

    def _wait_for(self, holds: Callable[[], bool], until: float) -> None:
        self._collect(restart=False)
        while not holds() and time.monotonic() < until:
            self._wait()
            self._collect(restart=False)

    def _kill_what_is_left(self) -> None:
        """Those who left their parent's session and outlived it: they are ours since, see `adopt_orphans`."""
        until = time.monotonic() + 1.0
        while (left := descendants(os.getpid())) and time.monotonic() < until:
            for process in left:
                send(process, signal.SIGKILL)
            self._wait()
            self._collect(restart=False)

    def _fail(self, why: str) -> None:
        self._failed = True
        self._say(why)

    def _say(self, line: str) -> None:
        self._console.relay("supervisor", line.encode())


def backoff(young_deaths: int) -> float:
    """Seconds before the next start."""
    return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(young_deaths, 10))


def _end(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


def _where_to_look(child: Child) -> str:
    return f"see {child.log}" if child.log else "see its lines above"
