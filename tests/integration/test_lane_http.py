"""HTTP lanes against a server on loopback that answers byte by byte what a test tells it to."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

import pytest
from urllib3.util.wait import wait_for_read

from orchestrator.lane import Call, Idempotency, Lane, Reply
from orchestrator.lanes import http
from orchestrator.lanes.caller import Caller
from orchestrator.lanes.connections import Connections

TRACE = "0193a5f0c0de7000800000000000abcd"
Behaviour = Callable[[socket.socket], None]


@dataclass(frozen=True, kw_only=True)
class Seen:
    line: str
    headers: Message
    content: bytes
    connection: int


class Service:
    """Reads each request whole, keeps it, and lets `behave` write whatever it likes."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self.seen: list[Seen] = []
        self.behave: Behaviour = answer(b"200 OK", b"{}")
        self.stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.caller = Caller()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        number = 0
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                number += 1
                thread = threading.Thread(target=self._serve, args=(connection, number))
                thread.start()
                self._threads.append(thread)

    def _serve(self, connection: socket.socket, number: int) -> None:
        if self._context:
            try:
                connection = self._context.wrap_socket(connection, server_side=True)
            except OSError:
                connection.close()
                return
        with connection, connection.makefile("rb") as reader, suppress(OSError):
            connection.settimeout(10)
            while line := reader.readline():
                head = b""
                while (header := reader.readline()) not in (b"\r\n", b""):
                    head += header
                headers = BytesParser().parsebytes(head)
                content = reader.read(int(headers.get("Content-Length", "0")))
                self.seen.append(
                    Seen(line=line.decode("latin-1").strip(), headers=headers, content=content, connection=number)
                )
                self.behave(connection)

    def stop(self) -> None:
        self.stopped.set()
        self.caller.close()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


def answer(status: bytes, content: bytes = b"", *headers: bytes) -> Behaviour:
    head = b"\r\n".join([b"HTTP/1.1 " + status, b"Content-Length: %d" % len(content), *headers])
    return lambda connection: connection.sendall(head + b"\r\n\r\n" + content)


