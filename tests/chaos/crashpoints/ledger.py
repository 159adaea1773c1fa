"""The service of the sweep, in a process of its own: it answers by rule and keeps a ledger that no crash can touch.

One line of JSON for each call and each effect, written before the reply is sent. What an operation is answered with
depends on how often its key was called, so that a crash elsewhere cannot change what it is.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.chaos.ledger_line import line

DONE = (200, True)
LATER = (202, True)
# operation → what its first calls are answered with, (status, whether it is done); further ones are done.
RULES: dict[str, list[tuple[int, bool]]] = {
    "flaky": [(503, False), (500, True), (500, False)],
    "busy": [(429, False)],
    "reject": [(422, False)] * 99,
    "later": [LATER] * 99,
}


class Ledger:
    """What the service has done, in memory for its answers and in a file for the judges."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self._lock = threading.Lock()
        self._calls: Counter[tuple[str, str]] = Counter()  # by operation and key
        self._replies: dict[str, tuple[int, Any]] = {}
        self._lines = 0

    def post(self, lane: str, operation: str, key: str, attempt: int, body: bytes) -> tuple[int, Any]:
        with self._lock:
            self._write("call", lane, operation, key, attempt, body)
            if lane == "keyed" and key in self._replies:
                return self._replies[key]
            status, is_done = self._ruled(operation, key, body)
            self._calls[operation, key] += 1
            reply = status, {"result": {"did": operation, "key": key.partition(":")[2]}}
            if is_done:
                self._write("effect", lane, operation, key, attempt, body)
                self._replies[key] = reply if status < 300 else (200, reply[1])
            return reply

    def _ruled(self, operation: str, key: str, body: bytes) -> tuple[int, bool]:
        if operation == "rejectFirst":
            return DONE if json.loads(body)["payload"]["at"] else (422, False)
        if operation == "rejectUntilMended":
            return DONE if f"{key.partition(':')[0]}:mended" in self._replies else (422, False)
        rule, at = RULES.get(operation, []), self._calls[operation, key]
        return rule[at] if at < len(rule) else DONE

    def ask(self, lane: str, operation: str, key: str) -> tuple[int, Any]:
        with self._lock:
            self._write("ask", lane, operation, key, 0, b"")
            return self._replies.get(key, (404, {}))

    def _write(self, what: str, lane: str, operation: str, key: str, attempt: int, body: bytes) -> None:
        self._lines += 1
        told = line(self._lines, what, lane=lane, operation=operation, key=key, attempt=attempt, content=body)
        os.write(self._file, told)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    ledger: Ledger

    def do_POST(self) -> None:
        _, lane, operation = self.path.split("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        attempt = int(self.headers.get("X-Attempt") or 0)
        self._give(*self.ledger.post(lane, operation, self.headers["Idempotency-Key"], attempt, body))

    def do_GET(self) -> None:
        _, lane, operation, key = self.path.split("/")
        self._give(*self.ledger.ask(lane, operation, key.replace("%3A", ":")))

    def _give(self, status: int, reply: Any) -> None:
        content = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    parent: int

    def service_actions(self) -> None:
        if os.getppid() != self.parent:
            os._exit(0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that dies is what this is about."""


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """URL of the service, whose ledger is at `path`. To be called before this process has threads."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.parent = os.getpid()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _Handler.ledger = Ledger(path)
        server.serve_forever(poll_interval=1.0)
        os._exit(0)
    url = f"http://127.0.0.1:{server.server_port}"
    server.socket.close()
    try:
        yield url
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
