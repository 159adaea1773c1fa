"""/ui/events: tells a page that what it shows may have changed; the page then asks for itself anew.

A stream holds a thread of the web server for as long as it lasts, so that there is a limit to how many there are
(`Changes` refuses more), each ends after some minutes, and a page that nobody looks at closes its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

from flask import Response, request

from orchestrator import queries
from orchestrator.api.auth import caller
from orchestrator.api.context import changes
from orchestrator.changes import Subscription
from orchestrator.ui.blueprint import routes

LIFETIME = 300.0  # seconds; the browser then connects again
HEARTBEAT = 15.0  # seconds of silence, after which a line shows whether anybody still listens
AGAIN = 2000  # milliseconds before the browser connects again
QUIET = {True: 0.25, False: 1.5}  # seconds between two events: of one instance, and of a list


@routes.get("/ui/events")
def events() -> Response:
    tenant = caller("workflows:read").tenant
    asked = request.args.get("instance")
    trace = queries.trace_of(asked) if asked else None
    held = ExitStack()
    subscription = held.enter_context(changes().subscribe(tenant, trace))
    response = Response(told(subscription, quiet=QUIET[trace is not None]), content_type="text/event-stream")
    response.headers["X-Accel-Buffering"] = "no"  # a proxy that collects a page before it passes it on
    response.call_on_close(held.close)  # also of a stream that was never begun
    return response


def told(subscription: Subscription, *, quiet: float) -> Iterator[str]:
    """The lines of one stream."""
    end = time.monotonic() + LIFETIME
    yield f"retry: {AGAIN}\n: changes follow\n\n"
    while (left := end - time.monotonic()) > 0 and not subscription.closed:
        if subscription.wait(min(HEARTBEAT, left)):
            yield "data: changed\n\n"
            time.sleep(quiet)  # what happens meanwhile is one event, not many
        else:
            yield ": nothing new\n\n"
