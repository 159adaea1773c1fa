"""The tools of the chaos run do what they say: a fault that is none would prove nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest

from orchestrator.servers.ports import LOOPBACK, free_port
from tests.chaos.ledger_service import LEDGER, SUFFERED, Service
from tests.chaos.run import faraway, figures
from tests.chaos.run.members import Life
from tests.chaos.run.relays import Link, Relays
from tests.processes import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.integration]


class Echo:
    """A server that notes what arrives, and sends it back."""

    def __init__(self, host: str = LOOPBACK) -> None:
        self.got: list[bytes] = []
        self.came = threading.Condition()
        self.socket = socket.create_server((host, 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with peer, suppress(OSError):
            while data := peer.recv(100):
                with self.came:
                    self.got.append(data)
                    self.came.notify_all()
                peer.sendall(data)

    def has(self, data: bytes) -> bool:
        with self.came:
            return self.came.wait_for(lambda: data in self.got, timeout=10)


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.socket.close()


@pytest.fixture
def relay(echo: Echo, tmp_path: Path) -> Iterator[Relays]:
    """With one link, `way`."""
    door = free_port()
    made = Relays(tmp_path, {"way": Link(listen=(LOOPBACK, door), to=[echo.socket.getsockname()])})
    made.door = door  # type: ignore[attr-defined]
    yield made
    made.stop()


def connect(relay: Relays) -> socket.socket:
    return socket.create_connection((LOOPBACK, relay.door), timeout=10)  # type: ignore[attr-defined]


def said(peer: socket.socket, data: bytes) -> bytes:
    peer.sendall(data)
    return peer.recv(100)


def is_cut(peer: socket.socket) -> bool:
    try:
        return peer.recv(100) == b""
    except ConnectionResetError:
        return True


def test_a_relay_carries_until_it_is_cut_and_again_when_it_is_healed(relay: Relays) -> None:
    with connect(relay) as peer:
        assert said(peer, b"one") == b"one"
        relay.order("cut", "way")
        assert is_cut(peer)
    with connect(relay) as peer:
        assert is_cut(peer)
    relay.order("heal", "way")
    with connect(relay) as peer:
        assert said(peer, b"two") == b"two"


def test_a_stalled_relay_tells_nobody_and_delivers_when_it_is_healed(relay: Relays, echo: Echo) -> None:
    with connect(relay) as peer:
        assert said(peer, b"one") == b"one"
        relay.order("stall", "way")
        peer.settimeout(0.5)
        with pytest.raises(TimeoutError):
            said(peer, b"two")
        assert b"two" not in echo.got
        relay.order("heal", "way")
        peer.settimeout(10)
        assert peer.recv(100) == b"two"


def test_what_was_sent_into_a_stalled_relay_is_not_delivered_for_who_has_hung_up(relay: Relays, echo: Echo) -> None:
    with connect(relay) as peer:
        assert said(peer, b"one") == b"one"
        relay.order("stall", "way")
        peer.settimeout(0.5)
        with pytest.raises(TimeoutError):
            said(peer, b"two")
    relay.order("heal", "way")
    with connect(relay) as last:
        assert said(last, b"three") == b"three"
    assert b"two" not in echo.got


def test_a_relay_outlives_who_hung_up_before_the_rest_was_delivered(tmp_path: Path) -> None:
    with ExitStack() as held:
        listener = held.enter_context(socket.create_server((LOOPBACK, 0)))
        door = free_port()
        relay = Relays(tmp_path, {"way": Link(listen=(LOOPBACK, door), to=[listener.getsockname()])})
        held.callback(relay.stop)
        peer = held.enter_context(socket.create_connection((LOOPBACK, door), timeout=10))
        server = held.enter_context(listener.accept()[0])
        server.settimeout(0.5)
        with pytest.raises(TimeoutError):  # as much as the relay takes without being read
            server.sendall(bytes(50_000_000))
        relay.order("stall", "way")
        peer.shutdown(socket.SHUT_WR)
        relay.order("stall", "way")  # it has noticed
        while peer.recv(65536):
            pass
        relay.order("heal", "way")
        relay.order("heal", "way")


def test_a_relay_that_has_ended_says_why(relay: Relays) -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'nowhere'"):
        relay.order("cut", "nowhere")


def test_a_snipped_reply_is_lost_after_the_request_has_arrived(relay: Relays, echo: Echo) -> None:
    with connect(relay) as peer:
        assert said(peer, b"one") == b"one"
        relay.order("snip", "way", share=1.0)
        with connect(relay) as other:
            other.sendall(b"two")
            assert is_cut(other)
    assert echo.has(b"two")


# -- a cable

INSIDE = """
import socket, sys
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
for line in sys.stdin:
    peer.settimeout(float(line))
    peer.sendall(b"x")
    try:
        print(peer.recv(100), flush=True)
    except TimeoutError:
        print("nothing", flush=True)
