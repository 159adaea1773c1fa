"""Every error that a user can meet. A class's docstring is its default message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class OrchestratorError(Exception):
    """The orchestrator could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").split("\n")[0])


class SettingsError(OrchestratorError):
    """A setting is missing or wrong."""


class ServerError(OrchestratorError):
    """An embedded server or a process of the stack cannot be started."""


class SchemaError(OrchestratorError):
    """This program and the database's schema do not fit each other."""


class NotFound(OrchestratorError):
    """There is nothing of that name here; check the id and the tenant."""


class BadRequest(OrchestratorError):
    """The request cannot be read; see the message for what is expected."""


class Unauthorized(OrchestratorError):
    """The token is wrong or missing."""


class TooLarge(OrchestratorError):
    """The body is larger than the limit."""


class Busy(OrchestratorError):
    """Too many ask for this at once; ask again in some seconds."""


class Gone(OrchestratorError):
    """This wait is over: its deadline has passed or it was escalated to somebody else."""


class Conflict(OrchestratorError):
    """The request does not fit the present state.

    `present` says what stands in its way: a state, or the decision that won.
    """

    def __init__(self, message: str | None = None, *, present: str | None = None) -> None:
        super().__init__(message)
        self.present = present


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong with a text, where it stands (1-based) and how to mend it."""

    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    hint: str | None = None

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} ({self.hint})" if self.hint else text


class Invalid(OrchestratorError):
    """A definition, a configuration or a payload has errors: `problems` lists all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class InvalidPayload(Invalid):
    """The payload does not fit the definition's `input` schema."""


class InvalidCompletion(Invalid):
    """An end may not be told there."""


class ExpressionError(OrchestratorError):
    """An expression could not be evaluated."""


class LostRace(OrchestratorError):
    """A row moved although its instance was locked: somebody writes states without the lock.

    The transaction is rolled back, so nothing is half done.
    """


Json = Any  # whatever json.loads returns; named so that signatures say what they carry
