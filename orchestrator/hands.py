"""What this process has under way: which calls have been at it for too long, and who is suspected of ending processes.

A leg is under way also between two calls, while it claims or records: what it holds then has not hung.

A step that has lost a worker is a suspect. Of these a process has one in its hands at a time: whoever ends the process again
takes no other suspect along, so that the innocent, who were lost by its side, are not quarantined with it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, get_ident


@dataclass(kw_only=True, eq=False)  # compared by identity
class Call:
    """One that is under way. Times are of a monotonic clock, in seconds."""

    key: str
    thread: int
    leg: int  # whose calls are waited for together
    since: float
    until: float  # by then it has to be over


@dataclass(kw_only=True)
class Hands:
    clock: Callable[[], float] = time.monotonic
    _lock: Lock = field(default_factory=Lock)
    _calls: set[Call] = field(default_factory=set)
    _legs: dict[int, int] = field(default_factory=dict)  # how many attempts each holds: in calls, or around them
    _suspect: tuple[str, float] | None = None  # its key, and when it is surely over

    @contextmanager
    def leg(self, leg: int) -> Iterator[None]:
        """While a leg is under way."""
        self.hold(leg, 1)
        try:
            yield
        finally:
            with self._lock:
                del self._legs[leg]

    def hold(self, leg: int, attempts: int) -> None:
        """So many a leg has claimed and not recorded yet."""
        with self._lock:
            self._legs[leg] = attempts

    @contextmanager
    def at(self, key: str, *, leg: int, limit: float) -> Iterator[None]:
        """While a call is made that has to be over within `limit` seconds."""
        now = self.clock()
        call = Call(key=key, thread=get_ident(), leg=leg, since=now, until=now + limit)
        with self._lock:
            self._calls.add(call)
        try:
            yield
        finally:
            with self._lock:
                self._calls.discard(call)
            self.give_back(key)

    def renew(self, limit: float) -> None:
        """The call that this thread is at has been given `limit` seconds from now on."""
        until = self.clock() + limit
        with self._lock:
            for call in self._calls:
                if call.thread == get_ident():
                    call.until = until
                    if self._suspect is not None and self._suspect[0] == call.key:
                        self._suspect = (call.key, until)

    def calls(self) -> list[Call]:
        with self._lock:
            return list(self._calls)

    def hung(self) -> list[Call]:
        """Those whose time is up: no thread can be stopped, so their hands are lost."""
        now = self.clock()
        return [call for call in self.calls() if call.until < now]

    def are_lost(self) -> bool:
        """Whether nothing is under way any more but calls whose time is up."""
        now = self.clock()
        with self._lock:
            hung = Counter(call.leg for call in self._calls if call.until < now)
            is_all = hung.total() == len(self._calls)
            return bool(hung) and is_all and all(hung[leg] >= held for leg, held in self._legs.items())

    def may_take(self, suspect: str, *, limit: float) -> bool:
        """Whether a suspect may be claimed now; then no other may for `limit` seconds, or until its call has ended."""
        now = self.clock()
        with self._lock:
            if self._suspect is not None and self._suspect[0] != suspect and self._suspect[1] > now:
                return False
            self._suspect = (suspect, now + limit)
            return True

    def give_back(self, suspect: str) -> None:
        """It is not called any more, or its claim came to no call: another one may be taken."""
        with self._lock:
            is_called = any(call.key == suspect for call in self._calls)
            if self._suspect is not None and self._suspect[0] == suspect and not is_called:
                self._suspect = None
