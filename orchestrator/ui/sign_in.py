"""/ui/sign-in: a browser has no bearer token of its own, so it is given one to keep.

The token itself is the session: a cookie that no script can read and no other site can send, verified at every request
like any other token. Nothing is stored here, and a session ends when its token does.
"""

from __future__ import annotations

from flask import Blueprint, current_app, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from orchestrator.api.auth import Forbidden
from orchestrator.api.bearer import InvalidToken, JwtAuthenticator

LARGEST = 3800  # characters: browsers keep 4096 of a cookie, with its name and what it is for

routes = Blueprint("sign_in", __name__, template_folder="templates")


def signed_in() -> bool:
    """Whether there is a session that could be ended."""
    found = _authenticator()
    return found is not None and found.session(request) is not None


@routes.get("/ui/sign-in")
def page() -> str | Response:
    if _authenticator() is None:  # `local`: everybody is in
        return redirect(url_for("ui.instances"))
    return render_template("sign_in.html", wrong=None, following=following())


@routes.post("/ui/sign-in")
def sign_in() -> str | Response | tuple[str, int]:
    """Keep a token that counts here. Another site's page could sign somebody in as somebody else: it is refused."""
    doorkeeper = _known()
    token = request.form.get("token", "").strip().removeprefix("Bearer ").strip()
    try:
        doorkeeper.verify(_keepable(token))
    except InvalidToken as error:
        return render_template("sign_in.html", wrong=str(error), following=following()), 401
    answer = redirect(following(), 303)
    answer.set_cookie(doorkeeper.cookie, token, httponly=True, samesite="Strict", secure=doorkeeper.is_secure, path="/")
    return answer


@routes.post("/ui/sign-out")
def sign_out() -> Response:
    doorkeeper = _known()
    answer = redirect(url_for("sign_in.page"), 303)
    answer.delete_cookie(doorkeeper.cookie, httponly=True, samesite="Strict", secure=doorkeeper.is_secure, path="/")
    return answer


def following() -> str:
    """Where to go on: a page of ours, whatever the address says."""
    asked = request.values.get("next", "")
    ours = asked.startswith(("/ui", "/callbacks/")) and "\\" not in asked and asked.isprintable()
    return asked if ours and not asked.startswith("/ui/sign-") else url_for("ui.instances")


def _keepable(token: str) -> str:
    if len(token) > LARGEST:
        raise InvalidToken(f"The token has more than {LARGEST} characters, too many for a browser to keep.")
    return token


def _authenticator() -> JwtAuthenticator | None:
    found = current_app.extensions["authenticator"]
    return found if isinstance(found, JwtAuthenticator) else None


def _known() -> JwtAuthenticator:
    doorkeeper = _authenticator()
    if doorkeeper is None:
        raise Forbidden("Nobody signs in here: auth=local knows one user.")
    if doorkeeper.is_foreign(request):
        raise Forbidden("The request comes from another site's page; open this server's own /ui instead.")
    return doorkeeper
