"""services.yaml → the service lanes, and the one place that calls them.

```yaml
services:
  fileSvc: {transport: local, module: tasks.file_svc}
  achSvc:
    transport: http              # local | http
    url: "https://ach.internal/" # http: required; operations are appended to it
    idempotency: key             # key | query | safe | none; http lanes must say which, local ones default to key
    keyTtl: 24h                  # with `key`: for how long the service remembers one; without it: for ever
    timeout: 10s                 # of one request
    operation: charge            # what a bare `service: achSvc` calls; without it: the step's id
    backup: achSvc.review        # whom a step escalates to that names nobody
    queue: payments              # the workers' queue that serves this lane
```
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from orchestrator import durations
from orchestrator.errors import Invalid, Problem
from orchestrator.lane import Call, Lane, Reply
from orchestrator.lanes import body, http, local
from orchestrator.lanes.connections import Connections
from orchestrator.language.text import Composed, compose

LANE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
OPERATION_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
QUEUE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
MODULE_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
LATER_TRANSPORTS = ("celery", "event")
LATER_KEYS = ("concurrency", "rate", "task", "topic")

Value = Callable[[Any], Any]  # raises ValueError saying what was expected


def load(path: str | Path) -> Mapping[str, Lane]:
    """The lanes of a services file, local modules imported. Raises Invalid with every problem in it."""
    composed = compose(_text(path), file=str(path))
    reading = _Reading(composed)
    lanes = reading.lanes()
    if reading.problems:
        raise Invalid(sorted(reading.problems, key=lambda problem: (problem.line or 0, problem.column or 0)))
    return MappingProxyType(lanes)


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        hint = "ORCHESTRATOR_SERVICES_FILE names the file that registers the service lanes"
        raise Invalid([Problem(message=f"cannot be read: {error}", file=str(path), hint=hint)]) from error


class Caller:
    """Calls lanes over their transport, with one set of HTTP connections a process."""

    def __init__(self, lanes: Mapping[str, Lane]) -> None:
        self.lanes = lanes
        self._pid: int | None = None
        self._connections: Connections | None = None
        self._lock = Lock()

    def call(self, lane: Lane, call: Call) -> Reply:
        """One attempt. Never raises for what a lane does."""
        if lane.transport == "local":
            return local.call(lane, call)
        return http.call(self._http(), lane, call)

    def ask(self, lane: Lane, call: Call) -> Reply:
        """What became of the call's key; `not_sent` means that it never arrived."""
        if lane.transport == "local":
            return Reply(outcome="uncertain", may_retry=False, error=f"lane `{lane.name}` is local: it cannot be asked")
        return http.ask(self._http(), lane, call)

    def close(self) -> None:
        """Close idle connections; the next call opens new ones."""
        if self._connections is not None and self._pid == os.getpid():
            self._connections.close()

    def _http(self) -> Connections:
        """A forked child must not share its parent's sockets, so it begins with none.

        Made by one thread: each of several that begin at once would open connections that nobody closes.
        """
        with self._lock:
            if self._connections is None or self._pid != os.getpid():
                self._connections, self._pid = Connections(), os.getpid()
            return self._connections


def caller(lanes: Mapping[str, Lane]) -> Caller:
    return Caller(lanes)