"""


def test_a_pulled_cable_tells_nobody_and_nothing_goes_another_way() -> None:
    with ExitStack() as held:
        far = faraway.make(held)
        if far is None:
            pytest.skip("no network namespace can be made here")
        echo = Echo(far.outside)
        held.callback(echo.socket.close)
        argv = [*far.inside, sys.executable, "-c", INSIDE, far.outside, str(echo.socket.getsockname()[1])]
        inside = held.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        held.callback(inside.kill)

        def says(patience: float) -> str:
            assert inside.stdin is not None
            assert inside.stdout is not None
            print(patience, file=inside.stdin, flush=True)
            return inside.stdout.readline().strip()

        assert says(10) == "b'x'"
        far.pull()
        assert says(0.5) == "nothing"
        assert _ways(far.outside) == "", "it leaves by another way"
        far.plug()
        assert says(30) in ("b'x'", "b'xx'")


def _ways(outside: str) -> str:
    """How we would send to whoever lives there."""
    inside = outside.rpartition(".")[0] + f".{int(outside.rpartition('.')[2]) + 1}"
    return subprocess.run(["ip", "route", "get", inside], capture_output=True, text=True, check=False).stdout


# -- the services


@contextmanager
def service(folder: Path) -> Iterator[str]:
    served = Service(folder, 0, seed=1)
    threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://{LOOPBACK}:{served.server_port}"
    served.shutdown()
    served.server_close()


def call(url: str, key: str, *, method: str = "POST", **payload: object) -> int:
    body = {"step": key.split(":")[1], "payload": {"agency": "city-a", **payload}, "callbackUrl": "http://nowhere"}
    request = urllib.request.Request(
        url, method=method, data=json.dumps(body).encode() if method == "POST" else None,
        headers={"Idempotency-Key": key, "X-Attempt": "1"},
    )  # fmt: skip
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code


def told(folder: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in (folder / LEDGER).read_text().splitlines()]
    assert [line["n"] for line in lines] == list(range(1, len(lines) + 1))
    return [(line["what"], line["key"]) for line in lines]


def test_a_keyed_service_does_a_key_once_and_an_asked_one_as_often_as_it_is_told(tmp_path: Path) -> None:
    with service(tmp_path) as url:
        for lane in ("keyed", "asked"):
            assert call(f"{url}/{lane}/charge", f"{lane}:charge:g1:do") == 200
            assert call(f"{url}/{lane}/charge", f"{lane}:charge:g1:do") == 200
        assert call(f"{url}/asked/charge/asked:charge:g1:do", "asked:charge:g1:do", method="GET") == 200
        assert call(f"{url}/asked/charge/other:charge:g1:do", "other:charge:g1:do", method="GET") == 404
    assert told(tmp_path).count(("effect", "keyed:charge:g1:do")) == 1
    assert told(tmp_path).count(("effect", "asked:charge:g1:do")) == 2


def test_a_service_refuses_what_arrives_after_its_undo_and_the_step_that_is_to_fail(tmp_path: Path) -> None:
    with service(tmp_path) as url:
        assert call(f"{url}/keyed/refund", "one:charge:g1:undo") == 200
        assert call(f"{url}/keyed/charge", "one:charge:g1:do") == 409
        assert call(f"{url}/keyed/charge", "two:charge:0:g1:do", failAt="charge") == 422
    assert [line for line in told(tmp_path) if line[0] == "effect"] == [("effect", "one:charge:g1:undo")]


HUGE_HEAD = "POST /keyed/charge HTTP/1.1\r\nHost: here\r\nIdempotency-Key: t:charge:g1:do\r\nX-Attempt: 1\r\nContent-Length: 28\r\n\r\n"


@pytest.mark.parametrize(("taken", "counted"), [(1, ""), (40_000_000, "huge\n")])
def test_a_reply_of_100_mb_counts_when_the_caller_has_taken_too_much_of_it(
    taken: int, counted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Service, "ill", lambda _: "huge")
    monkeypatch.setattr("tests.chaos.ledger_service.LARGE", 30_000_000)  # more than the kernel takes for nobody
    with service(tmp_path) as url:
        with socket.create_connection((LOOPBACK, urlsplit(url).port or 0)) as peer:
            peer.sendall(HUGE_HEAD.encode() + b'{"step": "a", "payload": {}}')
            while taken > 0:
                taken -= len(peer.recv(1_000_000))
        wait_until(lambda: not any("process_request" in one.name for one in threading.enumerate()))
    assert (tmp_path / SUFFERED).read_text() == counted


def test_a_request_that_is_cut_off_in_its_midst_has_not_arrived(tmp_path: Path) -> None:
    with service(tmp_path) as url, socket.create_connection((LOOPBACK, urlsplit(url).port or 0)) as peer:
        head = "POST /keyed/charge HTTP/1.1\r\nHost: here\r\nIdempotency-Key: t:charge:g1:do\r\nX-Attempt: 1\r\nContent-Length: 9\r\n\r\n"
        peer.sendall(head.encode())
        peer.shutdown(socket.SHUT_WR)
        peer.settimeout(10)
        assert peer.recv(1) == b"", "there is no answer to it"
    assert told(tmp_path) == []


# -- a worker that was tampered with


def test_a_shifted_clock_is_off_for_time_and_for_dates() -> None:
    script = (
        "from tests.chaos.run.entry import shift_clock; import time, datetime; real = time.time(); shift_clock(3600);"
        "from datetime import UTC, datetime as found;"
        "print(round(time.time() - real), round(found.now(UTC).timestamp() - real), isinstance(found.now(), found))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert shown.stdout.split() == ["3600", "3600", "True"]


# -- figures


def test_recovery_is_counted_from_the_kill_of_the_holder_to_the_next_claim() -> None:
    def row(step: str, verb: str, at: float, worker: str | None = None) -> tuple[object, ...]:
        return ("one", 0, verb, step, "do", worker, at)

    deaths = {7: Life(pid=7, began=0.0, ended=10.0)}
    entries = [
        row("held", "claim", 9.0, "host:7:a"), row("held", "lose", 14.0), row("held", "claim", 15.5, "host:8:b"),
        row("done", "claim", 8.0, "host:7:a"), row("done", "succeed", 9.0),
        row("elsewhere", "claim", 9.0, "host:9:c"), row("elsewhere", "lose", 14.0),
    ]  # fmt: skip
    assert list(figures._held(entries, deaths)) == [(10.0, [("lose", 14.0), ("claim", 15.5)])]
