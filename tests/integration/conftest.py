"""Fixtures for the engine's tests: lanes that lead to a service on loopback, with one worker for a whole module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import flights, servers, services
from tests.services import Airport


@pytest.fixture
def tower(
    postgres_server: str, database_template: str, broker_places: servers.BrokerPlaces, tmp_path: Path
) -> Iterator[Airport]:
    """Composed with no worker, for the test alone: it moves every step itself."""
    with services.airport(postgres_server, database_template, broker_places, tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def shared_airport(
    postgres_server: str,
    database_template: str,
    broker_places: servers.BrokerPlaces,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Airport]:
    folder = tmp_path_factory.mktemp("airport")
    with (
        services.airport(postgres_server, database_template, broker_places, folder) as found,
        flights.worker(found.system),
    ):
        yield found


@pytest.fixture
def airport(shared_airport: Airport) -> Airport:
    """With a worker that the module's tests share. Each defines workflows of its own, and finds the service as new."""
    shared_airport.service.reset()
    return shared_airport
