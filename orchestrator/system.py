"""What every use case needs, composed once by `bootstrap` and passed as the first argument."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from os import getpid
from typing import TYPE_CHECKING, Protocol

from orchestrator.hands import Hands
from orchestrator.lane import Call, Lane, Reply
from orchestrator.lane_watch import LaneWatch
from orchestrator.letterbox import Letterbox
from orchestrator.settings import Settings
from orchestrator.store.database import Database
from orchestrator.store.definitions import Plans
from orchestrator.tokens import Tokens

if TYPE_CHECKING:
    from celery import Celery


class Caller(Protocol):
    """Makes one attempt at a lane; never raises for what a lane does."""

    def call(self, lane: Lane, call: Call) -> Reply: ...

    def ask(self, lane: Lane, call: Call) -> Reply:
        """`query` lanes: what became of this key? The outcome `not_sent` says that it never arrived."""
        ...

    def close(self) -> None: ...


def process_name() -> str:
    """Names a process for as long as anybody may remember it; a process id alone is used again."""
    return f"{socket.gethostname()}:{getpid()}:{secrets.token_hex(3)}"


@dataclass(frozen=True, kw_only=True, eq=False)  # one a process: compared by identity
class System:
    settings: Settings
    database: Database
    lanes: Mapping[str, Lane]
    plans: Plans
    caller: Caller
    tokens: Tokens
    app: Celery
    worker: str = field(default_factory=process_name)
    hands: Hands = field(default_factory=Hands)
    watch: LaneWatch = field(default_factory=LaneWatch)
    letterbox: Letterbox = field(default_factory=Letterbox)
    stopping: threading.Event = field(default_factory=threading.Event)  # set: leave the next step to others
    resigned: threading.Event = field(default_factory=threading.Event)  # set: it stops of its own accord, in no hurry …
    told: threading.Event = field(default_factory=threading.Event)  # … until somebody tells it to stop
    chance: Callable[[], float] = field(default=lambda: secrets.randbelow(1 << 30) / (1 << 30))

    def for_tenants(self) -> System:
        """The same, but every transaction has to say which tenant it is for: what the web server works with."""
        return replace(self, database=self.database.for_tenants())

    def close(self) -> None:
        """Let go of every connection."""
        self.caller.close()
        self.app.close()
        self.database.close()
