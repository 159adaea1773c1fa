"""`run --approve`: decides whatever an instance and its sub-workflows wait for, so that a flight can be tried alone."""

from __future__ import annotations

import getpass
from contextlib import suppress
from typing import TYPE_CHECKING

from orchestrator.errors import Conflict, Gone, NotFound

if TYPE_CHECKING:
    from orchestrator.system import System

COMMENT = "by `orchestrator run --approve`"


def approve_all(system: System, trace: str) -> None:
    """Approve each wait for a decision, in the whole family. Timers and sub-workflows end by themselves."""
    from orchestrator import callbacks
    from orchestrator.store import family

    tenant = system.settings.tenant
    with system.database.transaction(tenant) as connection:
        waits = family.waits(connection, trace)
    for instance, step in waits:
        with suppress(Conflict, Gone, NotFound):  # somebody else was quicker, or it awaits no decision
            callbacks.decide(system, trace=instance, step=step, token=None, tenant=tenant, decision="approved",
                             comment=COMMENT, by=getpass.getuser())  # fmt: skip
