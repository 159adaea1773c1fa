"""Signals as something that a selector can wait for."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Wake:
    """`reader` becomes readable at the end of a child and at a signal to stop; that one is also remembered."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self._writer, False)
        self.told_to_stop = False

    def drain(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self.reader, 4096):
                pass

    def stop(self, *_: object) -> None:
        self.told_to_stop = True

    @property
    def writer(self) -> int:
        return self._writer

    def close(self) -> None:
        os.close(self.reader)
        os.close(self._writer)


@contextmanager
def wakened() -> Iterator[Wake]:
    """Handle the signals until the end of the block. For the main thread."""
    wake = Wake()
    before = {number: signal.getsignal(number) for number in (*STOP_SIGNALS, signal.SIGCHLD)}
    writer_before = signal.set_wakeup_fd(wake.writer, warn_on_full_buffer=False)
    for number in STOP_SIGNALS:
        # Under nohup a hangup stays ignored. An interrupt does not: a script's shell ignores it for all that it
        # starts in the background.
        if number != signal.SIGHUP or before[number] is not signal.SIG_IGN:
            signal.signal(number, wake.stop)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        yield wake
    finally:
        signal.set_wakeup_fd(writer_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        wake.close()
