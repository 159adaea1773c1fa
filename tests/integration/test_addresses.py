"""What others write into addresses and headers: never a 500."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from orchestrator.api.app import create_app
from orchestrator.api.auth import SCOPES
from orchestrator.api.bearer import SESSION
from orchestrator.settings import Settings
from tests import flights
from tests.tokens import AUDIENCE, claims

pytestmark = pytest.mark.integration

SECRET = "0123456789abcdef" * 2
NO_ADDRESS = "http://["


@pytest.fixture
def client(settings: Settings) -> Iterator[FlaskClient]:
    import jwt

    system = flights.compose(replace(settings, auth="jwt", jwt_secret=SECRET, jwt_audience=AUDIENCE))
    client = create_app(system).test_client()
    token = jwt.encode(claims(tenant=flights.TENANT, scope=" ".join(SCOPES), iss=None), SECRET, algorithm="HS256")
    client.set_cookie(SESSION, token)
    yield client
    system.close()


@pytest.mark.parametrize("path", ["/ui/sign-in", "/ui/sign-out", "/ui/orders/confirmed", "/ui/callbacks/x/y"])
def test_a_form_from_no_address_is_refused(client: FlaskClient, path: str) -> None:
    assert client.post(path, headers={"Origin": NO_ADDRESS}).status_code == 403


def test_a_form_that_leads_back_to_no_address_leads_to_the_list(client: FlaskClient) -> None:
    answer = client.post(
        "/ui/orders", data={"order": "cancel", "back": "//["}, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert (answer.status_code, answer.location) == (303, "/ui/instances")


@pytest.mark.parametrize("version", ["99999999999999", "-1", "-99999999999999"])
def test_a_version_that_no_column_holds_is_not_found(client: FlaskClient, version: str) -> None:
    assert client.get(f"/ui/workflows/permit-renewal?version={version}").status_code == 404


@pytest.mark.parametrize("host", ["[", "[::1", "[x]", "127.0.0.1:["])
def test_a_host_that_is_no_address_is_not_ours(settings: Settings, host: str) -> None:
    system = flights.compose(replace(settings, auth="local"))
    answer = create_app(system).test_client().get("/api/workflows", headers={"Host": host})
    system.close()
    assert answer.status_code in (400, 403)
