"""What `orchestrator doctor` looks at. Each check yields findings and raises nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from celery import Celery
from kombu import Connection as Broker
from sqlalchemy import Connection

from orchestrator import canary
from orchestrator.bootstrap import BROKER_SECONDS, celery_app
from orchestrator.commands import failures
from orchestrator.commands.connection import NO_BROKER, located
from orchestrator.errors import OrchestratorError
from orchestrator.lane import DEFAULT_QUEUE, SWEEP_QUEUE, Lane
from orchestrator.lanes import registry
from orchestrator.lanes.exchanges import LANDED_QUEUE
from orchestrator.settings import Settings
from orchestrator.store import canary as canary_rows
from orchestrator.store import dead_letters, definitions, health, programs, schema, tenancy
from orchestrator.store.database import Database

CLOCKS_APART = 5.0  # seconds; times are Postgres', so a difference confuses people, logs and tokens, not flights


@dataclass(frozen=True, kw_only=True)
class Finding:
    check: str
    state: Literal["ok", "bad", "unknown"]
    found: str
    mend: str | None = None

    def __str__(self) -> str:
        text = " ".join(f"{self.found}: {self.mend}".split() if self.mend else self.found.split())
        return f"{self.state:<7}  {self.check}: {text}"


Findings = Iterator[Finding]


def ok(check: str, found: str) -> Finding:
    return Finding(check=check, state="ok", found=found)


def bad(check: str, found: str, mend: str | None = None) -> Finding:
    return Finding(check=check, state="bad", found=found, mend=mend)


def failed(check: str, error: Exception) -> Finding:
    return bad(check, failures.explain(error).text.removeprefix("error: "))


def examine(data_dir: Path | None, *, servers_only: bool = False) -> Findings:
    """Everything, in the order in which one thing needs another; what cannot be looked at for want of it is left out.

    `servers_only`: whether database and broker can be used, as a process' health check asks. Work that waits or is
    stuck makes no process unwell.
    """
    try:
        settings = located(data_dir)
    except OrchestratorError as error:
        yield failed("settings", error)
        return
    yield ok("settings", f"data in {settings.data_dir}, workflows in {settings.workflows_dir}")
    if servers_only:
        yield from _database(settings, None)
        yield from _broker(settings, ())
        return
    lanes: Mapping[str, Lane] | None = None
    try:
        lanes = registry.load(settings.services_file)
        yield ok("services", f"{len(lanes)} lanes in {settings.services_file}")
    except OrchestratorError as error:
        yield failed("services", error)
    queues = sorted({DEFAULT_QUEUE, *(lane.queue for lane in (lanes or {}).values())})
    yield from _database(settings, queues if lanes is not None else [])
    yield from _broker(settings, (*queues, SWEEP_QUEUE, LANDED_QUEUE))


# The database


def _database(settings: Settings, queues: Collection[str] | None) -> Findings:
    """`queues`: those of the configuration; empty: they are not known; None: the server alone is looked at."""
    assert settings.database_url is not None, "located() sees to it"
    checks: list[tuple[str, Callable[[Connection], Findings]]] = [("database", _server), ("schema", _schema)]
    if queues is not None:
        checks += [
            ("programs", _programs),
            ("tenants", _tenants),
            ("queues", lambda connection: _waiting(connection, settings, queues)),
            ("instances", _stuck),
            ("canary", lambda connection: _canary(connection, settings)),
            ("dead letters", _dead_letters),
            ("definitions", lambda connection: _refused(connection, settings.tenant)),
        ]
    try:
        database = Database(settings.database_url, pool_size=1)
    except Exception as error:  # noqa: BLE001  # whatever is wrong with an address
        yield failed("database", error)
        return
    with closing(database):
        for name, check in checks:
            found = _looked(database, name, check)
            yield from found
            if any(one.state == "bad" for one in found if one.check in ("database", "schema")):
                return  # the rest would say the same


def _looked(database: Database, name: str, check: Callable[[Connection], Findings]) -> list[Finding]:
    try:
        with database.transaction() as connection:
            return list(check(connection))
    except Exception as error:  # noqa: BLE001  # that is what was found
        return [failed(name, error)]


def _server(connection: Connection) -> Findings:
    version, takes_writes, there = health.server(connection)
    if takes_writes:
        yield ok("database", f"Postgres {version} answers")
    else:
        yield bad("database", f"Postgres {version} takes no writes", "promote it, or use the one that does")
    yield clocks(there, datetime.now(UTC))


def clocks(there: datetime, here: datetime) -> Finding:
    apart = (there - here).total_seconds()
    if abs(apart) <= CLOCKS_APART:
        return ok("clock", "the database's agrees with this host's")
    way = "ahead of" if apart > 0 else "behind"
    return bad("clock", f"the database's is {abs(apart):.0f} s {way} this host's", "let both keep time by NTP")


def _schema(connection: Connection) -> Findings:
    here, known = schema.read(connection), schema.program()
    if why := schema.misfit(here, known):
        yield bad("schema", why)
    elif here.revision == known.knows:
        yield ok("schema", f"revision {here.revision} is the newest")
    else:
        there = "a newer program's" if str(here.revision) > known.knows else "not yet contracted"
        yield ok("schema", f"revision {here.revision} is {there}, and fits this one, which knows {known.knows}")


def _programs(connection: Connection) -> Findings:
    """Which are at work beside this one. Several are well for as long as an upgrade takes."""
    found = {one.name: one for one in programs.connected(connection)}
    oldest = schema.read(connection).oldest_program or ""
    for one in found.values():
        if one.schema < oldest:
            yield bad("programs", f"{one.name} is connected, and too old for the schema", "stop it, or replace it")
    told = ", ".join(f"{one.name} ({one.connections} connections)" for one in found.values())
    if len(found) > 1:
        yield ok("programs", f"an upgrade is under way, or was left unfinished: {told}")
    else:
        yield ok("programs", told or "none is connected but this one")


def _tenants(connection: Connection) -> Findings:
    """Whether row-level security is in force for whoever connects as we do."""
    found = tenancy.protection(connection)
    if not found.in_force:
        yield bad("tenants", "Postgres does not keep them apart", found.mend)
    elif found.role:
        yield ok("tenants", f"row-level security keeps them apart; servers act as {tenancy.ROLE}")
    else:
        yield ok("tenants", f"row-level security keeps them apart; there is no role {tenancy.ROLE} to act as")


def _waiting(connection: Connection, settings: Settings, queues: Collection[str]) -> Findings:
    """Steps that any worker might claim, and none does."""
    grace = settings.republish_after + settings.sweep_every
    found = False
    for one in health.waiting(connection):
        what = f"{one.steps} due on queue {one.queue}, the oldest for {one.oldest:.0f} s"
        if queues and one.queue not in queues:
            found = True
            yield bad("queues", what, "no lane of the services file has this queue: add it, or run "
                      f"`orchestrator worker --queues {one.queue}`")  # fmt: skip
        elif one.oldest > grace:
            found = True
            yield bad("queues", what, "are workers running, and enough of them?")
    if not found:
        yield ok("queues", f"no step has been due for longer than {grace:g} s")


def _stuck(connection: Connection) -> Findings:
    count = health.stuck(connection)
    if count:
        yield bad("instances", f"{count} STUCK: they need a person", "see `orchestrator list --stuck`")
    else:
        yield ok("instances", "none is STUCK")


def _canary(connection: Connection, settings: Settings) -> Findings:
    """Whether an instance of our own came through lately."""
    if not settings.canary:
        yield ok("canary", "switched off by ORCHESTRATOR_CANARY")
        return
    proof = canary_rows.newest(connection)
    if proof is None:
        said = f"none has come through yet; workers send one every {settings.canary:g} s"
        yield Finding(check="canary", state="unknown", found=said)
    elif canary.is_late(proof, settings.canary):
        yield bad("canary", f"the last one to come through was started {proof.age:.0f} s ago",
                  "do workers run, and take messages of queue legs?")  # fmt: skip
    else:
        yield ok("canary", f"started {proof.age:.0f} s ago, it was through within {proof.duration:.2f} s")


def _dead_letters(connection: Connection) -> Findings:
    """A refused answer is an everyday thing: it was too late, and whoever gave it may have been told so."""
    found = {reason: one for reason, one in dead_letters.kept(connection).items() if reason != "refused"}
    for reason, (count, newest) in found.items():
        yield bad("dead letters", f"{count} {reason}, the newest of {newest:%Y-%m-%d %H:%M}Z",
                  "see `orchestrator dead-letters`, and clear them when they are understood")  # fmt: skip
    if not found:
        yield ok("dead letters", "none is kept")


def _refused(connection: Connection, tenant: str) -> Findings:
    refused = definitions.refused(connection, tenant)
    for workflow, problems in refused.items():
        yield bad("definitions", f"{workflow} was refused: {problems[0]}", "mend it and run `orchestrator db upgrade`")
    if not refused:
        yield ok("definitions", "none was refused")


# The broker


def _broker(settings: Settings, queues: Collection[str]) -> Findings:
    if settings.broker_url == NO_BROKER:
        yield bad("broker", "none runs in the data directory, and ORCHESTRATOR_BROKER_URL is not set")
        return
    with closing(celery_app(settings, [])) as app:
        try:
            scheme = _greet(app)
        except Exception as error:  # noqa: BLE001  # whatever the broker's client raises
            yield bad("broker", f"does not answer: {_told(error)}", "see ORCHESTRATOR_BROKER_URL")
            return
        yield ok("broker", f"{scheme} answers")
        yield from (_served(app, queue, scheme) for queue in queues)


def _greet(app: Celery) -> str:
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=BROKER_SECONDS)
        return str(connection.transport.driver_type)


def _served(app: Celery, queue: str, scheme: str) -> Finding:
    """Whether anybody consumes a queue."""
    if scheme != "amqp":
        return Finding(check="consumers", state="unknown", found=f"{scheme} cannot tell who serves queue {queue}")
    try:
        with app.connection_for_write() as connection:
            return consumers(queue, _consumers(connection, queue))
    except Exception as error:  # noqa: BLE001  # whatever the broker's client raises
        if getattr(error, "code", None) == 404:
            return consumers(queue, None)
        return bad("consumers", f"queue {queue} cannot be asked about: {_told(error)}")


def _consumers(connection: Broker, queue: str) -> int:
    with connection.channel() as channel:
        return int(channel.queue_declare(queue=queue, passive=True).consumer_count)


def consumers(queue: str, count: int | None) -> Finding:
    """`count`: None when there is no such queue."""
    if count:
        return ok("consumers", f"{count} on queue {queue}")
    found = f"queue {queue} has none" if count == 0 else f"there is no queue {queue}"
    return bad("consumers", found, "start `orchestrator worker`")


def _told(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
