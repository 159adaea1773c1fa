"""Where dead letters wait until a thread of the worker writes them down. Who has one to keep only drops it here: he may be
the loop that hears the broker, and that waits for nothing, least of all for a database.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence

from orchestrator.store.dead_letters import Letter

ROOM = 500  # letters that a process holds; of more, the newest

log = logging.getLogger(__name__)


class Letterbox:
    def __init__(self, room: int = ROOM) -> None:
        self._letters: deque[Letter] = deque()
        self._room = room
        self._fallen_out = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._letters)

    def drop(self, letter: Letter) -> None:
        with self._lock:
            self._letters.append(letter)
            self._make_room()

    def take(self) -> list[Letter]:
        """All that are in it: whoever takes them has them alone."""
        with self._lock:
            taken, lost = list(self._letters), self._fallen_out
            self._letters.clear()
            self._fallen_out = 0
        if lost:
            log.warning("%d dead letters were not kept: more came than could be written down", lost)
        return taken

    def give_back(self, letters: Sequence[Letter]) -> None:
        """They could not be written: they are the oldest again."""
        with self._lock:
            self._letters.extendleft(reversed(letters))
            self._make_room()

    def _make_room(self) -> None:
        while len(self._letters) > self._room:
            self._letters.popleft()
            self._fallen_out += 1
