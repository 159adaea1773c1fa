"""The ground that the other integration tests stand on."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from kombu import Connection

from tests import servers
from tests.clock import Clock

pytestmark = pytest.mark.integration


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def test_a_test_gets_a_migrated_database_that_is_its_own(
    postgres_server: str, database_template: str, database_url: str
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE left_behind ()")
    with servers.database(postgres_server, template=database_template) as other:
        assert "left_behind" not in tables(other)
        assert "alembic_version" in tables(other)


def test_the_clock_of_one_database_moves_and_no_other(
    postgres_server: str, database_template: str, database_url: str, clock: Clock
) -> None:
    before = clock.now()
    clock.advance(3600)
    assert timedelta(hours=1) <= clock.now() - before < timedelta(hours=1, minutes=1)
    with servers.database(postgres_server, template=database_template) as other:
        still = Clock(other)
        assert still.now() - before < timedelta(minutes=1)


def test_a_message_reaches_its_queue_and_no_other_test(broker_url: str, broker_places: servers.BrokerPlaces) -> None:
    with Connection(broker_url) as connection, connection.SimpleQueue("legs") as legs:
        legs.put({"n": 1})
        with (
            broker_places.one() as elsewhere,
            Connection(elsewhere) as other,
            other.SimpleQueue("legs") as others_legs,
            pytest.raises(others_legs.Empty),
        ):
            others_legs.get(block=False)
        message = legs.get(timeout=10)
        assert message.payload == {"n": 1}
        message.ack()
