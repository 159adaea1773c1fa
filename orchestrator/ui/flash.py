"""What came of a form, told once on the page that it leads to: a signed cookie, for nothing else is kept of who looks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from flask import after_this_request, g, redirect, request
from itsdangerous import BadData, URLSafeTimedSerializer
from werkzeug.wrappers import Response

from orchestrator.api.context import system
from orchestrator.tokens import Wait

COOKIE = "told"
SECONDS = 60  # after which it is old news
LONGEST = 1500  # characters: a cookie holds 4 kB
# A signature over a wait that no instance has is a key that every process of the installation can make anew.
KEY = Wait(trace="", step="told", phase="do", generation=0)


@dataclass(frozen=True, kw_only=True)
class Told:
    text: str
    mood: str = "good"  # good: done; bad: not done; wait: only in part


def leads_to(url: str, told: Told) -> Response:
    """Post, redirect, get: the page at `url` says what came of it."""
    cut = told.text if len(told.text) <= LONGEST else f"{told.text[:LONGEST]} …"
    value = _serializer().dumps(asdict(Told(text=cut, mood=told.mood)))
    response = redirect(url, 303)
    response.set_cookie(
        COOKIE, str(value), max_age=SECONDS, path="/", httponly=True, samesite="Strict", secure=request.is_secure
    )
    return response


def heard() -> Told | None:
    """What the form before this page has come to; said once, and not to a script that looks for changes."""
    value = request.cookies.get(COOKIE)
    if not value or "X-Live" in request.headers:
        return None
    if "told" not in g:
        g.told = _read(value)
        after_this_request(_forget)
    told: Told | None = g.told
    return told


def _read(value: str) -> Told | None:
    try:
        found: dict[str, Any] = _serializer().loads(value, max_age=SECONDS)
    except BadData:
        return None
    return Told(**found)


def _forget(response: Any) -> Any:
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="Strict", secure=request.is_secure)
    return response


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(system().tokens.make(KEY), salt=COOKIE)
