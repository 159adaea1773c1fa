"""The keys that bearer tokens are verified with: one shared secret, or a JWKS document that is read again by itself.

The algorithm comes from the key, never from the token (RFC 8725, 3.1): a token that says otherwise, or `none`, opens
nothing.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import structlog
import urllib3
from jwt import PyJWK, PyJWTError

from orchestrator.errors import OrchestratorError, SettingsError

FRESH = 300.0  # seconds until the document is read again: so long may a withdrawn key still open
PAUSE = 10.0  # seconds at least between two readings, whatever keys the tokens name
STALE = 3600.0  # seconds that known keys last while the document cannot be read
PATIENCE = 1.0  # seconds to wait for another thread that is reading it
TIMEOUT = 5.0  # seconds for a connection, and for each answer
LARGEST = 262_144  # bytes of a document
SHORTEST_SECRET = 32  # bytes (RFC 7518, 3.2)

# By the key's type and curve; the first where the key names none. Symmetric keys have no place in a public document.
ALGORITHMS: Mapping[tuple[Any, Any], Sequence[str]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
PUBLIC = frozenset({"kty", "crv", "n", "e", "x", "y"})

log = structlog.get_logger(__name__)


class KeysUnavailable(OrchestratorError):
    """The keys that tokens are verified with cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Key:
    kid: str | None
    algorithm: str  # the one that it verifies
    material: PyJWK | bytes


class Keys(Protocol):
    def named(self, kid: str | None) -> Sequence[Key]:
        """The keys that may have signed a token with this `kid`. Raises KeysUnavailable."""


class SharedSecret:
    """HS256: whoever can verify can also sign, so it is for one installation that mints its own tokens."""

    def __init__(self, secret: str) -> None:
        """Raises SettingsError for a secret that can be guessed."""
        if len(secret.encode()) < SHORTEST_SECRET:
            raise SettingsError(
                f"ORCHESTRATOR_JWT_SECRET has fewer than {SHORTEST_SECRET} bytes: make one with `openssl rand -hex 32`"
            )
        self._key = Key(kid=None, algorithm="HS256", material=secret.encode())

    def named(self, kid: str | None) -> Sequence[Key]:  # noqa: ARG002  # there is but one
        return (self._key,)


class Jwks:
    """A JWKS document (RFC 7517), kept, and read again when it is old or a token names a key that is not in it."""

    def __init__(self, read: Callable[[], bytes], *, now: Callable[[], float] = time.monotonic) -> None:
        """`read` raises OSError, ValueError or urllib3's errors when it cannot; `now` in seconds."""
        self._read, self._now = read, now
        self._lock = threading.Lock()
        self._keys: tuple[Key, ...] = ()
        self._read_at = self._tried_at = float("-inf")

    def named(self, kid: str | None) -> Sequence[Key]:
        if self._now() - self._read_at > FRESH:
            self._refresh()
        found = self._known(kid)
        if not found:
            self._refresh()
            found = self._known(kid)
        if self._now() - self._read_at > STALE:
            raise KeysUnavailable("The keys of the identity provider cannot be read now; try again. The log says why.")
        return found

    def _known(self, kid: str | None) -> list[Key]:
        return [key for key in self._keys if kid is None or key.kid is None or key.kid == kid]

    def _refresh(self) -> None:
        """One thread reads; who has keys does not wait for it for long, and nobody asks too often."""
        if not self._lock.acquire(timeout=PATIENCE if self._keys else 2 * TIMEOUT):
            return
        try:
            if self._now() - self._tried_at < PAUSE:
                return
            self._tried_at = self._now()
            self._keys = parse(self._read())
            self._read_at = self._now()
        except (OSError, ValueError, RecursionError, urllib3.exceptions.HTTPError) as error:
            log.warning("the JWKS document cannot be read", error=str(error))
        finally:
            self._lock.release()


def parse(document: bytes) -> tuple[Key, ...]:
    """The keys of a JWKS document that can verify a signature. Raises ValueError for what is none, or has no such key."""
    told = json.loads(document)
    members = told.get("keys") if isinstance(told, dict) else None
    if not isinstance(members, list):
        raise ValueError('the document is no JWKS: {"keys": […]} is expected')  # noqa: TRY004  # it is a text that is wrong
    found = tuple(key for one in members if isinstance(one, dict) and (key := _key(one)) is not None)
    if not found:
        raise ValueError("the document has no RSA, EC or Ed25519 key for signatures")
    return found


def _key(told: Mapping[str, Any]) -> Key | None:
    allowed = ALGORITHMS.get((told.get("kty"), told.get("crv")), ())
    algorithm = told.get("alg", allowed[0] if allowed else None)
    kid = told.get("kid")
    if algorithm not in allowed or told.get("use", "sig") != "sig" or not isinstance(kid, str | None):
        return None
    try:
        # Only what is public: a document that shows a private key shall not make us hold one.
        material = PyJWK({name: value for name, value in told.items() if name in PUBLIC}, algorithm=algorithm)
    except (PyJWTError, ValueError, TypeError) as error:
        log.warning("a key of the JWKS document cannot be used", kid=kid, error=str(error))
        return None
    return Key(kid=kid, algorithm=str(algorithm), material=material)


def jwks(place: str) -> Jwks:
    """The document at a path or an https URL. Raises SettingsError for a file that cannot be used, or another URL."""
    if "://" in place:
        return Jwks(_url(place))
    path = Path(place)
    try:
        parse(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"ORCHESTRATOR_JWKS={place}: {error}") from error
    return Jwks(path.read_bytes)


def _url(url: str) -> Callable[[], bytes]:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")):
        raise SettingsError(
            f"ORCHESTRATOR_JWKS={url}: keys are fetched by https, for whoever can change them on the way is let in"
        )
    pool = urllib3.PoolManager(num_pools=1, timeout=urllib3.Timeout(connect=TIMEOUT, read=TIMEOUT), retries=False)

    def read() -> bytes:
        answer = pool.request("GET", url, redirect=False, preload_content=False, headers={"Accept": "application/json"})
        try:
            if answer.status != 200:
                raise ValueError(f"{url} answers {answer.status}")
            document = answer.read(LARGEST + 1)
        finally:
            answer.close()  # whatever is left of it is not read
        if len(document) > LARGEST:
            raise ValueError(f"{url} answers with more than {LARGEST} bytes")
        return document

    return read
