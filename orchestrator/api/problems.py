"""Errors as RFC 9457 problem documents; as pages for a browser that looks at /ui."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from http import HTTPStatus
from traceback import format_exception
from typing import Any
from uuid import uuid4

import structlog
from flask import Flask, Response, render_template, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as NotFoundHere

from orchestrator.api import models
from orchestrator.api.auth import Forbidden
from orchestrator.api.bearer import InvalidToken
from orchestrator.api.keys import KeysUnavailable
from orchestrator.errors import (
    BadRequest,
    Busy,
    Conflict,
    Gone,
    Invalid,
    InvalidCompletion,
    InvalidPayload,
    NotFound,
    OrchestratorError,
    TooLarge,
    Unauthorized,
)
from orchestrator.store.database import is_away, told

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "5"  # seconds

# First match wins: a subclass stands before its base.
KINDS: tuple[tuple[type[OrchestratorError], int, str, str], ...] = (
    (NotFound, 404, "not-found", "Not found"),
    (BadRequest, 400, "bad-request", "The request cannot be read"),
    (Unauthorized, 401, "unauthorized", "Not authenticated"),
    (Forbidden, 403, "forbidden", "Not allowed"),
    (KeysUnavailable, 503, "keys-unavailable", "Nobody can be authenticated now"),
    (TooLarge, 413, "too-large", "Too large"),
    (Busy, 503, "busy", "Too many wait"),
    (Gone, 410, "gone", "No longer waiting"),
    (Conflict, 409, "conflict", "Does not fit the present state"),
    (InvalidPayload, 422, "invalid-payload", "The payload does not fit the workflow"),
    (InvalidCompletion, 422, "invalid-completion", "The end may not be told there"),
    (Invalid, 422, "invalid", "The definition has errors"),
)
# For pydantic's kinds of fault whose own text speaks of Python.
PLAIN = {
    "missing": "is missing",
    "extra_forbidden": "is unknown here",
    "dict_type": "must be a JSON object, {…}",
    "int_parsing": "must be a whole number",
}


@dataclass(frozen=True, kw_only=True)
class ProblemDocument:
    status: int
    kind: str  # the end of `type`
    title: str
    detail: str
    members: Mapping[str, Any] = field(default_factory=dict)  # beside RFC 9457's own
    headers: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        kind = f"urn:flight-orchestrator:problem:{self.kind}"
        return {"type": kind, "title": self.title, "status": self.status, "detail": self.detail, **self.members}


def of(error: Exception) -> ProblemDocument:
    """What a caller may know about any error. An unexpected one shows an id to look up in the log, no more."""
    if isinstance(error, OrchestratorError):
        for kind, status, name, title in KINDS:
            if isinstance(error, kind):
                return ProblemDocument(
                    status=status,
                    kind=name,
                    title=title,
                    detail=str(error),
                    members=_members(error),
                    headers=_headers(error),
                )
    if isinstance(error, HTTPException):
        return _of_http(error)
    if is_away(error):
        return _database_down(error)
    return _unexpected(error)


def _members(error: OrchestratorError) -> dict[str, Any]:
    if isinstance(error, Conflict):
        return {"present": error.present}
    if isinstance(error, Forbidden) and error.scope:
        return {"scope": error.scope}
    if isinstance(error, Invalid):
        return {
            "errors": [
                {"message": one.message, "line": one.line, "column": one.column, "hint": one.hint}
                for one in error.problems
            ]
        }
    return {}


def _headers(error: OrchestratorError) -> dict[str, str]:
    """WWW-Authenticate: RFC 6750, section 3."""
    if isinstance(error, Busy | KeysUnavailable):
        return {"Retry-After": RETRY_AFTER}
    if isinstance(error, InvalidToken):
        return {"WWW-Authenticate": 'Bearer realm="orchestrator", error="invalid_token"'}
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": 'Bearer realm="orchestrator"'}
    if isinstance(error, Forbidden) and error.scope:
        return {"WWW-Authenticate": f'Bearer realm="orchestrator", error="insufficient_scope", scope="{error.scope}"'}
    return {}


def _of_http(error: HTTPException) -> ProblemDocument:
    status = error.code or 500
    phrase = HTTPStatus(status).phrase
    headers = {
        name: value
        for name, value in error.get_headers(request.environ)
        if name.lower() not in ("content-type", "content-length")
    }
    return ProblemDocument(
        status=status,
        kind=phrase.lower().replace(" ", "-"),
        title=phrase,
        detail=_detail(error) or phrase,
        headers=headers,
    )


def _detail(error: HTTPException) -> str | None:
    """werkzeug's own texts of these two speak to somebody who types addresses."""
    if isinstance(error, NotFoundHere):
        return f"There is nothing at {request.path}; /openapi.json names every call, /ui has the pages."
    if isinstance(error, MethodNotAllowed):
        return f"{request.method} is not for {request.path}: use {', '.join(sorted(_told(error)))}."
    return error.description


