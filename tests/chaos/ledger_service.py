"""The services of a chaos run: one HTTP server that keeps an append-only ledger of what was asked of it and what it did.

`python -m tests.chaos.ledger_service FOLDER PORT SEED`. A line of `FOLDER/ledger.jsonl` is written, in one write, before
the reply it belongs to is sent; none is ever changed. What the lanes promise is told by the beginning of their names:
`keyed` does a key once and answers a repeat with the first reply; `asked` tells by GET what it has done, but does again
what it is sent again, as `blind` does; `safe` has no effects. All of them refuse what arrives after its own undo.

It fails the step that `payload.failAt` names, answers lanes that end in `Later` by 202, writes down in `asked.jsonl`
whom to call back, and behaves as badly as `POST /control {"misbehave": 0.1}` says: the decisions stand in the ledger, but
what goes over the wire is late, cut short, hostile, or a 5xx before or after the effect. `ills.txt` has a line for each.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.chaos.ledger_line import line

LEDGER, ASKED, SUFFERED = "ledger.jsonl", "asked.jsonl", "ills.txt"
SLOW = 3.0  # seconds: longer than the lanes' timeout
WORK = 0.2  # seconds that a call takes at most while it misbehaves: who is killed then had something in hand
HUGE = 100_000_000  # bytes
LARGE = 1_000_000  # bytes that a reply may have: a huge one counts when the caller was offered more

# What may be done to a call, and how often in proportion. `before` and `after`: the effect.
ILLS = {
    "slow before": 3, "slow after": 3, "500 before": 4, "500 after": 4, "503": 4, "429": 2, "hung up before": 3,
    "hung up after": 4, "truncated": 4, "NUL": 3, "deep": 3, "not JSON": 2, "infinite": 2, "lone surrogate": 2, "huge": 2,
}  # fmt: skip
HOSTILE = {
    "NUL": b'{"result": {"text": "a\\u0000b"}}',
    "deep": b"[" * 50_000 + b"]" * 50_000,
    "not JSON": b"<html>certainly</html>",
    "infinite": b'{"result": {"number": 1e999}}',
    "lone surrogate": b'{"result": {"text": "\\ud800"}}',
}


@dataclass(frozen=True, kw_only=True)
class Key:
    """The parts of `trace:step[:iteration]:gN:do`."""

    text: str
    trace: str
    step: str
    generation: str
    phase: str

    @classmethod
    def read(cls, text: str) -> Key:
        trace, step, *_, generation, phase = text.split(":")
        return cls(text=text, trace=trace, step=step, generation=generation, phase=phase)

    @property
    def of_step(self) -> str:
        """Without generation and phase."""
        return self.text.rpartition(":")[0].rpartition(":")[0]

    @property
    def number(self) -> int:
        return int(self.generation.removeprefix("g"))


@dataclass(frozen=True, kw_only=True)
class Request:
    lane: str
    operation: str
    key: Key
    attempt: int
    content: bytes

    @property
    def kind(self) -> str:
        return next(kind for kind in ("keyed", "asked", "safe", "blind") if self.lane.startswith(kind))


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    body: bytes


class Ledger:
    """The file, and what was answered to each key."""

    def __init__(self, folder: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(folder / LEDGER, flags, 0o644)
        self._asked = os.open(folder / ASKED, flags, 0o644)
        self._suffered = os.open(folder / SUFFERED, flags, 0o644)
        self.had: set[str] = set()  # kinds of ill replies
        self._lock = threading.Lock()
        self._lines = 0
        self._answers: dict[str, Answer] = {}
        self._undone: dict[str, int] = {}  # the latest generation of each step that was undone

    def call(self, request: Request) -> None:
        with self._lock:
            self._write("call", request)

    def perform(self, request: Request) -> Answer:
        """Do it, unless the lane has done it before and remembers the key."""
        body = json.loads(request.content)
        with self._lock:
            known = self._answers.get(request.key.text)
            if known is not None and request.kind == "keyed":
                return known
            answer = self._decide(request, body)
            if answer.status < 300 or request.kind == "keyed":  # who asks about what was refused: it never arrived
                self._answers[request.key.text] = answer
            if answer.status < 300 and request.kind != "safe":
                self._write("effect", request)
            if answer.status < 300 and request.key.phase == "undo":
                self._undone[request.key.of_step] = request.key.number
            if answer.status < 300:
                self._call_back(request, body)
            return answer

    def ask(self, request: Request) -> Answer:
        with self._lock:
            self._write("ask", request)
            return self._answers.get(request.key.text, Answer(status=404, body=b"{}"))

    def suffered(self, ill: str) -> None:
        self.had.add(ill)
        os.write(self._suffered, ill.encode() + b"\n")

    def _decide(self, request: Request, body: dict[str, Any]) -> Answer:
        key = request.key
        if key.phase == "do" and key.number <= self._undone.get(key.of_step, 0):
            return Answer(status=409, body=b'{"error": "undone before it arrived"}')
        if key.phase == "do" and body["payload"].get("failAt") == key.step:
            return Answer(status=422, body=b'{"error": "as the payload wants it"}')
        if request.lane.endswith("Later"):
            return Answer(status=202, body=b"{}")
        result = {"step": body["step"], "by": request.lane, "fee": body["payload"].get("fee", 0)}
        return Answer(status=200, body=json.dumps({"result": result}).encode())

    def _write(self, what: str, request: Request) -> None:
        self._lines += 1
        told = line(self._lines, what, lane=request.lane, operation=request.operation, key=request.key.text,
                    attempt=request.attempt, content=request.content)  # fmt: skip
        os.write(self._file, told)

    def _call_back(self, request: Request, body: dict[str, Any]) -> None:
        if request.key.phase == "do" and request.lane.endswith(("Desk", "Deputy", "Later")):
            asked = {"url": body["callbackUrl"], "lane": request.lane, "key": request.key.text}
            os.write(self._asked, json.dumps(asked).encode() + b"\n")


class Service(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, folder: Path, port: int, seed: int) -> None:
        self.ledger = Ledger(folder)
        self.misbehave = 0.0
        self.random = random.Random(seed)
        super().__init__(("127.0.0.1", port), Handler)

    def ill(self) -> str:
        """What becomes of a call. As long as there are kinds that have never been, it is one of these."""
        if self.random.random() >= self.misbehave:
            return ""
        if owed := [one for one in ILLS if one not in self.ledger.had]:
            return self.random.choice(owed)
        return self.random.choices(list(ILLS), weights=list(ILLS.values()))[0]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that hang up are what this is for."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Service

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length)
        if len(content) < length:  # cut off in its midst: no request has arrived
            self._hang_up()
            return
        if self.path == "/control":
            self.server.misbehave = float(json.loads(content)["misbehave"])
            self._send(200, b"{}")
            return
        _, lane, operation = self.path.split("/")
        request = self._request(lane, operation, self.headers["Idempotency-Key"], content)
        self.server.ledger.call(request)
        ill = self.server.ill()
        if self.server.misbehave:
            time.sleep(self.server.random.uniform(0, WORK))
        self._answer(ill, lambda: self.server.ledger.perform(request))

    def do_GET(self) -> None:
        _, lane, operation, key = self.path.split("/")
        ill = self.server.ill()
        self._answer(ill, lambda: self.server.ledger.ask(self._request(lane, operation, key, b"")))

    def _answer(self, ill: str, answer: Callable[[], Answer]) -> None:
        if (self._spoiled_before(ill) or self._spoil(ill, answer())) and ill:
            self.server.ledger.suffered(ill)

    def _request(self, lane: str, operation: str, key: str, content: bytes) -> Request:
        return Request(
            lane=lane, operation=operation, key=Key.read(unquote(key)), attempt=int(self.headers["X-Attempt"]),
            content=content,
        )  # fmt: skip

    def _spoiled_before(self, ill: str) -> bool:
        """Whether that is the end of it: nothing is done."""
        if ill == "slow before":
            time.sleep(SLOW)
        elif ill == "500 before":
            self._send(500, b'{"error": "before it was done"}')
            return True
        elif ill in ("503", "429"):
            self._send(int(ill), b"{}", {"Retry-After": "1"})
            return True
        elif ill == "hung up before":
            self._hang_up()
            return True
        return False

    def _spoil(self, ill: str, answer: Answer) -> bool:
        """Whether it came to that."""
        if ill == "slow after":
            time.sleep(SLOW)
        if ill == "500 after":
            self._send(500, b'{"error": "after it was done"}')
        elif ill == "hung up after":
            self._hang_up()
        elif ill == "truncated":
            self._send(answer.status, answer.body[: len(answer.body) // 2], length=len(answer.body))
            self._hang_up()
        elif ill in HOSTILE:
            self._send(200, HOSTILE[ill])
        elif ill == "huge":
            return self._send_huge() > LARGE
        else:
            self._send(answer.status, answer.body)
        return True

    def _send_huge(self) -> int:
        """Returns how many bytes the caller let us send: it may hang up as soon as it has seen enough."""
        self._send(200, b'"', length=HUGE)
        piece, sent = b"x" * 65_536, 0
        with suppress(OSError):
            while sent < HUGE - len(piece):
                self.wfile.write(piece)
                sent += len(piece)
        self._hang_up()
        return sent

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """The ledger says it."""


if __name__ == "__main__":
    Service(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])).serve_forever()
