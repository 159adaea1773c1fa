"""Another team's Celery app on the same broker: it makes reports, and knows nothing of the orchestrator.

`python -m tests.chaos.run.team BROKER_URL`, with the environment of `entry`: its answers are sent one to five times.
"""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery

from tests.chaos.run.entry import tamper

QUEUE = "reports"
SILENT = 5.0  # seconds that the broker may say nothing


def app(broker_url: str) -> Celery:
    made = Celery("team", broker=broker_url, set_as_current=False)
    options = {"socket_timeout": SILENT, "socket_connect_timeout": SILENT} if broker_url.startswith("redis") else {}
    made.conf.update(
        task_default_queue=QUEUE, task_ignore_result=True, worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True, broker_connection_max_retries=None, broker_transport_options=options,
    )  # fmt: skip

    @made.task(name="reports.make", shared=False)  # type: ignore[untyped-decorator]
    def make(*, key: str, **_: Any) -> dict[str, Any]:
        return {"report": key}

    return made


def main() -> None:
    tamper()
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING")
    app(sys.argv[1]).worker_main(["worker", "--pool", "threads", "--concurrency", "2", *quiet])


if __name__ == "__main__":
    main()
