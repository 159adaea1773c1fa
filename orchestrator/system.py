"""What every use case needs, composed once by `bootstrap` and passed as the first argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.lane import Call, Lane, Reply
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from orchestrator.store.database import Database


@dataclass(frozen=True, kw_only=True)
class System:
    settings: Settings
    database: "Database"
    lanes: Mapping[str, Lane]
    call: Callable[[Lane, Call], Reply]  # one attempt; never raises for what a lane does
    ask: Callable[[Lane, Call], Reply]  # `query` lanes: what became of this key? not_sent = it never arrived
