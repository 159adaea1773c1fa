"""What a log line looks like: on a console as in the seed, or as JSON; each with its trace."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import logs
from orchestrator.rows import Entry, Header
from orchestrator.settings import Settings

HEADER = Header(id="a" * 32, tenant="city", workflow_id="permit", version_id="b" * 32, version=1)
DONE = Entry(seq=3, verb="succeed", status="SUCCEEDED", step="chargeFee", phase="do", attempt=1, generation=1)
REFUSED = Entry(seq=4, verb="fail", status="FAILED", step="chargeFee", phase="do", attempt=1, error="no money")
READY = Entry(seq=1, verb="ready", status="READY", step="chargeFee", phase="do", attempt=0)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield io.StringIO()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def told(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_console_says_it_as_the_seed_does(stream: io.StringIO) -> None:
    logs.configure(Settings(log_format="console"), stream)
    logs.tell(HEADER, [READY, DONE, REFUSED])
    assert stream.getvalue().splitlines() == [
        f"[{HEADER.id}] chargeFee DONE",
        f"[{HEADER.id}] chargeFee FAIL no money",
    ]


def test_json_has_the_trace_and_what_happened_as_fields(stream: io.StringIO) -> None:
    logs.configure(Settings(log_format="json"), stream)
    logs.tell(HEADER, [DONE, REFUSED])
    first, second = told(stream)
    assert (first["trace"], first["step"], first["verb"], first["level"]) == (HEADER.id, "chargeFee", "succeed", "info")
    assert (second["event"], second["level"]) == ("chargeFee FAIL no money", "error")


def test_what_a_lane_logs_while_it_is_called_carries_the_trace(stream: io.StringIO) -> None:
    logs.configure(Settings(log_format="json"), stream)
    with logs.about(trace=HEADER.id, step="chargeFee", tenant="city"):
        logging.getLogger("somebody.elses.lane").warning("the bank is slow")
    logging.getLogger("somebody.elses.lane").warning("later")
    inside, outside = told(stream)
    assert (inside["trace"], inside["step"], inside["event"]) == (HEADER.id, "chargeFee", "the bank is slow")
    assert "trace" not in outside


def test_an_exception_is_shown_with_its_trace(stream: io.StringIO) -> None:
    logs.configure(Settings(log_format="console"), stream)
    try:
        raise LookupError("no such bank")  # noqa: TRY301  # how it is shown is the test
    except LookupError:
        with logs.about(trace=HEADER.id, step="chargeFee", tenant="city"):
            logging.getLogger("a.lane").exception("the lane broke")
    first, *rest = stream.getvalue().splitlines()
    assert first == f"[{HEADER.id}] chargeFee the lane broke"
    assert rest[-1] == "LookupError: no such bank"
