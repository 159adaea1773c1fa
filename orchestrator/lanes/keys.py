"""What each key of a lane may hold. Every function raises ValueError saying what was expected."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from orchestrator import durations
from orchestrator.lanes import body, limits

LANE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
OPERATION_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
QUEUE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
MODULE_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
TEMPLATE = re.compile(r"(?:[A-Za-z0-9_.-]|\{operation\})+")  # of a task's or a topic's name
LONGEST_NAME = 200  # bytes; AMQP's routing keys have at most 255

Value = Callable[[Any], Any]  # raises ValueError saying what was expected


def near(given: Any, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(str(given), known, n=1)
    return f"did you mean `{near[0]}`?" if near else "known: " + ", ".join(known)


def _text_like(pattern: re.Pattern[str], expected: str) -> Value:
    def value_of(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(f"{value!r} is not {expected}")
        return value

    return value_of


def _duration(value: Any) -> float:
    return durations.seconds(value if isinstance(value, str) else repr(value))


def _idempotency(value: Any) -> str:
    known = ("key", "query", "safe", "none")
    if value not in known:
        raise ValueError(f"{value!r} is not one of them; {near(value, known)}")
    return str(value)


def _backup(value: Any) -> str:
    lane, dot, operation = value.partition(".") if isinstance(value, str) else ("", "", "")
    if not (dot and LANE_NAME.fullmatch(lane) and OPERATION_NAME.fullmatch(operation)):
        raise ValueError(f"{value!r} does not name a lane and its operation, such as zoningPortal.backup")
    return str(value)


def _module(value: Any) -> str:
    if not isinstance(value, str) or not MODULE_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not the full name of a Python module, such as tasks.file_svc")
    try:
        importlib.import_module(value)
    except Exception as error:  # a module may raise anything while it is imported
        raise ValueError(f"cannot import {value}: {body.described(error)}") from error
    return value


def _url(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{text!r} holds characters that a URL may not: quote them")
    at = urlsplit(text)
    if at.scheme not in ("http", "https") or not at.hostname or at.port == 0:
        raise ValueError(f"{text!r} is not an address such as http://ach.internal/")
    if at.username is not None or at.password is not None:
        raise ValueError("a name and password in the address would end up in logs: take them out")
    if at.query or at.fragment:
        raise ValueError(f"{text!r} may have no ? or #: operations are appended to its path")
    return text.rstrip("/?#")


def _template(example: str) -> Value:
    def value_of(value: Any) -> str:
        if not isinstance(value, str) or not TEMPLATE.fullmatch(value) or len(value) > LONGEST_NAME:
            raise ValueError(
                f"{value!r} is not a name such as {example}: letters, digits, . _ and -, "
                "and {operation} where the operation's name is to stand"
            )
        return value

    return value_of


COMMON: dict[str, Value] = {
    "idempotency": _idempotency,
    "keyTtl": _duration,
    "timeout": _duration,
    "operation": _text_like(OPERATION_NAME, "an operation name"),
    "backup": _backup,
    "queue": _text_like(QUEUE_NAME, "a queue name"),
    "rate": limits.rate,
    "breaker": limits.breaker,
}
TRANSPORTS: dict[str, dict[str, Value]] = {
    "local": {"module": _module, "concurrency": limits.concurrency},
    "http": {"url": _url, "concurrency": limits.concurrency},
    "celery": {"task": _template("reports.{operation}")},
    "event": {"topic": _template("email.{operation}")},
}
REQUIRED: dict[str, dict[str, str | None]] = {
    "local": {"module": None},
    "http": {"url": None},
    "celery": {
        "task": 'task: "reports.{operation}"',
        "queue": "the queue that the other app's workers consume",
    },
    "event": {"topic": 'topic: "email.{operation}"'},
}
