"""The connection to Postgres: one pool a process, and the migrations."""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from orchestrator.errors import SchemaError
from orchestrator.store import programs, schema, tenancy

IDLE = 1.0  # seconds
# A server that is gone without a word is noticed in half a minute, also by who only listens.
ALIVE: dict[str, Any] = {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
                         "tcp_user_timeout": 20_000}  # fmt: skip
AWAY = (OperationalError, InterfaceError, PoolTimeout, psycopg.OperationalError, psycopg.InterfaceError)
CUT_OFF = frozenset({"25P03", "25P04", "25006"})  # idle, or at it, for too long; a standby that takes no writes (yet)
GOING = frozenset({"57P01", "57P02", "57P03"})  # Postgres ends, or has just begun
MIGRATION_LOCK = 7_305_115  # any constant: one replica migrates, the others wait for it
MIGRATION_LOOK, MIGRATION_PAUSE = 0.2, 1.0  # seconds between two looks whose turn it is, and between two tries
MIGRATION_PATIENCE = 120.0  # seconds for all tries
HELD = frozenset({"55P03", "40P01"})  # a lock was not to be had in time; a deadlock

log = logging.getLogger(__name__)


class Unbound(RuntimeError):
    """A transaction of a server for tenants was begun without saying for whom: pass `tenant`, or say `across_tenants`."""


class Database:
    """A pool of connections. Short transactions only: no connection is held across a call to a lane."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.url = url
        self.engine: Engine = create_engine(
            sqlalchemy_url(url), pool_size=pool_size, max_overflow=pool_size, pool_timeout=30,
            connect_args={**ALIVE, "application_name": programs.own_name()},
            hide_parameters=True,  # payloads are nobody's business who reads a log
        )  # fmt: skip
        event.listen(self.engine, "checkout", _ask_the_idle)
        event.listen(self.engine, "checkin", _note_use)
        event.listen(self.engine, "checkin", self._close_late)
        self._is_closed = threading.Event()
        self.is_for_tenants = False
        self._acts_as_role: bool | None = None  # None: not asked yet

    def for_tenants(self) -> Database:
        """The same pool, in which nobody forgets whom a transaction is for: what the web server works with."""
        bound = copy.copy(self)
        bound.is_for_tenants = True
        return bound

    @contextmanager
    def transaction(self, tenant: str | None = None) -> Iterator[Connection]:
        """`tenant`: whose rows alone it sees and writes; none: the engine's own, over all tenants. Raises Unbound."""
        if tenant is None and self.is_for_tenants:
            raise Unbound(Unbound.__doc__)
        with self.engine.begin() as connection:
            if tenant is not None:
                tenancy.bind(connection, tenant, as_role=self._may_act_as_role(connection))
            yield connection

    @contextmanager
    def across_tenants(self) -> Iterator[Connection]:
        """For the few questions of a web server that are nobody's in particular: is the database there?"""
        with self.engine.begin() as connection:
            yield connection

    def _may_act_as_role(self, connection: Connection) -> bool:
        if self._acts_as_role is None:
            self._acts_as_role = tenancy.may_act_as_role(connection)
        return self._acts_as_role

    def listen(self, channel: str) -> psycopg.Connection[tuple[object, ...]]:
        """A connection of its own that listens; the caller closes it."""
        name = programs.own_name()
        connection = psycopg.connect(plain_url(self.url), autocommit=True, application_name=name, **ALIVE)
        try:
            connection.execute(f"LISTEN {channel}")  # a constant of ours, never input
        except psycopg.Error:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        self._is_closed.set()
        self.engine.dispose()

    def _close_late(self, connection: Any, _entry: ConnectionPoolEntry) -> None:
        """What a thread gives back after the pool was closed goes into a pool that nobody has any more."""
        if self._is_closed.is_set() and connection is not None:
            connection.close()


def is_away(error: BaseException) -> bool:
    """Whether Postgres is not there, or has cut us off because this process was stopped in the midst of a transaction: what
    was to be done can be done the next time."""
    if isinstance(error, AWAY):
        return True
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in CUT_OFF


def was_cut(error: BaseException) -> bool:
    """Whether the connection was lost or refused, or takes no writes: no statement's own fault."""
    if isinstance(error, PoolTimeout) or (isinstance(error, DBAPIError) and error.connection_invalidated):
        return True
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    return is_away(error) and (state is None or state.startswith("08") or state in CUT_OFF | GOING)


def told(error: BaseException) -> str:
    """What Postgres said, without the statement and the values that it said it of."""
    cause = getattr(error, "orig", None) or error
    said = cause.diag.message_primary if isinstance(cause, psycopg.Error) else None
    return said or str(cause).strip()


def _ask_the_idle(connection: Any, entry: ConnectionPoolEntry, _proxy: object) -> None:
    """A pooled connection may have died since: it is asked, but not on every use, for that costs a round trip."""
    if time.monotonic() - entry.info.get("used", 0.0) > IDLE:
        try:
            connection.cursor().execute("")
        except psycopg.Error as error:
            raise DisconnectionError from error  # the pool takes a new one


def _note_use(_connection: object, entry: ConnectionPoolEntry) -> None:
    entry.info["used"] = time.monotonic()


def sqlalchemy_url(url: str) -> str:
    return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def plain_url(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def upgrade(url: str, *, versions: Path = schema.VERSIONS, patience: float = MIGRATION_PATIENCE) -> None:
    """Bring the database to the newest schema that this program knows; several replicas may do so at once, and others
    may work on it. Raises SchemaError where it serves newer programs only, and what Postgres says when it goes wrong."""
    engine = create_engine(sqlalchemy_url(url), connect_args=ALIVE, poolclass=NullPool)
    until = time.monotonic() + patience
    with closing(engine.connect().execution_options(isolation_level="AUTOCOMMIT")) as guard:
        _take_turn(guard)
        while not _migrated(engine, versions, is_last=time.monotonic() > until):
            time.sleep(MIGRATION_PAUSE)


def _take_turn(guard: Connection) -> None:
    """Asked for again and again: an index that is made beside the traffic would wait for a statement that waits for us."""
    while not guard.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK}).scalar_one():
        time.sleep(MIGRATION_LOOK)


def _migrated(engine: Engine, versions: Path, *, is_last: bool) -> bool:
    """One try. False when somebody held what a migration needs for longer than the traffic should wait behind it."""
    try:
        with closing(engine.connect()) as connection:
            _spare_the_older(connection, versions)
            schema.migrate(connection, versions)
            return True
    except DBAPIError as error:
        if is_last or getattr(error.orig, "sqlstate", None) not in HELD:
            raise
        log.warning("a migration waits for its turn at a table: %s", error.orig)
        return False


def _spare_the_older(connection: Connection, versions: Path) -> None:
    """Nothing is taken from under a program that uses it still. Raises SchemaError."""
    since = schema.taken_since(schema.read(connection), versions)
    left = [one.name for one in programs.connected(connection) if since is not None and one.schema < since]
    connection.rollback()
    if left:
        raise SchemaError(f"the next migration takes away what programs use that know none newer than {since}, and such are "
                          f"connected ({', '.join(left)}): roll out the new program first, then upgrade again")  # fmt: skip
