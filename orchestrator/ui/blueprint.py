"""What every page shares: the blueprint, the words, who may do what, and the guard against other sites' forms."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, request, url_for

from orchestrator.api.auth import READING, Forbidden, may, place_of
from orchestrator.api.bodies import check_text
from orchestrator.api.context import system
from orchestrator.api.scopes import NEEDED
from orchestrator.ui import flash, words

ROWS = 50  # steps, transitions or log lines, so that a page stays small; the API has all of them
FORMS = 3  # of one page
LINKS = 12  # of one list beside something else

routes = Blueprint("ui", __name__, template_folder="templates", static_folder="static", static_url_path="/ui/static")


@routes.app_context_processor
def _shared() -> dict[str, Any]:
    return {"words": words, "ROWS": ROWS, "FORMS": FORMS, "LINKS": LINKS, "may": may, "heard": flash.heard}


@routes.app_template_test("open_to_caller")
def is_open(endpoint: str) -> bool:
    """Whether a link there leads anywhere for who looks at the page; to nobody known, what needs somebody known does not."""
    return may(NEEDED[endpoint])


@routes.before_request
def refuse_other_sites() -> None:
    """A form that another site's page sends carries the cookies of who looks at it, or comes over his loopback.

    `Sec-Fetch-Site` can be forged by no page; browsers without it name the origin, which is `null` where our own pages
    send no referrer, so that those are refused too.
    """
    if request.method in READING:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    known = (request.host, urlsplit(system().settings.base_url).netloc)
    if site not in (None, "same-origin", "none") or (site is None and origin and place_of(origin) not in known):
        raise Forbidden("The form comes from another site's page; open this server's own /ui instead.")
    for text in request.form.values():
        check_text(text)


def back(default: str) -> str:
    """Where a form came from, if that is a page of ours."""
    asked = request.form.get("back", "")
    if place_of(asked) is None:
        return default
    parts = urlsplit(asked)
    is_ours = not parts.scheme and not parts.netloc and (parts.path == "/ui" or parts.path.startswith("/ui/"))
    return asked if is_ours and "\\" not in asked and asked.isprintable() else default


def instance_page(instance_id: str) -> str:
    return url_for("ui.instance", instance_id=instance_id)
