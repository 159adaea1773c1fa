"""Segment → Celery canvas, and the result backend that lets Postgres decide the joins.

A canvas is transport only: it can be lost or repeated at any point without harm. Its signatures are mutable and hold
no ids; the wave travels as the previous leg's return value. What Celery 5.7 does with chains and chords here was
tried first; what surprised is said where it matters.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from celery import Celery, Task, chain, chord, group
from celery import states as celery_states
from celery.backends.base import BaseBackend
from celery.canvas import Signature

from orchestrator import protocol
from orchestrator.plan import Fork, Leg, Plan, Segment

LEG, COMPENSATE, SWEEP = "orchestrator.leg", "orchestrator.compensate", "orchestrator.sweep"

log = logging.getLogger(__name__)


class JoinBackend(BaseBackend):  # type: ignore[misc]  # Celery ships no types
    """Stores nothing. Sends a chord's body for the instances whose join a branch's last leg found ready."""

    def apply_chord(self, *_: Any, **__: Any) -> None:
        """Celery would poll for the header's results here: the join is decided by the last branch's transition."""

    def store_result(self, *_: Any, **__: Any) -> None:
        """Postgres has it."""

    def _get_task_meta_for(self, *_: Any) -> dict[str, Any]:
        """Asked when a task in a header chain fails; without an answer the worker's thread would hang on it."""
        return {"status": celery_states.PENDING, "result": None}

    def on_chord_part_return(self, request: Any, state: str, result: Any, **_: Any) -> None:
        """Called for every last task of a branch, and with FAILURE for failing ones in the middle of one."""
        if state != celery_states.SUCCESS or not result:
            return
        try:
            self.app.signature(request.chord).apply_async((result,))
        except Exception:
            # Raised on, it would run the errbacks of a leg that has succeeded. The sweep sends these again.
            log.warning("the body of a join was not published; the sweep will do it", exc_info=True)

    def as_uri(self, *_: Any, **__: Any) -> str:
        return "join://"


def compile(app: Celery, plan: Plan, version: str, start: str) -> Signature:  # noqa: A001  # DESIGN's word for it
    """The canvas of the segment that starts at `start`; it is applied with the wave as its one argument."""
    parts = _lay(app, version, plan.segment(start), nested=False)
    canvas = parts[0] if len(parts) == 1 else chain(*parts)
    canvas.link_error(nudge(app))
    return canvas


def compensation(app: Celery, version: str, step: str, queue: str) -> Signature:
    kwargs = {"version": version, "step": step}
    return app.signature(COMPENSATE, kwargs=kwargs, queue=queue, headers=protocol.headers())


def nudge(app: Celery) -> Signature:
    """The errback: the failing transition has been committed, so all it says is that there is something to do."""
    return app.signature(COMPENSATE, immutable=True, headers=protocol.headers())


def _lay(app: Celery, version: str, segment: Segment, *, nested: bool) -> list[Signature]:
    if not segment:
        return []
    part, after = segment[0], _lay(app, version, segment[1:], nested=nested)
    if isinstance(part, Leg):
        return [_leg(app, version, part), *after]
    return _fork(app, version, part, after, nested=nested)


def _leg(app: Celery, version: str, leg: Leg) -> Signature:
    kwargs = {"version": version, "start": leg.steps[0]}
    return app.signature(LEG, kwargs=kwargs, queue=leg.queue, headers=protocol.headers())


def _fork(app: Celery, version: str, fork: Fork, after: list[Signature], *, nested: bool) -> list[Signature]:
    """Branches side by side, then what follows the join. Where nothing follows there is no chord, for it has no body:
    at the top the branches go as a group; within a branch the canvas is cut, and the dispatcher sends them."""
    laid = [_lay(app, version, branch, nested=True) for branch in fork.branches]
    header = [parts[0] if len(parts) == 1 else chain(*parts) for parts in laid if parts]
    if header and after:
        return [chord(header, after[0]), *after[1:]]
    return [group(header)] if header and not nested else []


# -- reading, in a running leg, what follows it


def covered(request: Any) -> frozenset[str]:
    """The steps that will be sent when this leg returns: their rows are born published."""
    if request.chain:
        return frozenset(_starts(request.chain[-1]))  # Celery keeps the rest of a chain in reverse
    return frozenset(_starts(request.chord)) if request.chord else frozenset()


def _starts(signature: dict[str, Any]) -> Iterator[str]:
    """The steps at which a signature begins, as it looks on the wire."""
    kind, kwargs = signature.get("subtask_type"), signature["kwargs"]
    if kind == "chord":
        header = kwargs["header"]
        tasks = header["kwargs"]["tasks"] if isinstance(header, dict) else header
    elif kind in ("group", "chain"):
        tasks = kwargs["tasks"] if kind == "group" else kwargs["tasks"][:1]
    else:
        yield kwargs["start"]
        return
    for task in tasks:
        yield from _starts(task)


def steer(task: Task, survivors: Sequence[str]) -> None:
    """Let nothing follow a leg that has no survivors: returning an empty wave would still send the successor."""
    if not survivors:
        task.request.chain = None
        task.request.chord = None


def publish_errbacks(task: Task, failed: Sequence[str]) -> None:
    """A leg that goes on for some members tells of the others itself: Celery would only do so if all had failed."""
    if failed:
        for errback in task.request.errbacks or []:
            task.app.signature(errback).apply_async(ignore_result=True)
