"""Fixtures that every folder of tests shares; `servers` says where the servers come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.settings import Settings
from orchestrator.system import System
from tests import flights, servers
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
    with servers.template(postgres_server) as name:
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


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings for the test's own database and broker; the sample lanes keep their state in `tmp_path`."""
    monkeypatch.setenv("ORCHESTRATOR_DATA_DIR", str(tmp_path))
    return Settings(
        database_url=database_url, broker_url=broker_url, auth="local", data_dir=str(tmp_path), lease=5.0,
        sweep_every=0.2, republish_after=1.0, canary=0.0,
    )  # fmt: skip


@pytest.fixture
def system(settings: Settings) -> Iterator[System]:
    """Everything composed, with the workflows of `workflows/`, and no worker."""
    system = flights.compose(settings)
    yield system
    system.close()


@pytest.fixture
def worker(system: System) -> Iterator[System]:
    """The same with a worker that runs it."""
    with flights.worker(system) as running:
        yield running
