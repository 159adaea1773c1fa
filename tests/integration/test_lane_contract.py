"""The receiver that the lane contract shows does what the page says: taken from the page, run, and killed."""

from __future__ import annotations

import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.lane import Call, Lane
from orchestrator.lanes.caller import Caller
from orchestrator.servers.ports import free_port
from tests import flights
from tests.services import Airport

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "lane-contract.md"
TRACE = "0193a5f0c0de7000800000000000abcd"
CALL = Call(
    tenant="local", trace=TRACE, step="fee", lane="achSvc", operation="charge", key=f"{TRACE}:fee[2]:g1:do", attempt=1,
    payload={}, input={"amount": 75}, timeout=5.0,
)  # fmt: skip


def program() -> str:
    found: str
    [found] = [code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "sys.argv" in code]
    return found


@contextmanager
def receiver(folder: Path) -> Iterator[tuple[Lane, subprocess.Popen[bytes]]]:
    path, port = folder / "receiver.py", free_port()
    path.write_text(program())
    argv = [sys.executable, str(path), str(folder / "charges.db"), str(port)]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        flights.until(lambda: listens(port) or None, "the receiver")
        yield Lane(name="achSvc", transport="http", url=f"http://127.0.0.1:{port}", idempotency="query"), process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def caller() -> Iterator[Caller]:
    caller = Caller()
    yield caller
    caller.close()


def charges(folder: Path) -> list[tuple[str, float]]:
    with closing(sqlite3.connect(folder / "charges.db")) as database:
        return database.execute("SELECT trace, amount FROM charge").fetchall()


def test_the_receiver_is_as_short_as_promised() -> None:
    lines = [line for line in program().splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 30


def test_the_same_key_has_one_effect_and_one_answer_also_after_a_kill(tmp_path: Path, caller: Caller) -> None:
    with receiver(tmp_path) as (lane, _):
        first = caller.call(lane, CALL)
        again = caller.call(lane, replace(CALL, attempt=2))
    with receiver(tmp_path) as (lane, _):
        after = caller.call(lane, replace(CALL, attempt=3))
    assert first.output == again.output == after.output == {"result": {"charged": 75}}
    assert charges(tmp_path) == [(TRACE, 75.0)]


def test_many_at_once_have_one_effect(tmp_path: Path, caller: Caller) -> None:
    with receiver(tmp_path) as (lane, _), ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda attempt: caller.call(lane, replace(CALL, attempt=attempt)), range(1, 17)))
    assert {reply.outcome for reply in replies} == {"done"}
    assert len(charges(tmp_path)) == 1


def test_another_key_is_another_effect(tmp_path: Path, caller: Caller) -> None:
    with receiver(tmp_path) as (lane, _):
        caller.call(lane, CALL)
        caller.call(lane, replace(CALL, key=f"{TRACE}:fee[2]:g2:do"))
    assert len(charges(tmp_path)) == 2


def test_the_receiver_can_be_asked_for_a_key(tmp_path: Path, caller: Caller) -> None:
    with receiver(tmp_path) as (lane, _):
        assert caller.ask(lane, CALL).outcome == "not_sent"
        told = caller.call(lane, CALL)
        asked = caller.ask(lane, CALL)
    assert (asked.outcome, asked.output) == ("done", told.output)


def test_an_input_that_grew_too_large_fails_the_step_and_sends_nothing(airport: Airport) -> None:
    text = """
id: grown
steps: [{id: grow, service: keyed.grow, input: {one: "${payload.text}", two: "${payload.text}"}}]
"""
    shown = airport.ended(airport.fly(text, {"text": "x" * 600_000}))
    assert shown["status"] == "FAILED"
    assert (shown["steps"][0]["reason"], airport.service.calls("grow")) == ("rejected", [])
    assert "the input of grow has 1200" in shown["steps"][0]["error"]


def test_the_errback_of_the_page_is_the_one_that_the_tests_run() -> None:
    """tests/other_team.py has it in a real worker."""
    page, app = PAGE.read_text(), (Path(__file__).parents[1] / "other_team.py").read_text()
    for line in ('told = {**answer, "error": f"{type(error).__name__}: {error}"}',
                 'app.send_task("orchestrator.failed", kwargs=told, exchange="orchestrator.answers", routing_key="landed")'):  # fmt: skip
        assert line in page
        assert line in app