def raw(content: bytes) -> Behaviour:
    """Exactly these bytes, and the end of the connection."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_RDWR)

    return behave


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.stop()


CALL = Call(
    tenant="city",
    trace=TRACE,
    step="chargeFee",
    lane="achSvc",
    operation="charge",
    key=f"{TRACE}:chargeFee:g1:do",
    attempt=2,
    payload={"fee": 75},
    input={"amount": 75},
    timeout=5,
    callback_url="http://127.0.0.1/callbacks/x",
)


def lane_of(service: Service, idempotency: Idempotency = "key", path: str = "") -> Lane:
    return Lane(name="achSvc", transport="http", url=service.url + path, idempotency=idempotency)


def call(service: Service, given: Call = CALL, idempotency: Idempotency = "key") -> Reply:
    return service.caller.call(lane_of(service, idempotency), given)


def ask(service: Service) -> Reply:
    return service.caller.ask(lane_of(service, "query"), CALL)


def test_a_call_is_a_post_with_the_body_and_headers_of_the_design(service: Service) -> None:
    service.caller.call(lane_of(service, path="/v1"), CALL)
    [seen] = service.seen
    assert seen.line == "POST /v1/charge HTTP/1.1"
    assert json.loads(seen.content) == {
        "trace": TRACE,
        "step": "chargeFee",
        "payload": {"fee": 75},
        "input": {"amount": 75},
        "callbackUrl": "http://127.0.0.1/callbacks/x",
    }
    assert seen.headers["Content-Type"] == "application/json"
    assert seen.headers["Idempotency-Key"] == f"{TRACE}:chargeFee:g1:do"
    assert seen.headers["X-Attempt"] == "2"
    version, trace, span, flags = seen.headers["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert len(span) == 16
    assert int(span, 16) > 0


def test_a_compensation_carries_the_result_of_the_step_that_it_undoes(service: Service) -> None:
    call(service, replace(CALL, undo=True, result={"charge": "ch-1"}))
    assert json.loads(service.seen[0].content)["result"] == {"charge": "ch-1"}


def test_attempts_differ_in_their_headers_but_not_in_key_and_body(service: Service) -> None:
    call(service, CALL)
    call(service, replace(CALL, attempt=3))
    first, second = service.seen
    assert first.content == second.content
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.headers["traceparent"] != second.headers["traceparent"]
    assert second.headers["X-Attempt"] == "3"


def test_an_operation_cannot_lead_to_another_path_of_the_service(service: Service) -> None:
    for operation in ("../admin", "..", "a?b#c", "x\r\nHost: evil"):
        call(service, replace(CALL, operation=operation))
    assert [seen.line.split()[1] for seen in service.seen] == [
        "/..%2Fadmin",
        "/%2E%2E",
        "/a%3Fb%23c",
        "/x%0D%0AHost%3A%20evil",
    ]


def test_json_is_the_reply(service: Service) -> None:
    service.behave = answer(b"200 OK", b'{"result": "ok"}')
    assert call(service) == Reply(outcome="done", output={"result": "ok"})


def test_an_empty_success_is_done_with_no_output(service: Service) -> None:
    service.behave = answer(b"204 No Content")
    assert call(service) == Reply(outcome="done", output=None)


def test_a_202_means_later_whatever_its_body(service: Service) -> None:
    service.behave = answer(b"202 Accepted", b"we will be in touch")
    assert call(service) == Reply(outcome="done", later=True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>", "not JSON"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'["\\ud800"]', "surrogate"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 65 + b"]" * 65, "deeper than 64"),
        (b"[" * 200_000, "deeper than 64"),
        (b'"' + b"x" * 1_000_000 + b'"', "larger than 1000000 bytes"),
    ],
)
def test_a_success_that_cannot_be_read_is_uncertain_and_may_be_repeated(
    service: Service, content: bytes, said: str
) -> None:
    service.behave = answer(b"200 OK", content)
    reply = call(service)
    assert (reply.outcome, reply.may_retry) == ("uncertain", True)
    assert said in (reply.error or "")
    assert "\0" not in (reply.error or "")


def test_a_compressed_reply_is_not_unpacked(service: Service) -> None:
    service.behave = answer(b"200 OK", b"{}", b"Content-Encoding: gzip")
    reply = call(service)
    assert service.seen[0].headers["Accept-Encoding"] == "identity"
    assert reply.outcome == "uncertain"
    assert "gzip" in (reply.error or "")


def test_an_endless_reply_is_given_up_at_the_cap(service: Service) -> None:
    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not service.stopped.is_set():
            connection.sendall(b"10000\r\n" + b" " * 65_536 + b"\r\n")

    service.behave = endless
    reply = call(service)
    assert reply.outcome == "uncertain"
    assert "larger than 1000000 bytes" in (reply.error or "")


@pytest.mark.parametrize(
    "status",
    [b"408 Request Timeout", b"425 Too Early", b"500 Oops", b"502 Bad Gateway", b"504 Gateway Timeout", b"599 ?"],
)
def test_a_status_that_leaves_a_doubt_is_uncertain(service: Service, status: bytes) -> None:
    service.behave = answer(status, b"", b"Retry-After: 3")
    assert call(service) == Reply(outcome="uncertain", error=f"HTTP {status[:3].decode()}", retry_after=3.0)


@pytest.mark.parametrize("status", [b"429 Too Many Requests", b"503 Service Unavailable"])
def test_a_busy_service_refused(service: Service, status: bytes) -> None:
    service.behave = answer(status, b'{"error": "come back"}', b"Retry-After: 120")
    reply = call(service)
    assert (reply.outcome, reply.retry_after, reply.may_retry) == ("refused", 120.0, True)
    assert "come back" in (reply.error or "")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "9" * 400}, 86_400.0),
        ({"Retry-After": "Sat, 21 Nov 2026 10:00:30 GMT"}, 30.0),
        ({"Retry-After": "Sat, 21 Nov 2026 09:00:00 GMT"}, 0.0),
        ({"Retry-After": "Sat, 21 Nov 2026 10:00:30 GMT", "Date": "Sat, 21 Nov 2026 10:00:20 GMT"}, 10.0),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Sat, 99 Nov 2026 10:00:30 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert http.retry_after(headers, now=datetime(2026, 11, 21, 10, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"type": "x", "title": "Bad", "detail": "no such account"}', "HTTP 422: no such account"),
        (b'{"message": "nope"}', "HTTP 422: nope"),
        (b'{"code": 7}', 'HTTP 422: {"code": 7}'),
        (b"plain text", "HTTP 422: plain text"),
        (b"", "HTTP 422"),
        (b"nul \0 inside", "HTTP 422: nul \ufffd inside"),
    ],
)
def test_another_4xx_is_rejected_with_what_the_service_said(service: Service, content: bytes, said: str) -> None:
    service.behave = answer(b"422 Unprocessable", content)
    assert call(service) == Reply(outcome="rejected", error=said)


def test_a_long_error_page_is_cut(service: Service) -> None:
    service.behave = answer(b"400 Bad Request", b"x" * 100_000)
    assert len(call(service).error or "") < 400


def test_a_4xx_stands_even_if_its_body_is_lost(service: Service) -> None:
    service.behave = raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\nhalf")
    assert call(service).outcome == "rejected"


def test_a_redirect_is_rejected_and_not_followed(service: Service) -> None:
    service.behave = answer(b"307 Temporary Redirect", b"", f"Location: {service.url}/elsewhere".encode())
    reply = call(service)
    assert reply.outcome == "rejected"
    assert "/elsewhere" in (reply.error or "")
    assert "`url`" in (reply.error or "")
    assert len(service.seen) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",  # read, and hung up
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"result": "o',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{"result": "o',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_connection_lost_after_the_request_is_uncertain(service: Service, content: bytes) -> None:
    service.behave = raw(content)
    reply = call(service)
    assert (reply.outcome, reply.may_retry) == ("uncertain", True)
    assert reply.error
    assert len(service.seen) == 1, "a lost call is never repeated beneath the engine"


def test_a_refused_connection_is_refused(service: Service) -> None:
    service.stop()
    reply = call(service)
    assert reply.outcome == "refused"
    assert "127.0.0.1" in (reply.error or "")


def test_a_name_that_does_not_resolve_was_not_sent() -> None:
    lane = Lane(name="achSvc", transport="http", url="http://nowhere.invalid", idempotency="key")
    assert Caller().call(lane, CALL).outcome == "not_sent"


def test_a_failed_tls_handshake_was_not_sent(service: Service) -> None:
    service.behave = raw(b"")
    lane = Lane(name="achSvc", transport="http", url=f"https://127.0.0.1:{service.port}", idempotency="key")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts into its backlog and never answers
        deaf = replace(lane, url=f"https://127.0.0.1:{silent.getsockname()[1]}")
        assert Caller().call(deaf, replace(CALL, timeout=0.2)).outcome == "not_sent"
    reply = Caller().call(lane, replace(CALL, timeout=0.5))
    assert reply.outcome == "not_sent"
    assert Connections()._context.verify_mode == ssl.CERT_REQUIRED


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody trusts yet, and its key, in one file."""
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate: install it to test TLS")
    path = tmp_path / "both.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-days",
            "2",
            "-keyout",
            path,
            "-out",
            tmp_path / "certificate.pem",
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + (tmp_path / "certificate.pem").read_bytes())
    return path


