"""Who waits for an instance is told of its changes, over one connection a process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest

from orchestrator import engine
from orchestrator.changes import Changes
from orchestrator.errors import Busy
from orchestrator.store.database import Database
from orchestrator.store.statements import CHANGED_CHANNEL
from orchestrator.system import System
from tests import flights

pytestmark = pytest.mark.integration

PATIENCE = 10.0
LISTENERS = f"SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN {CHANGED_CHANNEL}%' OR query LIKE '%watching%' AND pid <> pg_backend_pid()"


@pytest.fixture
def changes(system: System) -> Iterator[Changes]:
    changes = Changes(system.database)
    yield changes
    changes.close()


@pytest.fixture
def waiting(system: System) -> str:
    """An instance that waits for a worker which never comes."""
    return flights.start(system, "permit-renewal", {"permitNo": "P-1"})


def heard(changes: Changes, database: Database) -> None:
    """Once this returns, every transition is told to us."""

    def watched() -> bool:
        with database.transaction() as connection:
            return bool(connection.exec_driver_sql("SELECT count(*) FROM watching").scalar_one())

    flights.until(watched, "that somebody watches")


def quiet(subscription: object) -> None:
    """Until the wakes of the beginning are over."""
    while subscription.wait(1.5):  # type: ignore[attr-defined]
        pass


def test_a_change_of_the_instance_wakes_who_waits_for_it_and_nobody_else(
    system: System, changes: Changes, waiting: str
) -> None:
    other = flights.start(system, "permit-renewal", {"permitNo": "P-2"})
    with (
        changes.subscribe("local", waiting) as mine,
        changes.subscribe("local", other) as others,
        changes.subscribe("elsewhere", None) as strangers,
        changes.subscribe(None, None) as everything,
    ):
        heard(changes, system.database)
        for one in (mine, others, strangers, everything):
            quiet(one)
        engine.suspend(system, tenant="local", instance_id=waiting)
        assert mine.wait(PATIENCE)
        assert everything.wait(PATIENCE)
        assert not others.wait(0)
        assert not strangers.wait(0)


def test_a_change_too_large_to_be_named_wakes_everybody(system: System, changes: Changes, waiting: str) -> None:
    with changes.subscribe("local", waiting) as mine:
        heard(changes, system.database)
        quiet(mine)
        with system.database.transaction() as connection:
            connection.exec_driver_sql(f"SELECT pg_notify('{CHANGED_CHANNEL}', '')")
        assert mine.wait(PATIENCE)


def test_nothing_is_notified_while_nobody_listens(system: System, waiting: str) -> None:
    with system.database.listen(CHANGED_CHANNEL) as connection:
        engine.suspend(system, tenant="local", instance_id=waiting)
        assert list(connection.notifies(timeout=0, stop_after=1)) == []


def test_who_waits_is_woken_when_the_connection_was_lost_and_hears_again(
    system: System, changes: Changes, waiting: str, database_url: str
) -> None:
    with changes.subscribe("local", waiting) as mine:
        heard(changes, system.database)
        quiet(mine)
        with psycopg.connect(database_url, autocommit=True) as connection:
            for (pid,) in connection.execute(LISTENERS).fetchall():
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        assert mine.wait(PATIENCE)
        quiet(mine)
        engine.suspend(system, tenant="local", instance_id=waiting)
        assert mine.wait(PATIENCE)


def test_what_somebody_else_says_on_the_channel_does_not_make_us_deaf(
    system: System, changes: Changes, waiting: str, database_url: str
) -> None:
    with changes.subscribe("local", waiting) as mine:
        heard(changes, system.database)
        quiet(mine)
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(f"NOTIFY {CHANGED_CHANNEL}, 'nonsense'".encode())
        assert mine.wait(PATIENCE), "it looks again, for it may have missed something"
        quiet(mine)
        engine.suspend(system, tenant="local", instance_id=waiting)
        assert mine.wait(PATIENCE)


def test_who_only_listens_notices_a_server_that_is_gone_without_a_word(system: System) -> None:
    with system.database.listen(CHANGED_CHANNEL) as connection:
        assert connection.info.get_parameters()["tcp_user_timeout"] == "20000"


def test_one_too_many_is_told_to_come_again(system: System) -> None:
    changes = Changes(system.database, limit=1)
    with changes.subscribe(None, None), pytest.raises(Busy), changes.subscribe(None, None):
        pass
    with changes.subscribe(None, None):
        pass
    changes.close()


def test_a_process_that_stops_lets_go_of_all_who_wait(system: System) -> None:
    stopping = threading.Event()
    changes = Changes(system.database, stopping=stopping)
    with changes.subscribe(None, None) as one:
        quiet(one)
        threading.Timer(0.1, stopping.set).start()
        assert not one.wait(PATIENCE)
        assert one.closed
    with changes.subscribe(None, None) as late:
        assert late.closed


def test_one_tenant_leaves_room_for_the_others(system: System) -> None:
    changes = Changes(system.database, limit=4)
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(changes.subscribe("city-a", None))
        with pytest.raises(Busy), changes.subscribe("city-a", None):
            pass
        with changes.subscribe("city-b", None):
            pass
    changes.close()
