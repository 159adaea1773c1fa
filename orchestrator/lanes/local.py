"""Local lanes: an operation is a public function of the lane's module, `(Call) -> JSON`.

What such a module imports from here: `LATER`, `Rejected`, `Refused`. It runs in the worker's own
thread and cannot be interrupted: `Call.timeout` tells it how long it has, in seconds, and one that
takes longer loses its lease.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from orchestrator.lane import Call, Lane, Reply
from orchestrator.lanes import body

LocalOperation = Callable[[Call], Any]


class _Later:
    def __repr__(self) -> str:
        return "LATER"


LATER: Final = _Later()  # returned by an operation: the answer comes by callback


class Rejected(Exception):  # the outcome that it stands for
    """The lane will not do this, now or later: the step fails at once."""


class Refused(Exception):  # the outcome that it stands for
    """The lane did nothing and cannot now; `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def call(lane: Lane, call: Call) -> Reply:
    """One attempt. Never raises for what the lane's module does; what ends the process ends it."""
    try:
        function = find(lane, call.operation)
    except (LookupError, ImportError) as error:
        return Reply(outcome="rejected", error=str(error.args[0]))
    try:
        output = function(call)
    except Rejected as error:
        return Reply(outcome="rejected", error=_message(error))
    except Refused as error:
        return Reply(outcome="refused", error=_message(error), retry_after=body.wait(error.retry_after))
    # Anything may have been done before it was raised. `sys.exit` in a thread of ours ends nothing but the call.
    except BaseException as error:  # noqa: BLE001
        return Reply(outcome="uncertain", error=body.described(error))
    return _done(output)


def _message(error: Exception) -> str:
    return body.printable(str(error)) or type(error).__name__


def _done(output: Any) -> Reply:
    if output is LATER:
        return Reply(outcome="done", later=True)
    try:
        return Reply(outcome="done", output=body.written(output))
    except body.Unreadable as error:
        # Done, but nobody can say what came of it; the same code would answer the same again.
        return Reply(
            outcome="uncertain",
            may_retry=False,
            error=f"{error}; the operation was carried out: make it return plain JSON",
        )


def find(lane: Lane, name: str) -> LocalOperation:
    """The function behind an operation. Raises LookupError or ImportError saying what there is."""
    known = operations(importlib.import_module(lane.module or ""))
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else "it has " + (", ".join(sorted(known)) or "none")
    raise LookupError(f"lane `{lane.name}` has no operation `{name}` in module {lane.module}: {hint}")


def operations(module: ModuleType) -> Mapping[str, LocalOperation]:
    """A module's own public functions; what it merely imports is nobody's operation."""
    return {name: value for name, value in vars(module).items() if _is_operation(module, name, value)}


def _is_operation(module: ModuleType, name: str, value: Any) -> bool:
    if name.startswith("_") or isinstance(value, type) or not callable(value):
        return False
    own = getattr(value, "__module__", None) == module.__name__
    return own and not inspect.iscoroutinefunction(value)
