from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator import settings as environment_of
from orchestrator.errors import ServerError
from orchestrator.servers import stack
from orchestrator.servers.ports import free_port
from orchestrator.settings import Settings

GIVEN = Settings(database_url="postgresql://db/x", broker_url="amqp://broker//", lease=1.5, port=0, secret="s")


def test_the_children_read_the_very_settings_that_the_stack_was_given() -> None:
    assert environment_of.load(stack.environment(GIVEN)) == GIVEN


def test_servers_that_are_named_are_not_started(tmp_path: Path) -> None:
    composed = stack.compose(GIVEN, workers=2, port=None, data_dir=tmp_path)
    assert [child.name for child in composed.children] == ["upgrade", "worker-1", "worker-2", "beat", "web"]
    assert not list(tmp_path.iterdir())
    composed.held.close()


def test_a_stack_on_loopback_authenticates_nobody_unless_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORCHESTRATOR_AUTH", raising=False)
    assert stack.with_local_auth(GIVEN).auth == "local"
    assert stack.with_local_auth(Settings(host="0.0.0.0")).auth == "jwt"
    monkeypatch.setenv("ORCHESTRATOR_AUTH", "jwt")
    assert stack.with_local_auth(GIVEN).auth == "jwt"


def test_a_port_that_was_asked_for_is_used_or_refused_but_never_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, ExitStack() as held:
        taken = other.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {taken} of 127.0.0.1 is taken: give another --port"):
            stack.hold_port(Settings(), taken, held)
        assert stack.hold_port(Settings(port=taken), None, held) != taken
    with ExitStack() as held:
        assert stack.hold_port(Settings(), taken, held) == taken


def test_two_stacks_that_start_together_do_not_get_the_same_port() -> None:
    with ExitStack() as held:
        first = stack.hold_port(Settings(port=free_port()), None, held)
        assert stack.hold_port(Settings(port=first), None, held) != first
        with pytest.raises(ServerError):
            stack.hold_port(Settings(), first, held)
    with ExitStack() as held:
        assert stack.hold_port(Settings(), first, held) == first
