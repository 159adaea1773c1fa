"""The console of a stack: whole lines, each behind the name of the process that said it."""

from __future__ import annotations

import os
import queue
import threading
from typing import Self

WAITING_LINES = 2000
LAST_WORDS = 1.0  # seconds that the end waits for a slow reader
LONGEST_LINE = 65536  # bytes


class Console:
    """Writes lines to a file descriptor from a thread of its own.

    A reader that stops reading (a pipe that is full, a terminal on hold) must not stop the supervisor, which has
    children to watch: what does not fit into the queue is dropped, and counted.
    """

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes | None] = queue.Queue(WAITING_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, daemon=True, name="console")

    def say(self, line: str) -> None:
        self._put(line.encode() + b"\n")

    def relay(self, name: str, line: bytes) -> None:
        self._put(f"{name:<10} | ".encode() + line + b"\n")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._lines.put(None, timeout=LAST_WORDS)
        except queue.Full:
            return
        self._thread.join(LAST_WORDS)

    def _put(self, line: bytes) -> None:
        try:
            if self._dropped:
                self._lines.put_nowait(f"({self._dropped} lines were dropped: nobody read them)\n".encode())
                self._dropped = 0
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:  # the reader is gone for good; the stack goes on
                continue


class Lines:
    """Cuts what a process writes into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            whole.append(self._rest)
            self._rest = b""
        return whole

    def end(self) -> list[bytes]:
        rest, self._rest = self._rest, b""
        return [rest] if rest else []
