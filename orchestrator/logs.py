"""Log lines: the trace id on each; `[trace] step START` on a console, JSON objects by setting.

What an instance went through is told from its history entries, after their commit, so the log never says what did not
happen. Whatever a lane's own code logs while it is called carries the trace and the step too.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from orchestrator.lines import level, line
from orchestrator.rows import CANARY, Entry, Header
from orchestrator.settings import Settings

FLIGHTS = "orchestrator.flights"  # the logger of transitions
LEVELS = {"INFO": logging.INFO, "WARNING": logging.WARNING, "ERROR": logging.ERROR}
QUIET = ("kombu", "amqp", "celery.redirected", "celery.worker.strategy", "celery.app.trace", "celery.beat")


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send every line of this process, Celery's included, to one stream (standard error) in one form."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if settings.log_format == "json":
        final += [_plain, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    else:
        final += [structlog.processors.format_exc_info, _console]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final))
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _plain(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """`told` says how the console writes a line; nobody who reads JSON needs it."""
    event.pop("told", None)
    return event


def _console(_logger: Any, _method: str, event: EventDict) -> str:
    """The seed's form where there is a trace; else the level and the text."""
    text, error = str(event.get("event", "")), event.get("exception")
    said = f"{text}\n{error}" if error else text
    trace = event.get("trace")
    if trace is None:
        return f"{event.get('level', 'info')}: {said}"
    return f"[{trace}] {said}" if event.get("told") else f"[{trace}] {event.get('step', '-')} {said}"


def tell(header: Header, entries: Iterable[Entry]) -> None:
    """Log an instance's transitions. Call it after their commit."""
    log = logging.getLogger(FLIGHTS)
    if header.tenant == CANARY or not log.isEnabledFor(logging.INFO):
        return
    for entry in entries:
        said = line(vars(entry))
        if said is not None:
            log.log(LEVELS[level(vars(entry))], said, extra=_fields(header, entry))


def _fields(header: Header, entry: Entry) -> MutableMapping[str, Any]:
    return {
        "trace": header.id, "tenant": header.tenant, "workflow": header.workflow_id, "step": entry.step,
        "verb": entry.verb, "status": entry.status, "attempt": entry.attempt, "told": True,
    }  # fmt: skip


@contextmanager
def about(*, trace: str, step: str, tenant: str) -> Iterator[None]:
    """Put the trace and the step on every line that is logged inside, by whomever."""
    with structlog.contextvars.bound_contextvars(trace=trace, step=step, tenant=tenant):
        yield
