"""Every call has its scope: in the table, in the answer of who lacks it, and in the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from orchestrator.api.app import create_app
from orchestrator.api.auth import SCOPES
from orchestrator.api.scopes import NEEDED, OPEN
from orchestrator.settings import Settings
from orchestrator.system import System
from tests import flights
from tests.tokens import ISSUER, document, ec_signer

pytestmark = pytest.mark.integration

SIGNER = ec_signer()
DOCS = Path(__file__).parents[2] / "docs" / "reference" / "rest.md"


@pytest.fixture
def system(settings: Settings, tmp_path: Path) -> Iterator[System]:
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(document(SIGNER))
    found = flights.compose(replace(settings, auth="jwt", jwks=str(jwks), jwt_issuer=ISSUER))
    yield found
    found.close()


@pytest.fixture
def app(system: System) -> Flask:
    return create_app(system)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def rules(app: Flask) -> list[Rule]:
    return list(app.url_map.iter_rules())


def ask(client: FlaskClient, rule: Rule, **headers: str) -> Any:
    """A call of this route, with something in each of its places; the body is none that anybody could read."""
    path = re.sub(r"<[^>]*\bany\(([^,)]+)[^>]*>", r"\1", rule.rule)
    path = re.sub(r"<[^>]+>", "0" * 32, path)
    method = next(iter(sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})))
    return client.open(path, method=method, headers={"Accept": "application/json", **headers})


def test_every_route_has_a_scope_or_is_known_to_be_open(app: Flask) -> None:
    routes = {rule.endpoint for rule in rules(app)}
    assert sorted(routes - OPEN - set(NEEDED)) == [], "give it its scope in orchestrator/api/scopes.py"
    assert sorted((OPEN | set(NEEDED)) - routes) == [], "there is no such route any more"
    assert OPEN.isdisjoint(NEEDED)
    assert set(NEEDED.values()) <= SCOPES


def test_without_a_token_every_call_asks_for_one_before_it_is_read(app: Flask, client: FlaskClient) -> None:
    for rule in rules(app):
        if rule.endpoint not in OPEN:
            answer = ask(client, rule)
            assert answer.status_code == 401, rule
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="orchestrator"', rule
            assert answer.content_type == "application/problem+json", rule


def test_a_token_without_the_scope_is_told_which_before_its_call_is_read(app: Flask, client: FlaskClient) -> None:
    for rule in rules(app):
        if rule.endpoint in OPEN:
            continue
        scope = NEEDED[rule.endpoint]
        others = SIGNER.token(scope=" ".join(SCOPES - {scope}))
        answer = ask(client, rule, Authorization=f"Bearer {others}")
        assert (answer.status_code, answer.get_json()["scope"]) == (403, scope), rule
        assert f'error="insufficient_scope", scope="{scope}"' in answer.headers["WWW-Authenticate"], rule


def test_with_the_scope_nobody_is_refused(app: Flask, client: FlaskClient) -> None:
    for rule in rules(app):
        if rule.endpoint not in OPEN and rule.endpoint != "ui.events":  # which does not end
            token = SIGNER.token(scope=NEEDED[rule.endpoint])
            answer = ask(client, rule, Authorization=f"Bearer {token}")
            assert answer.status_code not in (401, 403, 500), f"{rule}: {answer.text}"


def test_what_is_open_is_answered_to_anybody(app: Flask, client: FlaskClient) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json", "/ui/sign-in"):
        assert client.get(path).status_code == 200, path


def test_the_documentation_has_every_scope() -> None:
    text = DOCS.read_text()
    table = text[text.index("| scope | calls |") :]
    assert {scope for scope in SCOPES if f"| `{scope}` |" not in table} == set()
