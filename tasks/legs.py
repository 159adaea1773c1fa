"""The orchestrator's Celery tasks: shells that call a use case and steer the canvas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from celery import Celery, Task

from orchestrator import canvas, dead_letters, legs
from orchestrator.dispatch import dispatch
from orchestrator.errors import NotFound
from orchestrator.sweep import sweep
from orchestrator.system import System
from tasks import unread


class LegFailed(Exception):
    """The instances of a whole wave have failed; Postgres has it, and Celery's errbacks are told."""


def register(app: Celery, system: System) -> None:
    """Give the worker's app its three tasks."""

    hint = unread.hint(system)

    @app.task(name=canvas.LEG, base=hint, bind=True, shared=False, throws=(LegFailed,))  # type: ignore[untyped-decorator]
    def leg(self: Task, wave: Sequence[str], *, version: str, start: str) -> list[str]:
        covered = canvas.covered(self.request)
        try:
            landed = legs.run(system, wave, version=version, start=start, covered=covered)
        except (NotFound, KeyError) as error:
            told = json.dumps({"wave": wave, "version": version, "start": start}, default=repr)
            queue = (self.request.delivery_info or {}).get("routing_key") or "?"
            dead_letters.keep(system, "no_definition", queue=queue, error=repr(error), content=told)
            landed = legs.Landed(survivors=(), failed=())
        canvas.steer(self, landed.survivors)
        if landed.failed and len(landed.failed) == len(wave):
            raise LegFailed(f"{start}: {len(wave)} of {len(wave)}")
        canvas.publish_errbacks(self, landed.failed)
        return list(landed.survivors)

    # `bind=True` makes Celery send it as a message when it is an errback, instead of calling it in the failing thread.
    @app.task(name=canvas.COMPENSATE, base=hint, bind=True, shared=False)  # type: ignore[untyped-decorator]
    def compensate(_: Task, wave: Sequence[str] = (), *, version: str = "", step: str = "") -> None:
        if wave:
            legs.undo(system, wave, version=version, step=step)
        else:
            dispatch(system)

    @app.task(name=canvas.SWEEP, shared=False)  # type: ignore[untyped-decorator]
    def sweep_now(*_: Any, **__: Any) -> Any:
        sweep(system)  # whatever the message says: there is nothing in it to misread
