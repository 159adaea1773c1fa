"""The web server process: gunicorn with threads, the system composed after the fork."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from orchestrator import changes, logs
from orchestrator.errors import SettingsError
from orchestrator.settings import Settings
from orchestrator.store import tenancy

THREADS = 8 + changes.LIMIT  # who waits for changes holds one, and leaves the others eight


class WebServer(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn configured from our settings alone: neither its command line nor its files are read."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.stopping = threading.Event()
        super().__init__()

    def load_config(self) -> None:
        for name, value in options(self._settings).items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        # Here is the worker process: connections and threads must not cross a fork.
        from orchestrator.api.app import create_app
        from orchestrator.bootstrap import compose

        system = compose(self._settings)
        self.stopping = system.stopping
        return create_app(system)


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Sends home those who wait for changes: it would wait for them until it is killed."""

    def handle_exit(self, sig: int, frame: object) -> None:
        self.app.stopping.set()
        super().handle_exit(sig, frame)


def options(settings: Settings) -> dict[str, Any]:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return {
        "bind": f"{host}:{settings.port}",
        "worker_class": Worker,
        "workers": 1,
        "threads": THREADS,
        "timeout": 60,  # seconds without a sign of life from the worker
        "graceful_timeout": max(
            1, int(settings.stop_within) - 1
        ),  # seconds that requests under way are given at the end
        "control_socket_disable": True,
        "proc_name": "orchestrator-web",
        "logger_class": _logger(settings),
    }


def _logger(settings: Settings) -> type[Logger]:
    class OneForm(Logger):  # type: ignore[misc]  # gunicorn has no types
        """Its lines in the form of all our lines."""

        def setup(self, cfg: Any) -> None:
            super().setup(cfg)
            self.error_log.handlers.clear()
            self.error_log.propagate = True
            logs.configure(settings)

    return OneForm


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError, before anything is bound, for wrong settings."""
    from orchestrator.api.auth import authenticator

    authenticator(settings)
    if settings.auth == "jwt":
        _demand_protection(settings)
    WebServer(settings).run()


def _demand_protection(settings: Settings) -> None:
    """Where tokens come from several tenants, one forgotten condition must not show them to each other."""
    from orchestrator.store.database import Database

    with (
        closing(Database(settings.database_url or "", pool_size=1)) as database,
        database.across_tenants() as connection,
    ):
        found = tenancy.protection(connection)
    if not found.in_force:
        raise SettingsError(f"Postgres does not keep tenants apart here: {found.mend}")
