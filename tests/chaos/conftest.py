"""Fixtures for the tests of the checker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.chaos import recorded
from tests.chaos.seeded import Scene


@pytest.fixture
def scene(
    postgres_server: str, database_template: str, broker_places: servers.BrokerPlaces, tmp_path: Path
) -> Iterator[Scene]:
    """An airport whose service keeps the ledger, and no worker."""
    with recorded.place(postgres_server, database_template, broker_places, tmp_path) as airport:
        yield Scene(airport=airport, ledger=tmp_path / "ledger.jsonl")
