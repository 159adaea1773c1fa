"""What the orchestrator is compared with: a bare Celery `chain` of three no-op tasks, nothing durable, no results.

Its settings are the orchestrator's wherever those mean anything here. The last task writes when it ended into a named
pipe, which costs microseconds; a result backend or a counter in the broker would slow it down by a message.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache

from celery import Celery, chain
from celery.canvas import Signature

from orchestrator.bootstrap import celery_app
from orchestrator.settings import Settings

QUEUE = "bare"
PIPE = "BENCHMARK_PIPE"
AS_OURS = (
    "task_ignore_result", "task_acks_late", "task_reject_on_worker_lost", "task_publish_retry",
    "worker_prefetch_multiplier", "worker_enable_remote_control", "worker_send_task_events", "accept_content",
    "broker_connection_retry_on_startup", "broker_pool_limit", "broker_transport_options",
)  # fmt: skip


def make(settings: Settings) -> Celery:
    """The app with its three tasks, for the workers and for whoever sends."""
    ours = celery_app(settings, [QUEUE])
    app = Celery("bare", broker=settings.broker_url, set_as_current=False)
    app.conf.update({name: ours.conf[name] for name in AS_OURS}, task_default_queue=QUEUE)
    app.task(_pass_on, name="bare.first", shared=False)
    app.task(_pass_on, name="bare.second", shared=False)
    app.task(_end, name="bare.third", shared=False)
    return app


def three(app: Celery, name: str) -> Signature:
    first, *others = (app.signature(f"bare.{task}") for task in ("first", "second", "third"))
    return chain(first.clone((name,)), *others)


def _pass_on(name: str) -> str:
    return name


def _end(name: str) -> None:
    # A line shorter than PIPE_BUF is written whole, whoever else writes.
    os.write(_pipe(), f"{name} {time.time()!r}\n".encode())


@lru_cache(maxsize=1)
def _pipe() -> int:
    return os.open(os.environ[PIPE], os.O_WRONLY)
