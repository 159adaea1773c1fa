"""Replies that mean harm, over real sockets and into real Postgres: each ends its step clearly, and none its worker.

On a lane that honours the key the step fails with reason `uncertain`, for it may have been done; on one that can do neither it
is UNKNOWN. What is definite stays so: a redirect is a rejection, and odd but legal JSON is a reply.
"""

from __future__ import annotations

import gzip
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.integration.test_lane_http import Behaviour, Service, answer, raw
from tests.services import Airport, is_gapless
from tests.uncertain import onward

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

MUCH = 8_000_000  # bytes of memory that a reply may cost, whatever its size
LANES = """
services:
  keyed: {{transport: http, url: "HOSTILE", idempotency: key, timeout: 800ms, breaker: none}}
  blind: {{transport: http, url: "HOSTILE", idempotency: none, timeout: 800ms, breaker: none}}
  sure: {{transport: http, url: "{url}/keyed", idempotency: key, timeout: 20s, breaker: none}}
"""
FLIGHT = """
id: hostile
steps:
  - {id: work, service: LANE.work, retry: {max: 0}}
  - {id: after, service: sure.after, retry: {max: 0}, input: {told: "${steps.work.result}"}}
"""
OK = b"HTTP/1.1 200 OK\r\n"
SMALL = OK + b"Content-Length: 2\r\n"


def flood(head: bytes, part: bytes, times: int = 1_000_000) -> Behaviour:
    """As much as the other side takes."""

    def behave(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.sendall(head)
            for _ in range(times):
                connection.sendall(part)

    return behave


BLANK = b" " * 65_536
UNCERTAIN: dict[str, Behaviour] = {
    "100 MB": flood(OK + b"Content-Length: 104857600\r\n\r\n", BLANK, 1600),
    "endless chunks": flood(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + BLANK + b"\r\n", 5000),
    "a chunk of 16 EB": raw(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx"),
    "a NUL": answer(b"200 OK", b'{"result": "a\\u0000b"}'),
    "a NUL in a name": answer(b"200 OK", b'{"result": {"\\u0000": 1}}'),
    "half a surrogate pair": answer(b"200 OK", b'{"result": "\\ud800"}'),
    "an integer of 100,000 digits": answer(b"200 OK", b'{"result": ' + b"9" * 100_000 + b"}"),
    "a float that is infinite": answer(b"200 OK", b'{"result": 1e999}'),
    "NaN": answer(b"200 OK", b'{"result": NaN}'),
    "nested 100,000 deep": answer(b"200 OK", b"[" * 100_000 + b"]" * 100_000),
    "nested 65 deep": answer(b"200 OK", b"[" * 65 + b"]" * 65),
    "a gzip bomb": answer(b"200 OK", gzip.compress(b" " * 50_000_000), b"Content-Encoding: gzip"),
    "a gzip bomb that does not say so": answer(b"200 OK", gzip.compress(b" " * 50_000_000)),
    "no UTF-8": answer(b"200 OK", b'{"result": "\xff\xfe"}'),
    "UTF-16": answer(b"200 OK", '{"result": 1}'.encode("utf-16")),
    "a length that is too long": raw(OK + b'Content-Length: 500\r\n\r\n{"result": 1}'),
    "a length that is too short": raw(OK + b'Content-Length: 5\r\n\r\n{"result": 1}'),
    "two lengths": raw(OK + b'Content-Length: 5\r\nContent-Length: 13\r\n\r\n{"result": 1}'),
    "one header of 1 MB": raw(OK + b"X-Long: " + b"x" * 1_000_000 + b"\r\n\r\n{}"),
    "10,000 headers": raw(OK + b"X-Many: x\r\n" * 10_000 + b"\r\n{}"),
    "headers without end": flood(OK, b"X-Endless: x\r\n"),
    "1xx without end": flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "another protocol": raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
    "HTTP/0.9": raw(b'{"result": 1}\r\n'),
    "garbage": raw(bytes(range(256)) * 40),
    "a status that is none": raw(b"HTTP/1.1 OK fine\r\n\r\n{}"),
    "status 999": answer(b"999 What", b"{}"),
    "nothing at all": raw(b""),
}
DEFINITE: dict[str, tuple[Behaviour, str]] = {
    "a redirect": (answer(b"302 Found", b"", b"Location: http://169.254.169.254/\x1b[2J"), "rejected"),
    "an error page of 20 MB": (flood(b"HTTP/1.1 404 No\r\nContent-Length: 20971520\r\n\r\n", BLANK, 320), "rejected"),
    "an error text with a NUL": (answer(b"422 No", b'{"detail": "a\\u0000b"}'), "rejected"),
}  # fmt: skip
LEGAL: dict[str, tuple[Behaviour, Any]] = {
    "a name that is there twice": (answer(b"200 OK", b'{"result": 1, "result": 2}'), 2),
    "a byte-order mark": (answer(b"200 OK", b'\xef\xbb\xbf{"result": 3}'), 3),
    "a length of nonsense": (raw(OK + b'Content-Length: many\r\n\r\n{"result": 4}'), 4),
    "an integer of 4,000 digits": (answer(b"200 OK", b'{"result": ' + b"9" * 4_000 + b"}"), 10**4_000 - 1),
    "600,000 bytes of small things": (answer(b"200 OK", b'{"result": [' + b"1," * 300_000 + b"1]}"), [1] * 300_001),
}


@pytest.fixture(scope="module")
def hostile() -> Iterator[Service]:
    service = Service()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def registered(hostile: Service) -> str:
    return LANES.replace("HOSTILE", hostile.url)


def flown(tower: Airport, lane: str) -> dict[str, Any]:
    """The status once it has come to rest; what the leg raises, the test does."""
    instance = tower.fly(FLIGHT.replace("LANE", lane))
    onward(tower, instance)
    shown = tower.status(instance)
    assert is_gapless(shown)
    return shown


def work_of(shown: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in shown["steps"] if one["step"] == "work")
    return found


@pytest.mark.parametrize("name", UNCERTAIN)
def test_a_reply_that_cannot_be_used_leaves_a_doubt_that_its_lane_settles(
    tower: Airport, hostile: Service, name: str
) -> None:
    hostile.behave = UNCERTAIN[name]
    tracemalloc.start()
    try:
        shown = flown(tower, "keyed")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (shown["status"], shown["reason"], work_of(shown)["status"]) == ("FAILED", "uncertain", "FAILED")
    assert work_of(shown)["error"]
    assert peak < MUCH
    shown = flown(tower, "blind")
    assert (shown["status"], shown["reason"], work_of(shown)["status"]) == ("STUCK", "uncertain", "UNKNOWN")


@pytest.mark.parametrize("lane", ["keyed", "blind"])
@pytest.mark.parametrize("name", DEFINITE)
def test_what_is_definite_fails_the_flight_with_its_reason(
    tower: Airport, hostile: Service, name: str, lane: str
) -> None:
    hostile.behave, reason = DEFINITE[name]
    shown = flown(tower, lane)
    assert (shown["status"], shown["reason"]) == ("FAILED", reason)
    assert "\0" not in str(shown)


@pytest.mark.parametrize("name", LEGAL)
def test_what_is_odd_and_legal_is_a_reply(tower: Airport, hostile: Service, name: str) -> None:
    hostile.behave, result = LEGAL[name]
    shown = flown(tower, "keyed")
    assert shown["status"] == "COMPLETED"
    assert tower.service.calls("after")[0].body["input"] == {"told": result}
