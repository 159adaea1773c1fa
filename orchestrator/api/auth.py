"""Who asks: a request becomes a principal, whose tenant and scopes every route uses."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Protocol, cast
from urllib.parse import SplitResult, urlsplit

from flask import Request, current_app, g, request

from orchestrator.errors import OrchestratorError, SettingsError
from orchestrator.settings import Settings

SCOPES = frozenset(
    {
        "workflows:start",
        "workflows:read",
        "workflows:operate",  # cancel, retry, suspend, resume, resolve
        "workflows:decide",  # answer a waiting step without its callback token
        "definitions:read",
        "definitions:write",
        "lanes:read",  # of all tenants together, as are these
        "lanes:operate",  # hold and release
        "metrics:read",
    }
)
READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Forbidden(OrchestratorError):
    """The caller may not do this."""

    def __init__(self, message: str | None = None, *, scope: str | None = None) -> None:
        super().__init__(message)
        self.scope = scope  # the one that is missing, where that is why


@dataclass(frozen=True, kw_only=True)
class Principal:
    tenant: str
    subject: str  # recorded as who decided or settled
    scopes: frozenset[str]


class Authenticator(Protocol):
    def authenticate(self, request: Request) -> Principal:
        """Raises Unauthorized (nobody known asks) or Forbidden (somebody who may not)."""


class LocalAuthenticator:
    """Everybody who reaches this server over loopback is the local user, with every scope.

    A web page open in the user's browser reaches it too, so that a request must also be
    addressed to this server by name (against DNS rebinding), and one that changes something
    must not come from another site's page (against request forgery).
    """

    def __init__(self, settings: Settings) -> None:
        if not is_loopback(settings.host):
            raise SettingsError(
                f"ORCHESTRATOR_AUTH=local makes everybody who connects the administrator, so it is refused on "
                f"ORCHESTRATOR_HOST={settings.host}: set ORCHESTRATOR_HOST=127.0.0.1"
            )
        self._public = urlsplit(settings.base_url)
        self._user = Principal(tenant=settings.tenant, subject="local", scopes=SCOPES)

    def authenticate(self, request: Request) -> Principal:
        if not is_loopback(request.remote_addr or ""):
            raise Forbidden("auth=local answers only clients on this machine; connect to it over 127.0.0.1.")
        if not self._is_ours(request.host):
            raise Forbidden(
                f"The Host header {request.host!r} is not this server's name: use 127.0.0.1 or localhost, "
                f"or set ORCHESTRATOR_PUBLIC_URL."
            )
        if request.method not in READING and is_foreign(request, self._public, unless_told=False):
            raise Forbidden("The request comes from another site's page; open this server's own /ui instead.")
        return self._user

    def _is_ours(self, host: str) -> bool:
        if host == self._public.netloc:
            return True
        return place_of(f"//{host}") is not None and is_loopback(urlsplit(f"//{host}").hostname or "")


def is_foreign(request: Request, public: SplitResult, *, unless_told: bool) -> bool:
    """Whether another site's page sends this. `unless_told`: the answer for a request that does not say where from."""
    # Our pages send `Referrer-Policy: no-referrer`, with which browsers send `Origin: null` even to
    # the same site; Sec-Fetch-Site, which no page can forge, is what tells the two apart.
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("Origin")
    if origin is None:
        return unless_told
    return place_of(origin) not in (request.host, public.netloc)


def place_of(url: str) -> str | None:
    """The host and port in an address that somebody else has written; none where it is no address."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return None


def authenticator(settings: Settings) -> Authenticator:
    """The one that the settings ask for. Raises SettingsError where it cannot be had."""
    if settings.auth == "local":
        return LocalAuthenticator(settings)
    from orchestrator.api.bearer import from_settings  # which knows principals

    return from_settings(settings)


def is_loopback(host: str) -> bool:
    """Whether this name or address can only mean the machine itself."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def principal() -> Principal:
    """Who asks; authenticated once a request. Raises Unauthorized or Forbidden."""
    if "principal" not in g:
        g.principal = cast("Authenticator", current_app.extensions["authenticator"]).authenticate(request)
    return cast("Principal", g.principal)


def may(scope: str) -> bool:
    """Whether who asks has this scope, for a page that leaves out what would be refused; nobody known has none."""
    try:
        return scope in principal().scopes
    except OrchestratorError:
        return False


def caller(scope: str) -> Principal:
    """Who asks, known to have this scope. Raises Unauthorized, or Forbidden, naming the scope that is missing."""
    found = principal()
    if scope not in found.scopes:
        raise Forbidden(f"This needs the scope {scope}; ask an administrator to grant it.", scope=scope)
    return found


def decider(token: str | None) -> dict[str, Any]:
    """The arguments `token`, `tenant` and `by` of callbacks.decide: a callback token stands for itself."""
    if token is not None:
        return {"token": token, "tenant": None, "by": None}
    person = caller("workflows:decide")
    return {"token": None, "tenant": person.tenant, "by": person.subject}
