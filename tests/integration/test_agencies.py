"""Two agencies on one installation, through HTTP, with tokens of an identity provider."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, text
from werkzeug.test import TestResponse

from orchestrator.api.app import create_app
from orchestrator.api.auth import SCOPES
from orchestrator.api.bearer import SESSION
from orchestrator.settings import Settings
from orchestrator.store import filters, instances
from orchestrator.system import System
from tests import flights
from tests.tokens import ISSUER, document, ec_signer

pytestmark = pytest.mark.integration

SIGNER = ec_signer()
PERMIT = """\
id: permit
title: A permit of {agency}
businessKey: payload.permitNo
steps:
  - id: decide
    pause: true
"""
ORDERS = ("cancel", "retry", "suspend", "resume")
SAME_SITE = {"Sec-Fetch-Site": "same-origin", "Accept": "text/html"}


@pytest.fixture
def system(settings: Settings, tmp_path: Path) -> Iterator[System]:
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(document(SIGNER))
    found = flights.compose(replace(settings, auth="jwt", jwks=str(jwks), jwt_issuer=ISSUER))
    yield found
    found.close()


@pytest.fixture
def app(system: System) -> Iterator[Flask]:
    with flights.worker(system):
        yield create_app(system)


@dataclass(frozen=True)
class Agency:
    """A client whose every call carries a token of one tenant."""

    client: FlaskClient
    name: str
    scopes: str = " ".join(sorted(SCOPES))
    person: str = "clerk"

    def call(self, method: str, path: str, **more: Any) -> TestResponse:
        token = SIGNER.token(tenant=self.name, sub=f"{self.person}@{self.name}", scope=self.scopes)
        return self.client.open(
            path, method=method, headers={"Authorization": f"Bearer {token}", **more.pop("headers", {})}, **more
        )

    def read(self, path: str) -> Any:
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    def start(self, key: str | None = None, **payload: Any) -> TestResponse:
        headers = {"Idempotency-Key": key} if key else {}
        body = {"workflowId": "permit", "payload": {"permitNo": "P-1", **payload}}
        return self.call("POST", "/api/workflows/start", json=body, headers=headers)

    def waiting(self) -> str:
        """An instance that waits for a decision."""
        started = self.start().get_json()["instanceId"]
        flights.until(lambda: self.read(f"/api/workflows/{started}/status")["status"] == "WAITING", "the wait")
        return str(started)


@pytest.fixture
def agencies(app: Flask) -> tuple[Agency, Agency]:
    """Each with a workflow of the same id."""
    found = Agency(app.test_client(), "city-a"), Agency(app.test_client(), "city-b")
    for agency in found:
        answer = agency.call("PUT", "/api/definitions/permit", data=PERMIT.format(agency=agency.name))
        assert (answer.status_code, answer.get_json()["version"]) == (201, 1)
    return found


def test_definitions_of_the_same_id_stand_side_by_side(agencies: tuple[Agency, Agency]) -> None:
    a, b = agencies
    assert (
        a.call("PUT", "/api/definitions/permit", data=PERMIT.format(agency="another city")).get_json()["version"] == 2
    )
    assert a.read("/api/definitions/permit")["versions"] == [1, 2]
    assert b.read("/api/definitions/permit")["versions"] == [1]
    assert "A permit of city-b" in b.read("/api/definitions/permit")["text"]
    assert [one["id"] for one in b.read("/api/definitions")["items"]] == ["permit"]
    assert b.call("GET", "/api/definitions/permit?version=2").status_code == 404


def test_each_lists_its_own(agencies: tuple[Agency, Agency]) -> None:
    a, b = agencies
    own = a.start().get_json()["instanceId"]
    other = b.start().get_json()["instanceId"]
    for query in ("", "?businessKey=P-1", "?workflowId=permit", f"?cursor={'f' * 32}"):
        assert [one["instanceId"] for one in a.read(f"/api/workflows{query}")["items"]] == [own]
        assert [one["instanceId"] for one in b.read(f"/api/workflows{query}")["items"]] == [other]


def test_an_idempotency_key_is_the_tenants_own(agencies: tuple[Agency, Agency]) -> None:
    a, b = agencies
    first = a.start("same key")
    assert (first.status_code, b.start("same key").status_code, a.start("same key").status_code) == (201, 201, 200)
    assert b.start("same key").get_json()["instanceId"] != first.get_json()["instanceId"]
    assert a.start("same key", other=True).status_code == 409


def test_another_tenants_instance_does_not_exist(agencies: tuple[Agency, Agency]) -> None:
    a, b = agencies
    theirs, nobodys = a.waiting(), "0" * 32
    before = a.read(f"/api/workflows/{theirs}/status")
    calls: list[tuple[str, str, Any]] = [
        ("GET", f"/api/workflows/{{}}/{what}", None) for what in ("status", "history", "logs")
    ]
    calls += [("POST", f"/api/workflows/{{}}/{order}", None) for order in ORDERS]
    calls += [("POST", "/api/workflows/{}/steps/decide/resolve", {"verdict": "retry"})]
    calls += [("POST", "/callbacks/{}/decide", {"decision": "approved"})]
    for method, path, body in calls:
        found, missing = (b.call(method, path.format(one), json=body) for one in (theirs, nobodys))
        assert found.status_code == missing.status_code == 404, path
        assert found.text.replace(theirs, nobodys) == missing.text, path
    assert a.read(f"/api/workflows/{theirs}/status") == before


def test_pages_show_no_other_tenant(agencies: tuple[Agency, Agency]) -> None:
    a, b = agencies
    theirs = a.waiting()
    page = {"headers": {"Accept": "text/html"}}
    for path in ("/ui", "/ui/instances", "/ui/inbox", "/ui/workflows", "/ui/lanes", "/ui/where?key=P-1"):
        answer = b.call("GET", path, **page)
        assert answer.status_code in (200, 302, 303), path
        assert theirs not in answer.text, path
        assert "city-a" not in answer.text, path
    for path in (
        f"/ui/instances/{theirs}",
        f"/ui/where/{theirs}",
        f"/ui/inbox/{theirs}/decide",
        f"/callbacks/{theirs}/decide",
    ):
        assert b.call("GET", path, **page).status_code == 404, path
        assert a.call("GET", path, **page).status_code == 200, path


def test_who_decided_is_who_the_token_names(agencies: tuple[Agency, Agency]) -> None:
    a, _ = agencies
    instance = a.waiting()
    assert a.call("POST", f"/callbacks/{instance}/decide", json={"decision": "approved"}).status_code == 200
    shown = flights.until(
        lambda: found if (found := a.read(f"/api/workflows/{instance}/status"))["ended"] else None, "the end"
    )
    assert shown["status"] == "COMPLETED"
    assert [one["decidedBy"] for one in shown["steps"]] == ["clerk@city-a"]


def test_a_callback_token_opens_its_own_wait_whoever_carries_it(agencies: tuple[Agency, Agency]) -> None:
    a, b = agencies
    first, second = a.waiting(), b.waiting()
    found = {step["step"]: step for step in a.read(f"/api/workflows/{first}/status")["steps"]}
    link = urlsplit(callback_url(a, first))
    assert found["decide"]["status"] == "WAITING"
    stolen = link.path.replace(first, second) + "?" + link.query
    anybody = a.client
    assert anybody.post(stolen, json={"decision": "approved"}).status_code == 401
    assert anybody.post(f"{link.path}?{link.query}", json={"decision": "approved"}).status_code == 200
    assert b.read(f"/api/workflows/{second}/status")["status"] == "WAITING"
    assert anybody.get(f"{link.path}?{link.query}", headers={"Accept": "text/html"}).status_code == 200


def callback_url(agency: Agency, instance: str) -> str:
    from flask import current_app

    from orchestrator.tokens import Wait

    with agency.client.application.app_context():
        system: System = current_app.extensions["system"]
        return system.tokens.url("http://localhost", Wait(trace=instance, step="decide", phase="do", generation=1))


def test_a_scope_that_is_missing_is_named(agencies: tuple[Agency, Agency]) -> None:
    a, _ = agencies
    reader = replace(a, scopes="workflows:read")
    instance = a.waiting()
    for path, scope in (
        ("/api/workflows/start", "workflows:start"),
        (f"/api/workflows/{instance}/cancel", "workflows:operate"),
        (f"/callbacks/{instance}/decide", "workflows:decide"),
    ):
        answer = reader.call("POST", path, json={})
        assert (answer.status_code, answer.get_json()["scope"]) == (403, scope)
    assert reader.read(f"/api/workflows/{instance}/status")["status"] == "WAITING"


def test_a_query_that_forgets_its_condition_leaks_nothing(
    agencies: tuple[Agency, Agency], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = agencies
    theirs = a.start().get_json()["instanceId"]
    own = b.start().get_json()["instanceId"]
    monkeypatch.setattr(
        instances, "FIND", text(instances.FIND.text.replace("tenant = :tenant AND", ":tenant <> '' AND"))
    )

    def everything(connection: Connection, _: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in connection.execute(text("SELECT * FROM instance")).mappings()]

    monkeypatch.setattr(filters, "listed", everything)
    assert b.call("GET", f"/api/workflows/{theirs}/status").status_code == 404
    assert b.call("GET", f"/api/workflows/{own}/status").status_code == 200
    assert [one["instanceId"] for one in b.read("/api/workflows")["items"]] == [own]


# Browsers


def sign_in(browser: FlaskClient, token: str, **more: Any) -> TestResponse:
    return browser.post("/ui/sign-in", data={"token": token, **more.pop("data", {})}, headers={**SAME_SITE, **more})


def test_a_browser_signs_in_decides_and_signs_out(agencies: tuple[Agency, Agency], app: Flask) -> None:
    a, _ = agencies
    instance = a.waiting()
    browser = app.test_client()
    sent = browser.get("/ui/instances?status=WAITING", headers={"Accept": "text/html"})
    assert (sent.status_code, sent.location) == (303, "/ui/sign-in?next=/ui/instances?status%3DWAITING")
    answer = sign_in(
        browser, SIGNER.token(sub="mary", scope="workflows:read workflows:decide"), data={"next": "/ui/instances"}
    )
    assert (answer.status_code, answer.location) == (303, "/ui/instances")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Sign out" in browser.get("/ui/instances", headers=SAME_SITE).text
    decision = {"decision": "approved"}
    path = f"/ui/inbox/{instance}/decide"
    assert browser.post(path, data=decision, headers={"Origin": "https://evil.example"}).status_code == 403
    assert browser.post(path, data=decision, headers=SAME_SITE).status_code == 303
    assert a.read(f"/api/workflows/{instance}/status")["steps"][0]["decidedBy"] == "mary"
    assert browser.post("/ui/sign-out", headers={"Origin": "https://evil.example"}).status_code == 403
    assert browser.post("/ui/sign-out", headers=SAME_SITE).status_code == 303
    assert browser.get("/ui/instances", headers={"Accept": "text/html"}).status_code == 303


def test_a_session_ends_when_its_token_does(agencies: tuple[Agency, Agency], app: Flask) -> None:
    browser = app.test_client()
    browser.set_cookie(SESSION, SIGNER.token(exp=1, scope="workflows:read"))
    assert browser.get("/ui/instances", headers={"Accept": "text/html"}).status_code == 303
    assert browser.get("/ui/instances", headers={"Accept": "application/json"}).status_code == 401


@pytest.mark.parametrize("token", ["", "no token", "x" * 5000])
def test_a_token_that_does_not_count_is_not_kept(app: Flask, token: str) -> None:
    answer = sign_in(app.test_client(), token)
    assert answer.status_code == 401
    assert "Set-Cookie" not in answer.headers
    assert "Not signed in" in answer.text
    assert token == "" or token not in answer.text


def test_another_site_cannot_sign_somebody_in(app: Flask) -> None:
    token = SIGNER.token(scope="workflows:read")
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {}):
        answer = app.test_client().post("/ui/sign-in", data={"token": token}, headers=headers)
        assert answer.status_code == 403
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "place",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/ui\\..",
        "javascript:alert(1)",
        "/ui/sign-out",
        "/ui\r\nX: y",
    ],
)
def test_signing_in_leads_to_pages_of_ours_only(app: Flask, place: str) -> None:
    answer = sign_in(app.test_client(), SIGNER.token(scope="workflows:read"), data={"next": place})
    assert (answer.status_code, answer.location) == (303, "/ui/instances")


def test_under_https_the_cookie_is_secure_and_bound_to_the_host(system: System) -> None:
    app = create_app(replace(system, settings=replace(system.settings, public_url="https://flights.example")))
    answer = sign_in(app.test_client(), SIGNER.token(scope="workflows:read"))
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"__Host-{SESSION}=")
    assert all(part in cookie for part in ("Secure", "HttpOnly", "Path=/", "SameSite=Strict"))
    assert "Domain" not in cookie
