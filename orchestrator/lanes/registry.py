"""services.yaml → the service lanes.

```yaml
services:
  fileSvc: {transport: local, module: tasks.file_svc}
  achSvc:
    transport: http              # local | http | celery | event
    url: "https://ach.internal/" # http: required; operations are appended to it
    idempotency: key             # key | query | safe | none; http and celery must say which, the others default to key
    keyTtl: 24h                  # with `key`: for how long the service remembers one; without it: for ever
    timeout: 10s                 # of one request
    operation: charge            # what a bare `service: achSvc` calls; without it: the step's id
    backup: achSvc.review        # whom a step escalates to that names nobody
    queue: payments              # the workers' queue that serves this lane; celery: the queue of the other app
    concurrency: 50              # calls in flight at once, of all workers together; local and http
    rate: 100/s                  # calls that are begun
    breaker: {failures: 10, pause: 30s}  # http: this is the default; `none`
  reports: {transport: celery, queue: reports, task: "reports.{operation}", idempotency: none}
  sendEmail: {transport: event, topic: "email.{operation}"}
```
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from orchestrator.errors import Invalid, Problem
from orchestrator.lane import DEFAULT_QUEUE, SWEEP_QUEUE, Breaker, Lane
from orchestrator.lanes import local
from orchestrator.lanes.exchanges import LANDED_EVENTS_QUEUE, LANDED_QUEUE, UNREAD_QUEUE
from orchestrator.lanes.keys import COMMON, LANE_NAME, REQUIRED, TRANSPORTS, Value, near
from orchestrator.language.text import Composed, compose

OUR_QUEUES = frozenset({DEFAULT_QUEUE, SWEEP_QUEUE, LANDED_QUEUE, LANDED_EVENTS_QUEUE, UNREAD_QUEUE})


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
        self._check_queues(lanes)
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
        names = FIELD_NAMES | OWN_FIELD_NAMES.get(transport, {})
        values = {
            names.get(key, key): self._value((*path, key), fields[key], value)
            for key, value in given.items()
            if key in fields
        }
        self._check_idempotency(path, given)
        return {"transport": transport, **DEFAULTS.get(transport, {}), **values}

    def _bad_transport(self, path: tuple[str, ...], transport: Any) -> None:
        if transport is None:
            self.problem(path, "the lane needs a `transport`", ", ".join(TRANSPORTS), at_key=True)
        else:
            self.problem((*path, "transport"), f"unknown transport `{transport}`", near(transport, TRANSPORTS))

    def _unknown(self, path: tuple[str, ...], given: set[str], known: Iterable[str]) -> None:
        known = tuple(known)
        for key in sorted(given - set(known)):
            hint = NOT_HERE.get(key) or near(key, known)
            self.problem((*path, key), f"unknown key `{key}`", hint, at_key=True)

    def _missing(self, path: tuple[str, ...], name: str, given: dict[str, Any]) -> None:
        transport = given["transport"]
        for key, hint in REQUIRED[transport].items():
            if key not in given:
                self.problem(path, f"lane `{name}` needs a `{key}`", hint, at_key=True)
        if transport in HARMFUL and "idempotency" not in given:
            self.problem(
                path,
                f"lane `{name}` must say its `idempotency`: {HARMFUL[transport]} lanes must say which",
                _kinds(transport),
                at_key=True,
            )

    def _check_idempotency(self, path: tuple[str, ...], given: dict[str, Any]) -> None:
        idempotency = given.get("idempotency", "key")
        if "keyTtl" in given and idempotency != "key":
            self.problem((*path, "keyTtl"), "`keyTtl` goes with `idempotency: key` only")
        if idempotency == "query" and given["transport"] != "http":
            article = "an" if given["transport"] == "event" else "a"
            what = f"{article} {given['transport']} lane cannot be asked for a key"
            self.problem((*path, "idempotency"), what, "key, safe or none")

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
            self.problem(("services", name, "backup"), f"`backup`: unknown lane `{to}`", near(to, services))

    def _check_local(self, path: tuple[str, ...], lane: Lane, operation: str) -> None:
        if lane.transport != "local":
            return
        try:
            local.find(lane, operation)
        except LookupError as error:
            self.problem(path, f"`{path[-1]}`: {error.args[0]}")

    def _check_queues(self, lanes: dict[str, Lane]) -> None:
        """Two apps on one queue would take each other's messages."""
        ours = OUR_QUEUES | {lane.queue for lane in lanes.values()}
        for name, lane in lanes.items():
            if lane.task_queue in ours:
                self.problem(
                    ("services", name, "queue"),
                    f"`queue`: `{lane.task_queue}` is a queue of our own workers",
                    "name the queue that the other app's workers consume",
                )


def _kinds(transport: str) -> str:
    query = "query: it can be asked for a key; " if transport == "http" else ""
    key = "Idempotency-Key" if transport == "http" else "the argument `key`"
    return f"key: it honours {key}; {query}safe: it has no effect; none: it can do neither"


HARMFUL = {"http": "HTTP", "celery": "Celery"}  # nobody can know what a repeat does there: the lane has to say
DEFAULTS: dict[str, dict[str, Any]] = {"http": {"breaker": Breaker()}}
NOT_HERE = {"concurrency": "local and http lanes have it; elsewhere a call is over as soon as it is sent: set a `rate`"}
FIELD_NAMES = {"keyTtl": "key_ttl"}
OWN_FIELD_NAMES = {"celery": {"queue": "task_queue"}}
