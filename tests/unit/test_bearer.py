"""`jwt` lets in whom a token names that is signed, meant for us and of this hour; nobody else."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from orchestrator.api.auth import SCOPES, Forbidden, Principal, authenticator
from orchestrator.api.bearer import LEEWAY, SESSION, InvalidToken, JwtAuthenticator
from orchestrator.api.keys import Jwks, SharedSecret
from orchestrator.errors import SettingsError, Unauthorized
from orchestrator.rows import CANARY
from orchestrator.settings import Settings
from tests.tokens import AUDIENCE, ISSUER, Signer, claims, document, ec_signer, ed_signer, rsa_signer

RSA, EC, ED = rsa_signer(), ec_signer(), ed_signer()
SECRET = "a secret that is long enough for everybody"
SETTINGS = Settings(jwt_issuer=ISSUER, public_url="https://flights.example")
DOORKEEPER = JwtAuthenticator(SETTINGS, Jwks(lambda: document(RSA, EC, ED)))


def verify(token: str, doorkeeper: JwtAuthenticator = DOORKEEPER) -> Principal:
    return doorkeeper.verify(token)


def ask(path: str = "/api/workflows", method: str = "GET", **headers: str) -> Principal:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    builder = EnvironBuilder(method=method, path=path, base_url="https://flights.example/", headers=named)
    return DOORKEEPER.authenticate(Request(builder.get_environ()))


@pytest.mark.parametrize("signer", [RSA, EC, ED], ids=lambda signer: signer.algorithm)
def test_each_kind_of_key_can_sign(signer: Signer) -> None:
    found = verify(signer.token(tenant="city-b", sub="mary", scope="workflows:read workflows:decide"))
    assert found == Principal(tenant="city-b", subject="mary", scopes=frozenset({"workflows:read", "workflows:decide"}))


def test_a_token_that_names_no_key_is_tried_with_all() -> None:
    assert verify(EC.token(headers={})).tenant == "city-a"


@pytest.mark.parametrize(
    ("granted", "expected"),
    [
        ({}, set()),
        ({"scope": "workflows:read"}, {"workflows:read"}),
        ({"scp": ["workflows:read", 7]}, {"workflows:read"}),
        ({"scp": "workflows:read workflows:start"}, {"workflows:read", "workflows:start"}),
        ({"scope": "workflows:read", "scp": ["workflows:start"]}, {"workflows:read", "workflows:start"}),
        ({"scope": "openid mail:send workflows:read"}, {"workflows:read"}),
        ({"scope": "workflows:* *"}, set()),
        ({"scope": {"workflows:read": True}}, set()),
    ],
)
def test_scopes_are_read_as_providers_write_them(granted: dict[str, Any], expected: set[str]) -> None:
    assert verify(EC.token(**granted)).scopes == expected
    assert expected <= SCOPES


NOW = int(time.time())
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"exp": NOW - 60}, "expired"),
    ({"exp": None}, "'exp'"),
    ({"exp": "tomorrow"}, "does not count"),
    ({"nbf": NOW + 600}, "not valid yet"),
    ({"iat": NOW + 600}, "not valid yet"),
    ({"aud": "another"}, "audience 'orchestrator'"),
    ({"aud": None}, "'aud'"),
    ({"iss": "https://evil.example"}, "issuer"),
    ({"iss": None}, "'iss'"),
    ({"sub": None}, "'sub'"),
    ({"tenant": None}, "'tenant'"),
    ({"tenant": ""}, "'tenant'"),
    ({"tenant": " "}, "'tenant'"),
    ({"tenant": ["city-a", "city-b"]}, "'tenant'"),
    ({"tenant": "city\x00a"}, "'tenant'"),
    ({"tenant": "x" * 201}, "'tenant'"),
    ({"sub": "x" * 201}, "'sub'"),
]


# The names hold no time: two processes have to collect the same ones.
@pytest.mark.parametrize(("changed", "said"), WRONG, ids=[f"{number}-{said}" for number, (_, said) in enumerate(WRONG)])
def test_a_token_that_is_not_for_us_or_not_of_now_is_refused_with_the_reason(
    changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidToken, match=said):
        verify(EC.token(**changed))


def test_clocks_may_be_apart_by_seconds() -> None:
    assert verify(EC.token(exp=int(time.time() - LEEWAY / 2), nbf=int(time.time() + LEEWAY / 2))).tenant == "city-a"


def test_the_audience_may_be_one_of_several() -> None:
    assert verify(EC.token(aud=["others", AUDIENCE])).tenant == "city-a"


def test_the_tenant_stands_in_the_claim_that_is_set() -> None:
    doorkeeper = JwtAuthenticator(
        Settings(jwt_issuer=ISSUER, jwt_tenant_claim="https://city.example/agency"), Jwks(lambda: document(EC))
    )
    named: dict[str, Any] = {"https://city.example/agency": "parks"}
    token = EC.token(tenant="city-a", **named)
    assert verify(token, doorkeeper).tenant == "parks"


def test_no_token_names_the_tenant_of_the_engines_own_instances() -> None:
    with pytest.raises(InvalidToken, match="is not a text"):
        verify(EC.token(tenant=CANARY))


def unsigned(header: dict[str, Any], body: dict[str, Any], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(body).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def signed_with_public_key() -> str:
    """The classic confusion: the public key, which everybody has, taken for an HMAC secret."""
    import hashlib
    import hmac

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = RSA.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    bare = unsigned({"alg": "HS256", "typ": "JWT", "kid": "rsa"}, claims()).rstrip(".")
    made = hmac.new(public, bare.encode(), hashlib.sha256).digest()
    return f"{bare}.{base64.urlsafe_b64encode(made).decode().rstrip('=')}"


@pytest.mark.parametrize(
    "token",
    [
        unsigned({"alg": "none"}, claims()),
        unsigned({"alg": "none", "kid": "ec"}, claims()),
        unsigned({"alg": "None", "kid": "ec"}, claims()),
        unsigned({"alg": "ES256", "kid": "ec"}, claims()),
        unsigned({"alg": "ES256", "kid": "ec"}, claims(), b"\x00" * 64),
        unsigned({"alg": ["ES256"], "kid": "ec"}, claims()),
        unsigned({"kid": "ec"}, claims()),
        signed_with_public_key(),
        ec_signer().token(),  # a stranger's key under a name of ours
        ec_signer("stranger").token(),
        EC.token(headers={"kid": "rsa"}),  # one of our keys under the other's name
        EC.token(headers={"kid": "ec", "crit": ["b64"], "b64": True}),
        jwt.encode(claims(), SECRET, algorithm="HS256", headers={"kid": "ec"}),
        EC.token()[:-6] + "AAAAAA",
        EC.token() + ".",
        "",
        "no token",
        "a.b.c",
        "é.é.é",
        "x" * 20_000,
        unsigned({"alg": "ES256", "kid": "ec", "jku": "https://evil.example/jwks"}, claims(), b"x"),
        unsigned({"alg": "ES256", "kid": 7}, claims()),
        base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.AAAA",
    ],
    ids=lambda token: token[:24],
)
def test_a_forged_token_opens_nothing(token: str) -> None:
    with pytest.raises(InvalidToken):
        verify(token)


def test_a_key_that_is_too_short_opens_nothing() -> None:
    weak = rsa_signer("weak", bits=1024)
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = weak.token()
    with pytest.raises(InvalidToken):
        verify(token, JwtAuthenticator(SETTINGS, Jwks(lambda: document(weak))))


def test_a_shared_secret_signs_one_algorithm() -> None:
    doorkeeper = JwtAuthenticator(Settings(), SharedSecret(SECRET))
    assert verify(jwt.encode(claims(), SECRET, algorithm="HS256"), doorkeeper).tenant == "city-a"
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        other = jwt.encode(claims(), SECRET, algorithm="HS512")
    with pytest.raises(InvalidToken):
        verify(other, doorkeeper)


# The request


def test_a_bearer_token_is_read_whatever_the_case_of_its_scheme() -> None:
    assert ask(Authorization=f"bearer {EC.token()}").tenant == "city-a"


@pytest.mark.parametrize("sent", [None, "Basic Y2l0eTpj", "Digest x"])
def test_who_sends_no_token_is_asked_for_one(sent: str | None) -> None:
    with pytest.raises(Unauthorized, match="Authorization: Bearer") as refused:
        ask(**({"Authorization": sent} if sent else {}))
    assert not isinstance(refused.value, InvalidToken)


def cookie(name: str = f"__Host-{SESSION}") -> str:
    return f"{name}={EC.token()}"


@pytest.mark.parametrize("path", ["/ui", "/ui/instances/1", "/callbacks/1/decide"])
def test_on_pages_the_sessions_cookie_counts(path: str) -> None:
    assert ask(path, Cookie=cookie()).tenant == "city-a"


def test_the_interface_for_programs_takes_no_cookie() -> None:
    with pytest.raises(Unauthorized):
        ask("/api/workflows", Cookie=cookie())


def test_under_https_a_cookie_that_another_host_may_have_set_does_not_count() -> None:
    with pytest.raises(Unauthorized):
        ask("/ui", Cookie=cookie(SESSION))


def test_a_header_goes_before_a_cookie() -> None:
    assert ask("/ui", Cookie=cookie(), Authorization=f"Bearer {EC.token(tenant='city-b')}").tenant == "city-b"
    with pytest.raises(InvalidToken):
        ask("/ui", Cookie=cookie(), Authorization="Bearer wrong")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
    ids=str,
)
def test_a_form_of_another_site_changes_nothing_in_a_session(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden, match="another site"):
        ask("/ui/instances/1/steps/2/decide", "POST", Cookie=cookie(), **headers)


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://flights.example"}, {"Sec_Fetch_Site": "same-origin", "Origin": "null"}]
)
def test_our_own_form_changes_something_in_a_session(headers: dict[str, str]) -> None:
    assert ask("/ui/instances/1/steps/2/decide", "POST", Cookie=cookie(), **headers).tenant == "city-a"


def test_a_program_that_sends_its_token_is_not_asked_where_it_comes_from() -> None:
    assert ask(method="POST", Authorization=f"Bearer {EC.token()}").tenant == "city-a"


# The settings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "ORCHESTRATOR_JWKS"),
        ({"jwks": "https://id.example/jwks"}, "ORCHESTRATOR_JWT_ISSUER"),
        ({"jwks": "https://id.example/jwks", "jwt_secret": SECRET, "jwt_issuer": ISSUER}, "exclude each other"),
        ({"jwt_secret": "short"}, "32 bytes"),
        ({"jwks": "http://id.example/jwks", "jwt_issuer": ISSUER}, "https"),
    ],
    ids=str,
)
def test_settings_that_would_let_in_the_wrong_ones_do_not_start(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        authenticator(Settings(auth="jwt", **given))


def test_a_secret_or_a_providers_keys_are_enough_on_any_address() -> None:
    authenticator(Settings(auth="jwt", host="0.0.0.0", jwt_secret=SECRET))
    authenticator(Settings(auth="jwt", host="0.0.0.0", jwks="https://id.example/jwks", jwt_issuer=ISSUER))
