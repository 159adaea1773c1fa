"""`local` lets in whoever is on this machine, and no web page of somebody else's."""

from __future__ import annotations

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from orchestrator.api.auth import SCOPES, Forbidden, LocalAuthenticator, authenticator, is_loopback
from orchestrator.errors import SettingsError
from orchestrator.settings import Settings


def ask(method: str = "POST", *, remote: str = "127.0.0.1", public_url: str | None = None, **headers: str) -> str:
    """The tenant of a request to http://127.0.0.1:8080 with these headers."""
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    builder = EnvironBuilder(
        method=method, base_url="http://127.0.0.1:8080/", headers=named, environ_base={"REMOTE_ADDR": remote}
    )
    local = LocalAuthenticator(Settings(auth="local", tenant="city", public_url=public_url))
    return local.authenticate(Request(builder.get_environ())).tenant


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"])
def test_loopback_is_known_by_all_its_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "", "127.0.0.1.example.org"])
def test_nothing_else_is_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_the_local_user_has_the_settings_tenant_and_every_scope() -> None:
    builder = EnvironBuilder(environ_base={"REMOTE_ADDR": "127.0.0.1"})
    found = authenticator(Settings(auth="local", tenant="city")).authenticate(Request(builder.get_environ()))
    assert (found.tenant, found.scopes) == ("city", SCOPES)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "orchestrator.example.org"])
def test_local_is_refused_where_others_can_connect(host: str) -> None:
    with pytest.raises(SettingsError, match=r"ORCHESTRATOR_HOST=127\.0\.0\.1"):
        authenticator(Settings(auth="local", host=host))


@pytest.mark.parametrize("remote", ["10.0.0.1", "::ffff:10.0.0.1", ""])
def test_a_client_on_another_machine_is_refused(remote: str) -> None:
    with pytest.raises(Forbidden):
        ask("GET", remote=remote)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_that_was_rebound_to_loopback_is_refused(method: str) -> None:
    with pytest.raises(Forbidden, match="Host"):
        ask(method, Host="evil.example:8080")


def test_the_public_name_is_one_of_ours() -> None:
    tenant = ask(Host="flights.example", Origin="https://flights.example", public_url="https://flights.example/")
    assert tenant == "city"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},  # another server on this machine
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site", "Origin": "http://127.0.0.1:9999"},
    ],
)
def test_another_sites_page_can_change_nothing(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden, match="another site"):
        ask("POST", **headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},  # curl, a service
        {"Origin": "http://127.0.0.1:8080"},
        {"Host": "localhost:8080", "Origin": "http://localhost:8080"},
        {"Sec_Fetch_Site": "same-origin", "Origin": "null"},  # our form, under `Referrer-Policy: no-referrer`
    ],
)
def test_our_own_pages_and_programs_may(headers: dict[str, str]) -> None:
    assert ask("POST", **headers) == "city"


def test_following_a_link_from_another_site_is_allowed() -> None:
    assert ask("GET", Sec_Fetch_Site="cross-site") == "city"