def test_tls_is_used_where_the_certificate_is_trusted_and_nothing_is_sent_where_not(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    service = Service(context)
    try:
        lane = Lane(name="achSvc", transport="http", url=f"https://127.0.0.1:{service.port}", idempotency="key")
        untrusted = service.caller.call(lane, CALL)
        assert untrusted.outcome == "not_sent"
        assert "certificate verify failed" in (untrusted.error or "")
        assert service.seen == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        service.caller = Caller()
        assert [service.caller.call(lane, CALL).outcome for _ in range(2)] == ["done", "done"]
        service.behave = drip(service, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        assert "within 0.3 s" in (service.caller.call(lane, replace(CALL, timeout=0.3)).error or "")
    finally:
        service.stop()


def drip(service: Service, head: bytes) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        connection.sendall(head)
        while not service.stopped.wait(0.02):
            connection.sendall(b" ")

    return behave


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
    ],
    ids=["body", "chunk", "header"],
)
def test_a_reply_that_drips_does_not_outlast_the_timeout(service: Service, head: bytes) -> None:
    service.behave = drip(service, head)
    began = time.monotonic()
    reply = call(service, replace(CALL, timeout=0.4))
    assert reply.outcome == "uncertain"
    assert "within 0.4 s" in (reply.error or "")
    assert time.monotonic() - began < 2


def test_a_service_that_says_nothing_is_uncertain_after_the_timeout(service: Service) -> None:
    service.behave = lambda _: None
    reply = call(service, replace(CALL, timeout=0.2))
    assert (reply.outcome, reply.error) == ("uncertain", "no answer within 0.2 s")


