"""Every error becomes one problem document, and tells nobody more than it should."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy.exc
import structlog.testing
from flask import Flask
from werkzeug.exceptions import MethodNotAllowed

from orchestrator import errors
from orchestrator.api import problems
from orchestrator.api.auth import Forbidden
from orchestrator.errors import (
    BadRequest,
    Conflict,
    Gone,
    Invalid,
    InvalidPayload,
    LostRace,
    NotFound,
    OrchestratorError,
    Problem,
    TooLarge,
    Unauthorized,
)

WRONG = Problem(message="unknown key `compensat`", line=3, column=5, hint="did you mean `compensate`?")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadRequest(), 400),
        (Unauthorized(), 401),
        (Forbidden(), 403),
        (NotFound(), 404),
        (Conflict(), 409),
        (Gone(), 410),
        (TooLarge(), 413),
        (Invalid([WRONG]), 422),
        (InvalidPayload([WRONG]), 422),
        (sqlalchemy.exc.OperationalError("select 1", {}, Exception("refused")), 503),
        (psycopg.OperationalError("refused"), 503),
        (LostRace(), 500),
        (RuntimeError(), 500),
    ],
)
def test_every_error_has_its_status(error: Exception, status: int) -> None:
    assert problems.of(error).status == status


def test_an_error_without_a_message_says_what_its_class_says() -> None:
    assert problems.of(Gone()).detail.startswith("This wait is over")


def test_a_problem_has_the_members_of_rfc_9457() -> None:
    document = problems.of(NotFound("No instance abc.")).as_json()
    assert document == {
        "type": "urn:flight-orchestrator:problem:not-found",
        "title": "Not found",
        "status": 404,
        "detail": "No instance abc.",
    }


def test_an_invalid_definition_lists_every_fault_with_its_place() -> None:
    document = problems.of(Invalid([WRONG, Problem(message="no steps")])).as_json()
    assert document["errors"] == [
        {"message": "unknown key `compensat`", "line": 3, "column": 5, "hint": "did you mean `compensate`?"},
        {"message": "no steps", "line": None, "column": None, "hint": None},
    ]


def test_an_invalid_payload_is_told_apart_from_an_invalid_definition() -> None:
    assert problems.of(InvalidPayload([WRONG])).kind != problems.of(Invalid([WRONG])).kind


def test_a_conflict_carries_what_stands_in_its_way() -> None:
    assert problems.of(Conflict("Already decided.", present="approved")).as_json()["present"] == "approved"


def test_a_missing_token_is_answered_with_the_scheme_to_use() -> None:
    assert problems.of(Unauthorized()).headers["WWW-Authenticate"].startswith("Bearer")


def test_a_database_that_is_down_asks_to_come_back_later() -> None:
    assert int(problems.of(psycopg.OperationalError("refused")).headers["Retry-After"]) > 0


def test_an_unexpected_error_shows_a_reference_that_the_log_has_and_nothing_else() -> None:
    secret = "postgresql://user:password@host/"
    with structlog.testing.capture_logs() as logged:
        document = problems.of(RuntimeError(secret)).as_json()
    assert secret not in str(document)
    assert document["instance"].endswith(logged[0]["reference"])
    assert secret in logged[0]["exception"]


def test_a_wrong_method_is_answered_with_those_allowed() -> None:
    with Flask(__name__).test_request_context("/"):
        found = problems.of(MethodNotAllowed(valid_methods=["GET", "HEAD"]))
    assert (found.status, found.headers["Allow"]) == (405, "GET, HEAD")


def test_every_error_that_a_user_can_meet_is_mapped_or_a_defect() -> None:
    mapped = tuple(kind for kind, *_ in problems.KINDS)
    every = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OrchestratorError)]
    unmapped = {kind.__name__ for kind in every if not issubclass(kind, mapped)} - {"OrchestratorError"}
    # Those of settings and servers are met on the command line, before anything is served.
    assert unmapped <= {"SettingsError", "ServerError", "SchemaError", "ExpressionError", "LostRace"}
