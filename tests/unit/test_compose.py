"""docker-compose.yml as far as it can be checked without Docker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from orchestrator.api.auth import authenticator
from orchestrator.api.bearer import JwtAuthenticator
from orchestrator.durations import seconds
from orchestrator.errors import SettingsError
from orchestrator.settings import PREFIX, Settings, load

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]


def test_the_whole_stack_is_there() -> None:
    assert set(SERVICES) == {"postgres", "rabbitmq", "upgrade", "worker", "beat", "web"}


@pytest.mark.parametrize("name", OURS)
def test_a_command_is_one_that_the_command_line_has(name: str) -> None:
    from orchestrator.cli import cli

    group: click.Command = cli
    for word in SERVICES[name]["command"]:
        assert isinstance(group, click.Group)
        group = group.commands[word]


@pytest.mark.parametrize("name", OURS)
def test_nobody_is_killed_before_he_has_had_his_time_to_stop(name: str) -> None:
    grace = seconds(SERVICES[name].get("stop_grace_period", "10s"))  # Docker's own default
    assert grace > Settings().stop_within or name in ("beat", "upgrade")


@pytest.mark.parametrize("name", OURS)
def test_the_environment_holds_settings_only(name: str) -> None:
    known = {PREFIX + field.upper() for field in Settings.__dataclass_fields__}
    assert set(SERVICES[name]["environment"]) <= known


@pytest.mark.parametrize("name", SERVICES)
def test_whatever_keeps_running_says_whether_it_is_well(name: str) -> None:
    assert "healthcheck" in SERVICES[name] or SERVICES[name]["restart"] == "no"


def test_a_health_check_of_ours_is_a_command_that_there_is() -> None:
    from orchestrator.cli import cli

    checks = [SERVICES[name]["healthcheck"]["test"] for name in OURS if "healthcheck" in SERVICES[name]]
    ours = [words[2:] for words in checks if words[:2] == ["CMD", "orchestrator"]]
    assert ours
    for name, *options in ours:
        cli.commands[name].make_context(name, options)  # raises for an option that it does not have


def test_ports_are_published_on_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_no_password_stands_in_the_file() -> None:
    secrets = re.findall(r"(?:PASSWORD|PASS|SECRET): (.*)", (ROOT / "docker-compose.yml").read_text())
    assert secrets
    assert all(secret.startswith("${") for secret in secrets)


def settings_of(service: str, given: dict[str, str]) -> Settings:
    """What a service reads, with these variables where compose is run. The unset ones are empty, as compose leaves them."""
    found = {}
    for name, value in SERVICES[service]["environment"].items():
        found[name] = re.sub(
            r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}", lambda one: given.get(one[1]) or one[2] or "", str(value)
        )
    return load(found)


@pytest.mark.parametrize(
    "given",
    [{"JWT_SECRET": "x" * 32}, {"JWKS": "https://id.example/jwks", "JWT_ISSUER": "https://id.example/"}],
    ids=["own secret", "identity provider"],
)
def test_the_web_server_can_authenticate_whoever_the_outside_sends(given: dict[str, str]) -> None:
    found = settings_of("web", given)
    assert (found.auth, found.host) == ("jwt", "0.0.0.0")
    assert isinstance(authenticator(found), JwtAuthenticator)


def test_without_keys_the_web_server_says_what_to_set() -> None:
    with pytest.raises(SettingsError, match="ORCHESTRATOR_JWKS"):
        authenticator(settings_of("web", {}))