def test_a_request_that_was_given_up_is_not_delivered_afterwards() -> None:
    """A service that stands still while we wait, as behind a cut cable, and reads on when we have gone."""
    caller, size = Caller(), 100_000
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the rest of a request waits with its sender
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        lane = Lane(name="achSvc", transport="http", url=url, idempotency="query")
        try:
            reply = caller.call(lane, replace(CALL, timeout=0.5, input={"text": "x" * size}))
        finally:
            caller.close()
        assert reply.outcome == "uncertain"
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            assert len(all_that_comes(connection)) < size


def all_that_comes(connection: socket.socket) -> bytes:
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def test_a_kept_connection_has_a_deadline_of_its_own_for_each_call(service: Service) -> None:
    lane = lane_of(service)
    caller = service.caller
    assert caller.call(lane, replace(CALL, timeout=0.2)).outcome == "done"
    service.stopped.wait(0.25)
    assert caller.call(lane, replace(CALL, timeout=0.2)).outcome == "done"
    assert [seen.connection for seen in service.seen] == [1, 1]


def test_a_lane_that_can_settle_no_doubt_gets_a_fresh_connection_each_time(service: Service) -> None:
    lane = lane_of(service, "none")
    caller = service.caller
    caller.call(lane, CALL)
    caller.call(lane, CALL)
    assert [seen.connection for seen in service.seen] == [1, 2]


def test_a_connection_that_the_service_closed_is_not_used_again(service: Service) -> None:
    lane = lane_of(service)
    caller = service.caller
    service.behave = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    assert caller.call(lane, CALL).outcome == "done"
    for kept in caller._http()._idle[service.url]:
        assert wait_for_read(kept._timed._sock, timeout=10), "the end of the connection has arrived"
    assert caller.call(lane, CALL).outcome == "done"
    assert [seen.connection for seen in service.seen] == [1, 2]


def test_an_unread_reply_never_answers_the_next_call(service: Service) -> None:
    lane = lane_of(service)
    caller = service.caller
    service.behave = answer(b"200 OK", b"1" * 1_000_100)
    assert caller.call(lane, CALL).outcome == "uncertain"
    service.behave = answer(b"200 OK", b'"second"')
    assert caller.call(lane, CALL).output == "second"


def test_the_environments_proxies_are_not_used(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert call(service).outcome == "done"


def test_asking_is_a_get_of_the_key(service: Service) -> None:
    service.behave = answer(b"200 OK", b'{"result": "charged"}')
    assert ask(service) == Reply(outcome="done", output={"result": "charged"}, asked=True)
    assert service.seen[0].line == f"GET /charge/{TRACE}%3AchargeFee%3Ag1%3Ado HTTP/1.1"


@pytest.mark.parametrize(
    ("status", "outcome", "later"),
    [
        (b"404 Not Found", "not_sent", False),
        (b"202 Accepted", "done", True),
        (b"204 No Content", "done", False),
        (b"410 Gone", "uncertain", False),
        (b"401 Unauthorized", "uncertain", False),
        (b"302 Found", "uncertain", False),
        (b"429 Too Many Requests", "uncertain", False),
        (b"500 Oops", "uncertain", False),
    ],
)
def test_only_a_404_says_that_a_key_never_arrived(service: Service, status: bytes, outcome: str, later: bool) -> None:
    service.behave = answer(status)
    reply = ask(service)
    assert (reply.outcome, reply.later) == (outcome, later)


def test_asking_a_service_that_is_away_settles_nothing(service: Service) -> None:
    service.stop()
    assert ask(service).outcome == "uncertain"


def _call_in_child(caller: Caller, lane: Lane, replies: multiprocessing.Queue[str]) -> None:
    replies.put(caller.call(lane, CALL).outcome)


def test_a_forked_process_opens_connections_of_its_own(service: Service) -> None:
    lane = lane_of(service)
    caller = service.caller
    caller.call(lane, CALL)
    context = multiprocessing.get_context("fork")
    replies: multiprocessing.Queue[str] = context.Queue()
    child = context.Process(target=_call_in_child, args=(caller, lane, replies))
    child.start()
    assert replies.get(timeout=10) == "done"
    child.join(10)
    caller.call(lane, CALL)
    assert [seen.connection for seen in service.seen] == [1, 2, 1]
