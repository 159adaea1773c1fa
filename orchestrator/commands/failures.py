"""Errors as a person at the console is told them: one line that names the mend, and an exit code."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from orchestrator.errors import BadRequest, Invalid, OrchestratorError, SettingsError, TooLarge

FAILED, WRONG_USE = 1, 2
NOT_UPGRADED = ("42P01", "42703")  # SQLSTATE undefined_table, undefined_column


@dataclass(frozen=True, kw_only=True)
class Failure:
    text: str
    code: int


def explain(error: Exception) -> Failure:
    """What to print and how to exit, whatever was raised."""
    if isinstance(error, Invalid):
        return Failure(text="\n".join(f"error: {problem}" for problem in error.problems), code=WRONG_USE)
    if isinstance(error, OrchestratorError):
        code = WRONG_USE if isinstance(error, BadRequest | TooLarge | SettingsError) else FAILED
        return Failure(text=f"error: {error}", code=code)
    return Failure(text=f"error: {_of_database(error) or _of_broker(error) or _unexpected(error)}", code=FAILED)


def _of_database(error: Exception) -> str | None:
    """Only where SQLAlchemy is loaded already can an error be one of its own."""
    if "sqlalchemy" not in sys.modules:
        return None
    from sqlalchemy import exc

    if isinstance(error, exc.ArgumentError):
        return "ORCHESTRATOR_DATABASE_URL is not a database's address, such as postgresql://user:password@host/name"
    if not isinstance(error, exc.DBAPIError):
        return None
    if getattr(error.orig, "sqlstate", None) in NOT_UPGRADED:
        return "the database has no tables of ours, or old ones: run `orchestrator db upgrade`"
    if isinstance(error, exc.OperationalError):
        return f"the database does not answer; see ORCHESTRATOR_DATABASE_URL: {_first_line(error.orig)}"
    return f"the database refuses: {_first_line(error.orig)}"


def _of_broker(error: Exception) -> str | None:
    if "kombu" not in sys.modules:
        return None
    from kombu.exceptions import OperationalError

    if isinstance(error, OperationalError):
        return f"the broker does not answer; see ORCHESTRATOR_BROKER_URL: {_first_line(error)}"
    return None


def _unexpected(error: Exception) -> str:
    return f"unexpected {type(error).__name__}: {_first_line(error)} (`orchestrator --traceback …` shows where)"


def _first_line(error: object) -> str:
    return str(error).strip().split("\n")[0]
