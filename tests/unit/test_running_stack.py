from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.servers import running_stack
from tests.processes import gone

NOBODY = 2**22 + 1  # above the largest process id


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """What two servers of this process would have left in a data directory."""
    for server in ("postgres", "broker"):
        (tmp_path / f"{server}.lock").write_text(str(os.getpid()))
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "postmaster.pid").write_text("4711\n/data\n1700000000\n21001\n\n127.0.0.1\n")
    (tmp_path / "postgres.password").write_text("word\n")
    (tmp_path / "broker.conf").write_text("bind 127.0.0.1\nport 21002\nrequirepass other\n")
    return tmp_path


def test_a_stack_is_found_by_what_it_keeps(stack: Path) -> None:
    running_stack.announce_web(stack, "http://127.0.0.1:8080")
    assert running_stack.find(stack) == running_stack.RunningStack(
        database_url="postgresql://orchestrator:word@127.0.0.1:21001/orchestrator",
        broker_url="redis://:other@127.0.0.1:21002/0",
        web_url="http://127.0.0.1:8080",
    )


def test_a_cluster_that_lies_elsewhere_is_found(stack: Path) -> None:
    elsewhere = stack / "elsewhere"
    elsewhere.mkdir()
    (stack / "postgres").rename(elsewhere / "postgres")
    (stack / "postgres.location").write_text(f"{elsewhere}\n")
    found = running_stack.find(stack)
    assert found is not None
    assert found.database_url is not None


def test_what_a_crashed_stack_has_left_is_no_stack(stack: Path) -> None:
    assert gone(NOBODY)
    for server in ("postgres", "broker"):
        (stack / f"{server}.lock").write_text(str(NOBODY))
    assert running_stack.find(stack) is None
    assert not running_stack.is_in_use(stack)


def test_an_empty_or_missing_directory_holds_no_stack(tmp_path: Path) -> None:
    assert running_stack.find(tmp_path) is None
    assert running_stack.find(tmp_path / "missing") is None


def test_a_stack_that_has_just_begun_is_in_use_though_nobody_can_reach_it_yet(stack: Path) -> None:
    (stack / "postgres" / "postmaster.pid").unlink()
    (stack / "broker.conf").unlink()
    assert running_stack.find(stack) is None
    assert running_stack.is_in_use(stack)


def test_a_web_server_is_forgotten_when_it_has_gone(stack: Path) -> None:
    running_stack.announce_web(stack, "http://127.0.0.1:8080")
    running_stack.forget_web(stack)
    found = running_stack.find(stack)
    assert found is not None
    assert found.web_url is None


def test_servers_are_those_of_a_directory_only_when_it_keeps_them(stack: Path) -> None:
    found = running_stack.find(stack)
    assert found is not None
    database, broker = found.database_url, found.broker_url
    assert running_stack.has(stack, database_url=database, broker_url=broker)
    assert not running_stack.has(stack, database_url="postgresql://elsewhere/other", broker_url=broker)
    (stack / "postgres.lock").unlink()  # `up` with a database of somebody else's
    assert running_stack.has(stack, database_url="postgresql://elsewhere/other", broker_url=broker)
    assert not running_stack.has(stack / "missing", database_url=database, broker_url=broker)


def test_no_directory_is_made_to_announce_a_web_server(tmp_path: Path) -> None:
    running_stack.announce_web(tmp_path / "missing", "http://127.0.0.1:8080")
    assert not (tmp_path / "missing").exists()
