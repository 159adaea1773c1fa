"""Where the answers of Celery lanes land: two shells, on a queue of their own."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.exceptions import Reject

from orchestrator import landed
from orchestrator.lanes.exchanges import FAILED, LANDED
from orchestrator.system import System
from tasks import unread

UNTOLD = "the task failed in its worker, whose log says why"


def register(app: Celery, system: System) -> None:
    """Give the worker's app the two tasks. Their messages come from other apps: whatever is wrong is dropped."""

    answer = unread.answer(system)

    @app.task(name=LANDED, base=answer, shared=False)  # type: ignore[untyped-decorator]
    def succeeded(result: Any = None, *, trace: str = "", step: str = "", token: str = "", **_: Any) -> None:
        try:
            landed.succeeded(system, result, trace=trace, step=step, token=token)
        except landed.Stopped as stopped:
            raise Reject(requeue=True) from stopped

    # `error` comes from an app that has an errback of this name; Celery's own gives nothing but the task's id.
    @app.task(name=FAILED, base=answer, bind=True, shared=False)  # type: ignore[untyped-decorator]
    def failed(_: Any, task_id: Any = None, *, trace: str = "", step: str = "", token: str = "",
               error: str | None = None, **__: Any) -> None:  # fmt: skip
        try:
            landed.failed(system, str(error or f"{UNTOLD} (task {task_id})"), trace=trace, step=step, token=token)
        except landed.Stopped as stopped:
            raise Reject(requeue=True) from stopped