def _told(error: MethodNotAllowed) -> set[str]:
    return set(error.valid_methods or ()) - {"HEAD", "OPTIONS"}


def _database_down(error: Exception) -> ProblemDocument:
    log.error("the database does not answer", error=told(error))
    return ProblemDocument(
        status=503,
        kind="database-unavailable",
        title="The database does not answer",
        detail="Nothing was changed, or it was changed whole: repeat the request with the same Idempotency-Key.",
        headers={"Retry-After": RETRY_AFTER},
    )


def _unexpected(error: Exception) -> ProblemDocument:
    reference = uuid4().hex
    # Formatted here: a renderer that shows local variables would write secrets and payloads into the log.
    log.error("a request failed unexpectedly", reference=reference, exception="".join(format_exception(error)))
    return ProblemDocument(
        status=500,
        kind="internal",
        title="The server failed",
        detail=f"This is a defect of the server; its log tells more under reference {reference}.",
        members={"instance": f"urn:uuid:{reference}"},
    )


def unreadable(error: ValidationError) -> Response:
    """A body, query or header of the wrong shape: 400, each fault with its path and without its value."""
    faults = [
        {"message": _fault(one), "line": None, "column": None, "hint": _near(one, error.title)}
        for one in error.errors(include_input=False)
    ]
    return respond(
        ProblemDocument(
            status=400,
            kind="bad-request",
            title="The request cannot be read",
            detail="; ".join(
                f"{one['message']} ({one['hint']})" if one["hint"] else str(one["message"]) for one in faults
            ),
            members={"errors": faults},
        )
    )


def _fault(one: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in one["loc"]) or "body"
    return f"{where}: {PLAIN.get(one['type']) or one['msg'].replace('Input should be', 'must be')}"


def _near(one: Mapping[str, Any], model: str) -> str | None:
    """For an unknown member: the one of this model that may have been meant."""
    known = getattr(models, model, BaseModel).model_fields.values()
    names = [field.alias for field in known if field.alias] if one["type"] == "extra_forbidden" else []
    near = get_close_matches(str(one["loc"][-1]), names, n=1)
    return f"did you mean `{near[0]}`?" if near else None


def respond(problem: ProblemDocument) -> Response:
    if is_page():
        response = Response(render_template("error.html", problem=problem), problem.status)
    else:
        response = Response(json.dumps(problem.as_json()), problem.status, content_type=MEDIA_TYPE)
    response.headers.extend(problem.headers)
    return response


def is_page() -> bool:
    """A person looks at /ui or follows a callback link; programs that call the same paths get JSON."""
    if not request.path.startswith(("/ui", "/callbacks/")):
        return False
    return request.accept_mimetypes.best_match([MEDIA_TYPE, "application/json", "text/html"]) == "text/html"


def register(app: Flask) -> None:
    app.register_error_handler(Exception, lambda error: respond(of(error)))
