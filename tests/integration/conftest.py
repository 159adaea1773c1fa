"""Fixtures for the engine's tests: lanes that lead to a service on loopback, with one worker for a whole module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import flights, servers, services
from tests.services import Airport


@pytest.fixture(scope="module")
def registered() -> str:
    """The services file, where {url} is the service; a module may have other lanes."""
    return services.LANES


@pytest.fixture(scope="module")
def shared_tower(
    postgres_server: str,
    database_template: str,
    broker_places: servers.BrokerPlaces,
    tmp_path_factory: pytest.TempPathFactory,
    registered: str,
) -> Iterator[Airport]:
    folder = tmp_path_factory.mktemp("tower")
    with services.airport(postgres_server, database_template, broker_places, folder, registered) as found:
        yield found


@pytest.fixture
def tower(shared_tower: Airport) -> Airport:
    """Composed with no worker: the test moves every step itself. Nothing is left in it of the test before."""
    shared_tower.clear()
    return shared_tower


@pytest.fixture(scope="module")
def shared_airport(
    postgres_server: str,
    database_template: str,
    broker_places: servers.BrokerPlaces,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Airport]:
    with (
        services.airport(
            postgres_server, database_template, broker_places, tmp_path_factory.mktemp("airport")
        ) as found,
        flights.worker(found.system),
    ):
        yield found


@pytest.fixture
def airport(shared_airport: Airport) -> Airport:
    """With a worker that the module's tests share. Each defines workflows of its own, and finds the service as new."""
    shared_airport.service.reset()
    return shared_airport
