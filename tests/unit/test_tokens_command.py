"""`orchestrator token` makes what the web server of the same settings takes, and nothing else."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from orchestrator import settings
from orchestrator.api.auth import SCOPES, Principal
from orchestrator.api.bearer import from_settings
from orchestrator.commands.tokens import token
from orchestrator.errors import SettingsError

SECRET = "a secret that is long enough for everybody"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {"AUTH": "jwt", "JWT_SECRET": SECRET, "JWT_ISSUER": "us", "JWT_TENANT_CLAIM": "agency"}.items():
        monkeypatch.setenv(f"ORCHESTRATOR_{name}", value)
    return monkeypatch


def made(*arguments: str) -> Result:
    return CliRunner().invoke(token, [*arguments])


def test_the_server_takes_it(environment: pytest.MonkeyPatch) -> None:
    answer = made(
        "--tenant", "city-a", "--scope", "workflows:read workflows:start", "--scope", "metrics:read", "--subject", "me"
    )
    assert answer.exit_code == 0
    assert from_settings(settings.load()).verify(answer.output.strip()) == Principal(
        tenant="city-a", subject="me", scopes=frozenset({"workflows:read", "workflows:start", "metrics:read"})
    )


@pytest.mark.parametrize("scope", ["workflows:red", "workflows:read admin", " "])
def test_a_mistyped_scope_is_refused_with_those_there_are(environment: pytest.MonkeyPatch, scope: str) -> None:
    answer = made("--tenant", "city-a", "--scope", scope)
    assert answer.exit_code == 2
    assert all(name in answer.output.replace("\n", " ") for name in SCOPES)


def test_a_lifetime_is_a_duration(environment: pytest.MonkeyPatch) -> None:
    assert made("--tenant", "city-a", "--scope", "metrics:read", "--ttl", "soon").exit_code == 2


@pytest.mark.parametrize(("secret", "said"), [("", "not set"), ("short", "32 bytes")])
def test_without_a_good_secret_there_is_no_token(environment: pytest.MonkeyPatch, secret: str, said: str) -> None:
    environment.setenv("ORCHESTRATOR_JWT_SECRET", secret)
    refused = made("--tenant", "city-a", "--scope", "metrics:read").exception
    assert isinstance(refused, SettingsError)
    assert said in str(refused)
