"""The keys of bearer tokens: read when they are needed, and no more often than they may be."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api import keys
from orchestrator.api.keys import FRESH, PAUSE, STALE, Jwks, KeysUnavailable, SharedSecret, jwks, parse
from orchestrator.errors import SettingsError
from tests.tokens import document, ec_signer, ed_signer, rsa_signer

ONE, TWO = ec_signer("one"), ec_signer("two")


class Source:
    """A document that changes, and a clock; counts how often it is read."""

    def __init__(self, content: bytes) -> None:
        self.content: bytes | None = content
        self.readings = 0
        self.time = 1000.0

    def read(self) -> bytes:
        self.readings += 1
        if self.content is None:
            raise OSError("nobody answers")
        return self.content

    def keys(self) -> Jwks:
        return Jwks(self.read, now=lambda: self.time)


def kids(found: Any) -> list[str]:
    return [key.kid for key in found]


def test_a_document_is_read_once_and_kept() -> None:
    source = Source(document(ONE, TWO))
    known = source.keys()
    assert kids(known.named("one")) == ["one"]
    assert kids(known.named("two")) == ["two"]
    assert source.readings == 1


def test_a_token_without_a_kid_may_be_of_any_key() -> None:
    assert kids(Source(document(ONE, TWO)).keys().named(None)) == ["one", "two"]


def test_an_unknown_kid_makes_the_document_be_read_again_but_not_for_every_token() -> None:
    source = Source(document(ONE))
    known = source.keys()
    assert kids(known.named("one")) == ["one"]
    source.content = document(TWO)
    assert known.named("two") == []  # it was read a moment ago
    source.time += PAUSE
    assert kids(known.named("two")) == ["two"]
    for n in range(100):
        assert known.named(f"forged-{n}") == []
    assert source.readings == 2


def test_a_withdrawn_key_is_forgotten_when_the_document_has_become_old() -> None:
    source = Source(document(ONE, TWO))
    known = source.keys()
    known.named("one")
    source.content = document(TWO)
    assert kids(known.named("one")) == ["one"]
    source.time += FRESH + 1
    assert known.named("one") == []


def test_known_keys_outlast_a_provider_that_is_away_but_not_for_ever() -> None:
    source = Source(document(ONE))
    known = source.keys()
    known.named("one")
    source.content = None
    source.time += STALE - 1
    assert kids(known.named("one")) == ["one"]
    source.time += 2
    with pytest.raises(KeysUnavailable):
        known.named("one")


def test_keys_that_could_never_be_read_are_unavailable_and_not_unknown() -> None:
    source = Source(b"")
    known = source.keys()
    for _ in range(10):
        with pytest.raises(KeysUnavailable):
            known.named("one")
    assert source.readings == 1
    source.content = document(ONE)
    source.time += PAUSE
    assert kids(known.named("one")) == ["one"]


def test_a_document_that_has_gone_bad_does_not_replace_a_good_one() -> None:
    source = Source(document(ONE))
    known = source.keys()
    known.named("one")
    source.content = b'{"keys": []}'
    source.time += FRESH + 1
    assert kids(known.named("one")) == ["one"]


@pytest.mark.parametrize("signer", [rsa_signer(), ec_signer(), ed_signer()], ids=lambda signer: signer.algorithm)
def test_a_key_verifies_one_algorithm(signer: Any) -> None:
    unnamed = {name: value for name, value in signer.jwk.items() if name != "alg"}
    (key,) = parse(json.dumps({"keys": [unnamed]}).encode())
    assert key.algorithm == signer.algorithm


@pytest.mark.parametrize(
    "changed",
    [
        {"use": "enc"},
        {"alg": "HS256"},  # the public key as a shared secret
        {"alg": "none"},
        {"alg": "ES384"},  # another curve's
        {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "crv": None},
        {"x": "!"},
        {"kid": 7},
    ],
    ids=str,
)
def test_a_key_that_is_for_something_else_is_left_out(changed: dict[str, Any]) -> None:
    told = {"keys": [{**ONE.jwk, **changed}, TWO.jwk]}
    assert kids(parse(json.dumps(told).encode())) == ["two"]


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": []}', b'{"keys": [1, {}]}', b"\xff"])
def test_what_has_no_keys_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(text)


def test_a_file_is_looked_at_when_the_server_starts(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    with pytest.raises(SettingsError, match="ORCHESTRATOR_JWKS"):
        jwks(str(file))
    file.write_bytes(document(ONE))
    assert kids(jwks(str(file)).named("one")) == ["one"]


@pytest.mark.parametrize(
    "url", ["http://id.city.example/jwks", "http://10.0.0.1/", "ftp://127.0.0.1/", "file:///etc/jwks"]
)
def test_keys_are_not_fetched_over_a_way_on_which_they_could_be_changed(url: str) -> None:
    with pytest.raises(SettingsError, match="https"):
        jwks(url)


@pytest.mark.parametrize("secret", ["", "short", "x" * 31])
def test_a_shared_secret_that_could_be_guessed_is_refused(secret: str) -> None:
    with pytest.raises(SettingsError, match="32 bytes"):
        SharedSecret(secret)


@pytest.fixture
def provider() -> Iterator[dict[str, tuple[int, bytes]]]:
    """What a provider on loopback answers, by path; its address is under `url`."""
    answers: dict[str, Any] = {}

    class Provider(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[self.path]
            self.send_response(status)
            self.send_header("Location", "/jwks")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    answers["url"] = f"http://127.0.0.1:{server.server_port}"
    yield answers
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_document_is_fetched_from_its_address(provider: dict[str, Any]) -> None:
    provider["/jwks"] = (200, document(ONE))
    assert kids(jwks(f"{provider['url']}/jwks").named("one")) == ["one"]


@pytest.mark.parametrize(
    ("status", "body"),
    [(302, b""), (500, document(ONE)), (200, b'{"keys": [' + b" " * keys.LARGEST + b"]}"), (200, b"<html>")],
    ids=["elsewhere", "failing", "huge", "no JSON"],
)
def test_an_answer_that_is_no_document_gives_no_keys(provider: dict[str, Any], status: int, body: bytes) -> None:
    provider["/moved"] = (status, body)
    provider["/jwks"] = (200, document(ONE))
    with pytest.raises(KeysUnavailable):
        jwks(f"{provider['url']}/moved").named("one")
