"""Fixtures that every folder of tests shares; `servers` says where the servers come from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import servers
from tests.clock import Clock


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that needs a broker is one that CI repeats on RabbitMQ: `-m rabbitmq`."""
    for item in items:
        if isinstance(item, pytest.Function) and "broker_url" in item.fixturenames:
            item.add_marker(pytest.mark.rabbitmq)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a Postgres in which databases may be made."""
    with servers.postgres() as url:
        yield url


@pytest.fixture(scope="session")
def database_template(postgres_server: str) -> Iterator[str]:
    """Name of a migrated database that nobody is connected to."""
    from orchestrator.store.database import upgrade

    with servers.database(postgres_server) as url:
        upgrade(url)
        name = servers.database_name(url)
        servers.leave(postgres_server, name)
        yield name


@pytest.fixture
def database_url(postgres_server: str, database_template: str) -> Iterator[str]:
    """A migrated, empty database of the test's own."""
    with servers.database(postgres_server, template=database_template) as url:
        yield url


@pytest.fixture
def clock(database_url: str) -> Clock:
    """Moves the time of `database_url`."""
    clock = Clock(database_url)
    clock.install()
    return clock


@pytest.fixture(scope="session")
def broker_server() -> Iterator[str]:
    """URL of a Valkey, Redis or RabbitMQ."""
    with servers.broker() as url:
        yield url


@pytest.fixture(scope="session")
def broker_places(broker_server: str) -> servers.BrokerPlaces:
    return servers.BrokerPlaces(broker_server)


@pytest.fixture
def broker_url(broker_places: servers.BrokerPlaces) -> Iterator[str]:
    """A broker with nothing in it that other tests put there."""
    with broker_places.one() as url:
        yield url