class _Reading:
    """One pass over a composed services file, which collects lanes and problems."""

    def __init__(self, composed: Composed) -> None:
        self.problems: list[Problem] = []
        self._composed = composed

    def problem(self, path: tuple[str, ...], message: str, hint: str | None = None, *, at_key: bool = False) -> None:
        self.problems.append(self._composed.problem(path, message, hint, at_key=at_key))

    def lanes(self) -> dict[str, Lane]:
        services = self._services()
        read = {name: self._lane(name, given) for name, given in services.items()}
        lanes = {name: lane for name, lane in read.items() if lane}
        for name, lane in lanes.items():
            self._check_operations(name, lane, lanes, services)
        return lanes

    def _services(self) -> dict[str, Any]:
        data = self._composed.data
        if not isinstance(data, dict) or not isinstance(data.get("services"), dict):
            self.problem(
                (),
                "the file must hold a mapping `services` of lanes",
                "services: {fileSvc: {transport: local, module: tasks.file_svc}}",
            )
            return {}
        self._unknown((), set(data), ("services",))
        return dict(data["services"])

    def _lane(self, name: str, given: Any) -> Lane | None:
        path = ("services", name)
        before = len(self.problems)
        if not LANE_NAME.fullmatch(name):
            self.problem(path, f"`{name}` is not a lane name", "letters, digits, - and _, a letter first", at_key=True)
        if not isinstance(given, dict):
            self.problem(path, f"lane `{name}` must be a mapping", "{transport: local, module: …}")
            return None
        values = self._values(path, name, given)
        # A lane with problems is left out, and the whole file with it: half of it is of no use.
        return Lane(name=name, **values) if len(self.problems) == before else None

    def _values(self, path: tuple[str, ...], name: str, given: dict[str, Any]) -> dict[str, Any]:
        transport = given.get("transport")
        if not isinstance(transport, str) or transport not in TRANSPORTS:
            self._bad_transport(path, transport)
            return {}
        fields = COMMON | TRANSPORTS[transport]
        self._unknown(path, set(given), (*fields, "transport"))
        self._missing(path, name, given)
        values = {
            FIELD_NAMES.get(key, key): self._value((*path, key), fields[key], value)
            for key, value in given.items()
            if key in fields
        }
        self._check_idempotency(path, given)
        return {"transport": transport, **values}

    def _bad_transport(self, path: tuple[str, ...], transport: Any) -> None:
        if transport is None:
            self.problem(path, "the lane needs a `transport`", "local or http", at_key=True)
        elif transport in LATER_TRANSPORTS:
            self.problem(
                (*path, "transport"), f"transport `{transport}` is not available in this version", "use local or http"
            )
        else:
            self.problem((*path, "transport"), f"unknown transport `{transport}`", _near(transport, TRANSPORTS))

    def _unknown(self, path: tuple[str, ...], given: set[str], known: Iterable[str]) -> None:
        known = tuple(known)
        for key in sorted(given - set(known)):
            if key in LATER_KEYS:
                self.problem((*path, key), f"`{key}` is not available in this version", "take it out", at_key=True)
            else:
                self.problem((*path, key), f"unknown key `{key}`", _near(key, known), at_key=True)

    def _missing(self, path: tuple[str, ...], name: str, given: dict[str, Any]) -> None:
        needed = "module" if given["transport"] == "local" else "url"
        if needed not in given:
            self.problem(path, f"lane `{name}` needs a `{needed}`", at_key=True)
        if given["transport"] == "http" and "idempotency" not in given:
            self.problem(
                path,
                f"lane `{name}` must say its `idempotency`: HTTP lanes must say which",
                "key: it honours Idempotency-Key; query: it can be asked for a key; safe: it has no effect; "
                "none: it can do neither",
                at_key=True,
            )

    def _check_idempotency(self, path: tuple[str, ...], given: dict[str, Any]) -> None:
        idempotency = given.get("idempotency", "key")
        if "keyTtl" in given and idempotency != "key":
            self.problem((*path, "keyTtl"), "`keyTtl` goes with `idempotency: key` only")
        if idempotency == "query" and given["transport"] == "local":
            self.problem((*path, "idempotency"), "a local lane cannot be asked for a key", "key, safe or none")

    def _value(self, path: tuple[str, ...], value_of: Value, value: Any) -> Any:
        try:
            return value_of(value)
        except ValueError as error:
            self.problem(path, f"`{path[-1]}`: {error}")
            return None

    def _check_operations(self, name: str, lane: Lane, lanes: dict[str, Lane], services: dict[str, Any]) -> None:
        """What the file itself names must exist, as far as that can be known before a call."""
        if lane.operation:
            self._check_local(("services", name, "operation"), lane, lane.operation)
        if not lane.backup:
            return
        to, _, operation = lane.backup.partition(".")
        if to in lanes:
            self._check_local(("services", name, "backup"), lanes[to], operation)
        elif to not in services:
            self.problem(("services", name, "backup"), f"`backup`: unknown lane `{to}`", _near(to, services))

    def _check_local(self, path: tuple[str, ...], lane: Lane, operation: str) -> None:
        if lane.transport != "local":
            return
        try:
            local.find(lane, operation)
        except LookupError as error:
            self.problem(path, f"`{path[-1]}`: {error.args[0]}")


def _near(given: Any, known: Iterable[str]) -> str:
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
        raise ValueError(f"{value!r} is not one of them; {_near(value, known)}")
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


COMMON: dict[str, Value] = {
    "idempotency": _idempotency,
    "keyTtl": _duration,
    "timeout": _duration,
    "operation": _text_like(OPERATION_NAME, "an operation name"),
    "backup": _backup,
    "queue": _text_like(QUEUE_NAME, "a queue name"),
}
TRANSPORTS: dict[str, dict[str, Value]] = {"local": {"module": _module}, "http": {"url": _url}}
FIELD_NAMES = {"keyTtl": "key_ttl"}
