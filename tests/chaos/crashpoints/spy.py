"""Finds the boundaries: every commit, publish, acknowledgement, HTTP request and reply, as it is crossed.

Nothing in the engine knows of it. SQLAlchemy's commit, kombu's publish and ack and urllib3's request are wrapped; the
name of a point says what is about to happen or has just happened, in which function of ours, and what a transition
has written. No number of a line, no id and no time is in it, so that it is the same in every execution.
"""

from __future__ import annotations

import re
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from kombu import Producer
from kombu.message import Message
from sqlalchemy import event
from urllib3.connection import HTTPConnection

from orchestrator.lane import Call, Lane
from orchestrator.lanes import local
from orchestrator.store import transitions
from orchestrator.system import System
from tests.chaos.crashpoints.planting import plant

OURS = re.compile(r"(orchestrator|tasks)[.]")
CELERY = {"celery.app.trace": "celery"}  # it publishes what follows in a canvas, with none of our functions around it
GENERAL = ("orchestrator.store.database", "orchestrator.store.transitions")  # everybody's: their callers say more
SHOWN = 2  # functions in a name, the innermost first
WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|pg_notify)\b")
REPLY = 20.0  # seconds in which the service surely replies; nothing is timed by it


@dataclass(frozen=True, kw_only=True)
class Point:
    """A boundary that was reached. `kind`: read, commit, publish, ack or send."""

    name: str
    kind: str
    functions: tuple[str, ...]  # of ours that were under way, the innermost first

    @property
    def moment(self) -> str:
        return self.name.partition(" ")[0]


Reach = Callable[[Point], None]  # may end the process, or raise through `fail`


class Spy:
    """Calls `reach` at every point. One a process; it is installed for the rest of the process' life."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._verbs: list[str] = []
        self._has_written = False
        self._looks_away = False
        self.connection: Any = None  # that a commit is under way on

    @contextmanager
    def looking_away(self) -> Iterator[None]:
        """What others do is no boundary of ours."""
        self._looks_away = True
        try:
            yield
        finally:
            self._looks_away = False

    def install(self, system: System) -> None:
        self._watch_commits(system)
        self._watch_broker()
        self._watch_http()
        self._watch_local_lanes()

    def _at(self, moment: str, what: str, kind: str) -> None:
        if self._looks_away:
            return
        functions = tuple(_functions(sys._getframe(2)))
        shown = [name for name in functions if not name.startswith(tuple(name[13:] for name in GENERAL))][:SHOWN]
        where = " of ".join(shown) or "nobody"
        self._reach(Point(name=f"{moment} {what} in {where}", kind=kind, functions=functions))

    # -- commits

    def _watch_commits(self, system: System) -> None:
        engine = system.database.engine
        event.listen(engine, "begin", self._begin)
        event.listen(engine, "after_cursor_execute", self._note_statement)
        commit, write = engine.dialect.do_commit, transitions.write

        def do_commit(connection: Any) -> None:
            self.connection = connection
            if not self._has_written:
                self._at("during", "a read", "read")
                commit(connection)
                return
            what = f"the commit of {', '.join(self._verbs) or 'marks'}"
            self._at("before", what, "commit")
            commit(connection)
            self._at("after", what, "commit")

        def noted(connection: Any, instances: Any) -> None:
            instances = list(instances)
            write(connection, instances)
            self._verbs = sorted({*self._verbs, *_verbs(instances)})

        plant(engine.dialect, "do_commit", do_commit)
        plant(transitions, "write", noted)

    def _begin(self, _connection: Any) -> None:
        self._verbs, self._has_written = [], False

    def _note_statement(self, _c: Any, cursor: Any, statement: str, _p: Any, _x: Any, _many: bool) -> None:
        self._has_written = self._has_written or (bool(WRITES.search(statement)) and cursor.rowcount != 0)

    # -- the broker

    def _watch_broker(self) -> None:
        publish: Any = Producer.publish
        ack: Any = Message.ack

        def spied_publish(producer: Producer, body: Any, *args: Any, **more: Any) -> Any:
            what = f"the publish of {_message_name(more)}"
            self._at("before", what, "publish")
            published = publish(producer, body, *args, **more)
            self._at("after", what, "publish")
            return published

        def spied_ack(message: Message, *args: Any, **more: Any) -> None:
            what = f"the ack of {_message_name({'headers': message.headers})}"
            self._at("before", what, "ack")
            ack(message, *args, **more)
            self._at("after", what, "ack")

        plant(Producer, "publish", spied_publish)
        plant(Message, "ack", spied_ack)

    # -- HTTP

    def _watch_http(self) -> None:
        request, getresponse = HTTPConnection.request, HTTPConnection.getresponse

        def spied_request(connection: HTTPConnection, method: str, path: str, *args: Any, **more: Any) -> None:
            to = connection.asked = _asked(path)  # type: ignore[attr-defined]
            self._at("before", f"the {method} to {to}", "send")
            request(connection, method, path, *args, **more)
            select.select([connection.sock.fileno()], [], [], REPLY)  # the effect was had, and the reply is not read
            self._at("after", f"the {method} to {to}", "send")

        def spied_getresponse(connection: HTTPConnection) -> Any:
            response = getresponse(connection)
            self._at("after", f"the reply of {connection.asked}", "send")  # type: ignore[attr-defined]
            return response

        plant(HTTPConnection, "request", spied_request)
        plant(HTTPConnection, "getresponse", spied_getresponse)

    # -- local lanes

    def _watch_local_lanes(self) -> None:
        find = local.find

        def spied_find(lane: Lane, name: str) -> local.LocalOperation:
            operation = find(lane, name)

            def spied(call: Call) -> Any:
                self._at("before", "the local call", "send")
                output = operation(call)
                self._at("after", "the local call", "send")
                return output

            return spied

        plant(local, "find", spied_find)


def _functions(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if OURS.match(module):
            yield f"{module.removeprefix('orchestrator.')}.{frame.f_code.co_qualname.replace('<locals>.', '')}"
        elif module in CELERY and frame.f_code.co_name == "trace_task":
            yield CELERY[module]
        frame = frame.f_back


def _verbs(instances: list[Any]) -> Iterator[str]:
    for one in instances:
        for entry in one.entries:
            phase = " undo" if entry.phase == "undo" else "" if entry.step else " instance"
            yield entry.verb + phase


def _asked(path: str) -> str:
    """What its lane promises, by which the same death leaves quite different things: keyed, asked, blind or safe."""
    return path.split("/")[1]


def _message_name(more: dict[str, Any]) -> str:
    return str((more.get("headers") or {}).get("task") or "an event")
