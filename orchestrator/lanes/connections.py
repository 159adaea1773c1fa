"""Connections to HTTP lanes, kept open between calls, each of whose waits ends by one deadline.

urllib3's own pool is not used: its timeouts are per read, so that a service which drips a byte a
second is never late, and it does not say whether an error came before the request was sent.
"""

from __future__ import annotations

import io
import socket
import ssl
import struct
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import BaseHTTPResponse
from urllib3.util.ssl_ import create_urllib3_context

IDLE = 32  # connections kept for an origin


class Deadline:
    """The moment by which an attempt must be over, counted from now on; `allowed` is in seconds."""

    def __init__(self, allowed: float) -> None:
        self.allowed = allowed
        self._end = time.monotonic() + allowed

    def left(self) -> float:
        """Seconds left. Raises TimeoutError when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class TimedSocket:
    """A socket that waits no longer than its deadline, however many reads that takes."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self.deadline = deadline
        self.ended = False  # whether the other side has ended the connection

    def sendall(self, data: Any) -> None:
        self._sock.settimeout(self.deadline.left())
        self._sock.sendall(data)

    def makefile(self, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self))

    def read_from(self, raw: io.RawIOBase, buffer: Any) -> int | None:
        self._sock.settimeout(self.deadline.left())
        size: int | None = raw.readinto(buffer)
        self.ended = self.ended or size == 0
        return size

    def unbuffered(self) -> io.RawIOBase:
        return self._sock.makefile("rb", buffering=0)

    def settimeout(self, seconds: float | None) -> None:
        """urllib3 sets its own before it reads; the deadline stands."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _TimedReader(io.RawIOBase):
    def __init__(self, timed: TimedSocket) -> None:
        self._timed = timed
        self._raw = timed.unbuffered()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        return self._timed.read_from(self._raw, buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class Connection:
    """One open connection. Raises what urllib3 and the socket raise."""

    def __init__(self, origin: str, deadline: Deadline, context: ssl.SSLContext) -> None:
        at = urlsplit(origin)
        host = at.hostname or ""
        if at.scheme == "https":
            self._http: HTTPConnection = HTTPSConnection(host, at.port, timeout=deadline.left(), ssl_context=context)
        else:
            self._http = HTTPConnection(host, at.port, timeout=deadline.left())
        self._http.connect()
        self._check(deadline)
        self._timed = TimedSocket(self._http.sock, deadline)
        self._http.sock = self._timed  # it answers to all that is asked of a socket

    def _check(self, deadline: Deadline) -> None:
        """Each of several addresses is tried for the whole timeout; too late now means nothing was sent."""
        try:
            deadline.left()
        except TimeoutError:
            self._http.close()
            raise

    def renew(self, deadline: Deadline) -> None:
        self._timed.deadline = deadline

    def exchange(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]) -> BaseHTTPResponse:
        self._http.request(method, path, content, headers, preload_content=False, decode_content=False)
        response = self._http.getresponse()
        if self._timed.ended:  # http.client takes headers cut short for all of them, and the body for empty
            response.close()
            raise ConnectionResetError("the reply ends within its headers")
        return response

    def is_open(self) -> bool:
        return self._http.is_connected

    def close(self) -> None:
        self._http.close()

    def abort(self) -> None:
        """Close it by a reset, which takes back what the kernel still holds. Closed otherwise, a request that was given
        up would be delivered minutes later, when the network is there again: after a service was asked for its key and
        knew nothing of it, or after its undo."""
        with suppress(OSError):
            self._timed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._http.close()


class Connections:
    """Open connections by origin, shared by the threads of one process. Not to be used after a fork."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._idle: defaultdict[str, list[Connection]] = defaultdict(list)
        self._context = create_urllib3_context()
        self._context.load_default_certs()

    def take(self, url: str, deadline: Deadline, *, fresh: bool = False) -> Connection:
        """An open connection to the origin of `url`; nothing is sent on it but what TLS needs."""
        while not fresh and (kept := self._pop(_origin(url))):
            if kept.is_open():
                kept.renew(deadline)
                return kept
            kept.close()
        return Connection(_origin(url), deadline, self._context)

    def _pop(self, origin: str) -> Connection | None:
        with self._lock:
            idle = self._idle[origin]
            return idle.pop() if idle else None

    def give_back(self, url: str, connection: Connection, *, reusable: bool) -> None:
        with self._lock:
            idle = self._idle[_origin(url)]
            if reusable and connection.is_open() and len(idle) < IDLE:
                idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            for idle in self._idle.values():
                while idle:
                    idle.pop().close()


def _origin(url: str) -> str:
    at = urlsplit(url)
    return f"{at.scheme}://{at.netloc}"
