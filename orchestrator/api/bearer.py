"""`jwt`: who asks is whom a signed token names: its tenant, its subject, its scopes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import jwt
from flask import Request

from orchestrator.api import keys
from orchestrator.api.auth import READING, SCOPES, Forbidden, Principal, is_foreign
from orchestrator.api.keys import Key, Keys
from orchestrator.errors import OrchestratorError, SettingsError, Unauthorized
from orchestrator.settings import Settings

LEEWAY = 10.0  # seconds that the identity provider's clock and this host's may be apart
LONGEST = 16_000  # characters of a token
LONGEST_NAME = 200  # characters of a tenant and of a subject
SESSION = "orchestrator_session"  # the cookie in which a browser keeps its token
# The cookie counts here only: programs that call the API send their token themselves, which no page can make them do.
PAGES = ("/ui", "/callbacks/")


class InvalidToken(Unauthorized):
    """The bearer token does not count here."""


class JwtAuthenticator:
    """`Authorization: Bearer …`, from the client or from a proxy before us; on pages also the session's cookie."""

    def __init__(self, settings: Settings, signers: Keys) -> None:
        self._settings = settings
        self._keys = signers
        self._public = urlsplit(settings.base_url)

    def authenticate(self, request: Request) -> Principal:
        sent = bearer(request)
        if sent is not None:
            return self.verify(sent)
        kept = self.session(request)
        if kept is None:
            raise Unauthorized(
                "This needs a token: send the header `Authorization: Bearer …`; people sign in at /ui/sign-in."
            )
        if request.method not in READING and self.is_foreign(request):
            raise Forbidden("The request comes from another site's page; open this server's own /ui instead.")
        return self.verify(kept)

    def session(self, request: Request) -> str | None:
        """The token that a browser has kept, where a cookie counts."""
        return request.cookies.get(self.cookie) if request.path.startswith(PAGES) else None

    @property
    def cookie(self) -> str:
        """Its name. Under https no other host of the domain can set it (`__Host-`)."""
        return f"__Host-{SESSION}" if self.is_secure else SESSION

    @property
    def is_secure(self) -> bool:
        return self._public.scheme == "https"

    def is_foreign(self, request: Request) -> bool:
        """Whether a form may have been sent by another site's page. Browsers that can keep us a cookie say where from."""
        return is_foreign(request, self._public, unless_told=True)

    def verify(self, token: str) -> Principal:
        """Raises InvalidToken, which says what is wrong with it, or KeysUnavailable."""
        claims = self._claims(token)
        tenant = _name(claims, self._settings.jwt_tenant_claim)
        return Principal(tenant=tenant, subject=_name(claims, "sub"), scopes=_scopes(claims))

    def _claims(self, token: str) -> Mapping[str, Any]:
        if len(token) > LONGEST:
            raise InvalidToken(f"The token has more than {LONGEST} characters.")
        wrong: OrchestratorError = InvalidToken("The token is not signed by a key that is known here.")
        for key in self._candidates(token):
            try:
                return self._decoded(token, key)
            except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
                continue  # another of several without a name may have signed it; a key that is too weak opens nothing
            except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
                wrong = self._told(error)
                break
        raise wrong

    def _candidates(self, token: str) -> Sequence[Key]:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise InvalidToken("The token cannot be read: it is no JWT.") from error
        return [key for key in self._keys.named(header.get("kid")) if key.algorithm == header.get("alg")]

    def _decoded(self, token: str, key: Key) -> Mapping[str, Any]:
        return jwt.decode(
            token, key.material, algorithms=[key.algorithm], leeway=LEEWAY,
            audience=self._settings.jwt_audience, issuer=self._settings.jwt_issuer,
            options={"require": ["exp", "sub", "aud", self._settings.jwt_tenant_claim], "enforce_minimum_key_length": True},
        )  # fmt: skip

    def _told(self, error: Exception) -> InvalidToken:
        match error:
            case jwt.ExpiredSignatureError():
                return InvalidToken("The token has expired: get a new one.")
            case jwt.ImmatureSignatureError():
                return InvalidToken("The token is not valid yet: do the clocks agree?")
            case jwt.InvalidAudienceError():
                return InvalidToken(f"The token is not for the audience {self._settings.jwt_audience!r}.")
            case jwt.InvalidIssuerError():
                return InvalidToken(f"The token's issuer is not {self._settings.jwt_issuer!r}.")
            case jwt.MissingRequiredClaimError():
                return InvalidToken(f"The token has no claim {error.claim!r}: have the identity provider add it.")
        return InvalidToken(f"The token does not count here: {error}.")


def bearer(request: Request) -> str | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _name(claims: Mapping[str, Any], claim: str) -> str:
    value = claims.get(claim)
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_NAME or not value.isprintable():
        raise InvalidToken(f"The token's claim {claim!r} is not a text of 1 to {LONGEST_NAME} characters.")
    return value


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """`scope` separated by spaces (RFC 8693), or `scp`, which some providers write, as a text or a list."""
    told: set[str] = set()
    for claim in (claims.get("scope"), claims.get("scp")):
        if isinstance(claim, str):
            told |= set(claim.split())
        elif isinstance(claim, list):
            told |= {one for one in claim if isinstance(one, str)}
    return SCOPES & told  # what other services grant is none of ours


def from_settings(settings: Settings) -> JwtAuthenticator:
    """Raises SettingsError where the settings name no keys, or would let in tokens that were made for others."""
    if settings.jwks and settings.jwt_secret:
        raise SettingsError("ORCHESTRATOR_JWKS and ORCHESTRATOR_JWT_SECRET exclude each other: unset one")
    if settings.jwt_secret:
        return JwtAuthenticator(settings, keys.SharedSecret(settings.jwt_secret))
    if not settings.jwks:
        raise SettingsError(
            "ORCHESTRATOR_AUTH=jwt needs the keys that tokens are signed with: set ORCHESTRATOR_JWKS to the identity "
            "provider's JWKS (a file or an https URL), or ORCHESTRATOR_JWT_SECRET; or set ORCHESTRATOR_AUTH=local, "
            "with ORCHESTRATOR_HOST=127.0.0.1"
        )
    if not settings.jwt_issuer:
        raise SettingsError("ORCHESTRATOR_JWKS needs ORCHESTRATOR_JWT_ISSUER: the `iss` of that provider's tokens")
    return JwtAuthenticator(settings, keys.jwks(settings.jwks))
