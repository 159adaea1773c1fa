"""Composition: settings → `System`. The one place that knows every part."""

from __future__ import annotations

import secrets
from pathlib import Path

from celery import Celery
from kombu import Queue
from sqlalchemy import text

from orchestrator import canvas, loader, protocol
from orchestrator.errors import Invalid, Problem, SettingsError
from orchestrator.lane import DEFAULT_QUEUE, SWEEP_QUEUE
from orchestrator.lanes import exchanges, registry
from orchestrator.lanes.caller import Caller
from orchestrator.settings import Settings
from orchestrator.store import definitions, schema
from orchestrator.store.database import Database
from orchestrator.store.definitions import Plans
from orchestrator.system import System
from orchestrator.tokens import Tokens

# Celery holds one while it sends a group, and takes another for each chain in it: threads that all hold one must never wait
# for each other's. They are made when they are needed, and the last that was used is used first.
PRODUCERS = 1000
CONSUMER = "orchestrator.consumer:Consumer"  # named: nobody but a worker has to import Celery's
CALLBACK_KEY = "callback_secret"
BROKER_SECONDS = 5.0  # before a broker that does not answer counts as down


def compose(settings: Settings) -> System:
    """Connect everything. Raises SettingsError, SchemaError or Invalid (the services file)."""
    if not settings.database_url or not settings.broker_url:
        raise SettingsError("ORCHESTRATOR_DATABASE_URL and ORCHESTRATOR_BROKER_URL must be set here; "
                            "`orchestrator up` and `orchestrator run` bring servers of their own")  # fmt: skip
    database = _fitting(settings.database_url)
    lanes = registry.load(settings.services_file)
    app = celery_app(settings, sorted({DEFAULT_QUEUE, *(lane.queue for lane in lanes.values())}))
    return System(
        settings=settings, database=database, lanes=lanes, plans=Plans(database, lanes), app=app,
        caller=Caller(database=database, app=app, max_input=settings.max_payload),
        tokens=Tokens(settings.secret or _kept_secret(database)),
    )  # fmt: skip


def _fitting(url: str) -> Database:
    database = Database(url)
    try:
        with database.across_tenants() as connection:
            schema.check(connection)
    except BaseException:
        database.close()
        raise
    return database


def celery_app(settings: Settings, queues: list[str]) -> Celery:
    """The Celery app that workers, beat and dispatchers share. Why each setting: docs/explanation/celery.md."""
    app = Celery("orchestrator", broker=settings.broker_url, backend=canvas.JoinBackend, set_as_current=False)
    is_amqp = exchanges.is_amqp(settings.broker_url)
    app.conf.update(
        task_default_queue=DEFAULT_QUEUE,
        task_queues=[
            *(_queue(name, settings.broker_url) for name in (*queues, SWEEP_QUEUE)),
            exchanges.answers_queue(settings.broker_url),
        ],
        task_routes={canvas.SWEEP: {"queue": SWEEP_QUEUE}},
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_allow_error_cb_on_chord_header=True,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_consumer=CONSUMER,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=BROKER_SECONDS,
        broker_pool_limit=PRODUCERS,
        broker_transport_options=_transport(settings, is_amqp=is_amqp),
        beat_schedule={"sweep": {"task": canvas.SWEEP, "schedule": settings.sweep_every,
                                 "options": {"expires": max(1.0, 2 * settings.sweep_every),
                                             "headers": protocol.headers()}}},
        beat_max_loop_interval=max(1.0, settings.sweep_every),
    )  # fmt: skip
    return app


def _queue(name: str, broker_url: str | None) -> Queue:
    """Direct queues, published to through the broker's default exchange: no binding that a wipe could take away."""
    return Queue(name, routing_key=name, queue_arguments=exchanges.arguments(broker_url))


# A publish to a broker that is away fails at once: the dispatcher unpublishes the rows and tries again by itself.
FAIL_FAST = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2}


def _transport(settings: Settings, *, is_amqp: bool) -> dict[str, object]:
    if is_amqp:
        return {"confirm_publish": True, **FAIL_FAST}
    return {
        "socket_timeout": BROKER_SECONDS, "socket_connect_timeout": BROKER_SECONDS, "socket_keepalive": True,
        "health_check_interval": 10, "visibility_timeout": max(300, int(settings.lease * 10)), **FAIL_FAST,
    }  # fmt: skip


def _kept_secret(database: Database) -> str:
    """The key that signs callback tokens: made once for an installation, so that every process has the same."""
    with database.transaction() as connection:
        insert = text("INSERT INTO installation (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING")
        connection.execute(insert, {"name": CALLBACK_KEY, "value": secrets.token_urlsafe(32)})
        found = text("SELECT value FROM installation WHERE name = :name")
        kept: str = connection.execute(found, {"name": CALLBACK_KEY}).scalar_one()
    return kept


def beat_app(settings: Settings) -> Celery:
    """What beat needs: the schedule and the broker, and no database."""
    return celery_app(settings, [DEFAULT_QUEUE])


def load_workflows(system: System) -> dict[str, tuple[Problem, ...]]:
    """Store every definition in `workflows_dir`. Returns the problems of the files that were refused, by file."""
    folder = Path(system.settings.workflows_dir)
    files = sorted(path for path in folder.glob("*") if path.suffix in (".yaml", ".yml", ".json"))
    return {str(path): problems for path in files if (problems := _load_file(system, path))}


def _load_file(system: System, path: Path) -> tuple[Problem, ...]:
    tenant = system.settings.tenant
    try:
        source = path.read_text(encoding="utf-8")
        definition = loader.load(source, file=path.name, lanes=system.lanes, limit=system.settings.max_definition)
        with system.database.transaction() as connection:
            definitions.save(connection, tenant, definition, source)
    except (Invalid, OSError, UnicodeDecodeError) as error:
        problems = error.problems if isinstance(error, Invalid) else (Problem(message=str(error), file=path.name),)
        with system.database.transaction() as connection:
            definitions.refuse(connection, tenant, _inner_id(path), path.name, problems)
        return problems
    return ()


def _inner_id(path: Path) -> str:
    """The id that a broken file was meant for: its inner one where that can still be read, else the file's name."""
    try:
        data = loader.read_document(path.read_text(encoding="utf-8"), path.name).data
    except (Invalid, OSError, UnicodeDecodeError):
        return path.stem
    found = data.get("id") if isinstance(data, dict) else None
    return found if isinstance(found, str) else path.stem
