"""Real servers for the tests: where they come from, and how one test is kept apart from the next.

Every pytest-xdist worker starts its own (a second and a half); nothing has to be agreed between them. Services
that run already are named by ORCHESTRATOR_TEST_DATABASE_URL (a role that may CREATE DATABASE) and
ORCHESTRATOR_TEST_BROKER_URL (redis:// or amqp://; for a vhost a test also ORCHESTRATOR_TEST_RABBITMQ_API, the
management plugin's address, otherwise the tests share the one in the URL).
"""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege, ObjectInUse
from psycopg.sql import SQL, Composed, Identifier

from orchestrator import embedded
from orchestrator.errors import ServerError

DATABASE = "ORCHESTRATOR_TEST_DATABASE_URL"
BROKER = "ORCHESTRATOR_TEST_BROKER_URL"
RABBITMQ_API = "ORCHESTRATOR_TEST_RABBITMQ_API"
REDIS_DATABASES = 2048  # one a test; an empty one costs a few hundred bytes


def missing(what: str) -> NoReturn:
    """A service that is not here skips its tests on a laptop and fails them in CI, where it has to be."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


@contextmanager
def data_directory() -> Iterator[Path]:
    """Not pytest's tmp_path: that is closed to the user that Postgres runs as under root."""
    path = Path(tempfile.mkdtemp(prefix="orchestrator-tests-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def postgres() -> Iterator[str]:
    """URL of a Postgres whose role may make databases."""
    if url := os.environ.get(DATABASE):
        yield url
        return
    with data_directory() as data_dir:
        try:
            server = embedded.postgres(data_dir, durable=False)
        except ServerError as error:
            missing(str(error))
        with server:
            yield server.url


@contextmanager
def broker() -> Iterator[str]:
    if url := os.environ.get(BROKER):
        yield url
        return
    with data_directory() as data_dir:
        try:
            server = embedded.broker(data_dir, databases=REDIS_DATABASES)
        except ServerError as error:
            missing(str(error))
        with server:
            yield server.url


# Databases


def in_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def fresh_name(kind: str) -> str:
    return f"test_{kind}_{uuid.uuid4().hex[:12]}"


@contextmanager
def database(server: str, *, template: str | None = None) -> Iterator[str]:
    """A database of its own, a copy of the template's where one is named; dropped with whoever is still in it."""
    name = fresh_name("case" if template else "template")
    with psycopg.connect(server, autocommit=True) as connection:
        source = SQL(" TEMPLATE {}").format(Identifier(template)) if template else SQL("")
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)) + source)
    try:
        yield in_database(server, name)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            _drop(connection, SQL("DROP DATABASE {}").format(Identifier(name)))


def _drop(connection: psycopg.Connection, plainly: Composed) -> None:
    """An autovacuum worker is none whom our role may end by force; a plain DROP has it ended, and waits for the others."""
    forced = plainly + SQL(" WITH (FORCE)")
    try:
        connection.execute(forced)
    except InsufficientPrivilege:
        try:
            connection.execute(plainly)
        except ObjectInUse:
            connection.execute(forced)


@contextmanager
def template(server: str) -> Iterator[str]:
    """Name of a migrated database that nobody is connected to: `database` makes copies of it."""
    from orchestrator.store.database import upgrade

    with database(server) as url:
        upgrade(url)
        name = database_name(url)
        leave(server, name)
        yield name


def database_name(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def leave(server: str, name: str) -> None:
    """End the connections that a migration's pool may have left: a template is copied only when nobody is in it. Autovacuum
    is Postgres' own, and may not be ended by us; who copies ends it."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND datname = %s",
            [name],
        )


# Brokers


@dataclass
class BrokerPlaces:
    """Hands every test a place of its own on one broker: a Redis database number, or a RabbitMQ vhost.

    A broker that was named to us, and that we cannot divide, is used as it is: its data is not ours to flush.
    """

    server: str
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @contextmanager
    def one(self) -> Iterator[str]:
        api = os.environ.get(RABBITMQ_API)
        if BROKER not in os.environ:
            yield in_database(self.server, str(next(self.numbers)))  # more than REDIS_DATABASES: an error says so
        elif self.server.startswith("amqp") and api:
            with vhost(self.server, api) as url:
                yield url
        else:
            yield self.server


@contextmanager
def vhost(server: str, api: str) -> Iterator[str]:
    name = fresh_name("vhost")
    path = f"{api.rstrip('/')}/api/vhosts/{name}"
    ask(server, "PUT", path)
    try:
        yield in_database(server, quote(name, safe=""))
    finally:
        ask(server, "DELETE", path)


def ask(server: str, method: str, address: str) -> bytes:
    """Whoever makes a vhost through the management plugin gets all rights in it."""
    user = urlsplit(server)
    credentials = base64.b64encode(f"{user.username}:{user.password}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
    request = urllib.request.Request(address, data=b"{}", method=method, headers=headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
        return bytes(answer.read())
