"""Local lanes: what a module's function may return and raise, and what the engine is told."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.lane import Call, Lane, Reply
from orchestrator.lanes.caller import Caller

MODULE = "lane_of_the_test"
Calls = Callable[..., Reply]

SOURCE = """
from decimal import Decimal
from math import floor
from json import dumps

from orchestrator.lanes.local import LATER, Rejected, Refused

number = 7


class Thing: ...


def echo(call): return {"input": call.input, "payload": call.payload, "key": call.key, "attempt": call.attempt}
def nothing(call): return None
def pair(call): return ("a", {1: "b"})
def later(call): return LATER
def reject(call): raise Rejected("no such account")
def reject_silently(call): raise Rejected
def refuse(call): raise Refused("busy", retry_after=2.5)
def refuse_oddly(call): raise Refused("busy", retry_after=float(call.payload["wait"]))
def divide(call): return 1 / 0
def nul(call): raise ValueError("a \\0 and \\ud800")
def long(call): raise ValueError("x" * 100_000)
def recurse(call): return recurse(call)
def leave(call): raise SystemExit(3)
def interrupt(call): raise KeyboardInterrupt
def no_memory(call): raise MemoryError
def a_set(call): return {1, 2}
def raw(call): return b"bytes"
def decimal(call): return Decimal("1.5")
def nan(call): return {"x": float("nan")}
def nul_reply(call): return "\\0"
def surrogate(call): return "\\ud800"
def big(call): return "x" * 1_000_001
def _private(call): return 1
lambda_ = lambda call: 1


def deep(call):
    value = []
    for _ in range(65):
        value = [value]
    return value


def endless(call):
    value = []
    value.append(value)
    return value


class Unprintable(Exception):
    def __str__(self): raise RuntimeError


def unprintable(call): raise Unprintable
async def coroutine(call): return 1
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """Calls an operation of a module made for this test."""
    (tmp_path / f"{MODULE}.py").write_text(textwrap.dedent(SOURCE), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    lane = Lane(name="testSvc", transport="local", module=MODULE)

    def call(operation: str, payload: Any = None) -> Reply:
        return Caller().call(
            lane,
            Call(
                tenant="city",
                trace="0" * 32,
                step="s",
                lane="testSvc",
                operation=operation,
                key="k:s:g1:do",
                attempt=3,
                payload=payload or {"fee": 75},
                input={"amount": 1},
                timeout=1,
            ),
        )

    yield call
    sys.modules.pop(MODULE, None)


def test_an_operation_is_given_the_call_and_its_json_is_the_output(call: Calls) -> None:
    assert call("echo") == Reply(
        outcome="done", output={"input": {"amount": 1}, "payload": {"fee": 75}, "key": "k:s:g1:do", "attempt": 3}
    )


def test_none_is_an_output(call: Calls) -> None:
    assert call("nothing") == Reply(outcome="done", output=None)


def test_the_output_is_what_another_process_would_read(call: Calls) -> None:
    assert call("pair").output == ["a", {"1": "b"}]


def test_later_means_by_callback(call: Calls) -> None:
    assert call("later") == Reply(outcome="done", later=True)


def test_rejected_is_final_and_says_why(call: Calls) -> None:
    assert call("reject") == Reply(outcome="rejected", error="no such account")
    assert call("reject_silently") == Reply(outcome="rejected", error="Rejected")


def test_refused_did_nothing_and_says_when_to_come_back(call: Calls) -> None:
    assert call("refuse") == Reply(outcome="refused", error="busy", retry_after=2.5)


@pytest.mark.parametrize(("wait", "believed"), [("nan", None), ("-1", None), ("inf", 86_400.0), ("1e9", 86_400.0)])
def test_a_wait_that_makes_no_sense_is_bounded(call: Calls, wait: str, believed: float | None) -> None:
    assert call("refuse_oddly", {"wait": wait}).retry_after == believed


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ("divide", "ZeroDivisionError: division by zero"),
        ("nul", "ValueError: a \ufffd and ?"),
        ("recurse", "RecursionError: maximum recursion depth exceeded"),
        ("unprintable", "Unprintable: (its text cannot be shown)"),
    ],
)
def test_any_other_error_leaves_a_doubt(call: Calls, operation: str, said: str) -> None:
    assert call(operation) == Reply(outcome="uncertain", error=said)


def test_a_long_error_is_cut(call: Calls) -> None:
    assert len(call("long").error or "") < 2_100


@pytest.mark.parametrize(
    "operation", ["a_set", "raw", "decimal", "nan", "nul_reply", "surrogate", "big", "deep", "endless"]
)
def test_an_output_that_cannot_be_kept_is_uncertain_and_not_repeated(call: Calls, operation: str) -> None:
    reply = call(operation)
    assert (reply.outcome, reply.may_retry, reply.output) == ("uncertain", False, None)
    assert "the operation was carried out" in (reply.error or "")


@pytest.mark.parametrize(
    "operation",
    ["_private", "number", "Thing", "LATER", "Rejected", "floor", "dumps", "coroutine", "__doc__", "absent"],
)
def test_only_public_functions_of_the_module_itself_are_operations(call: Calls, operation: str) -> None:
    reply = call(operation)
    assert reply.outcome == "rejected"
    assert f"lane `testSvc` has no operation `{operation}` in module {MODULE}" in (reply.error or "")


def test_an_operation_misspelt_is_told_the_right_name(call: Calls) -> None:
    assert "did you mean `refuse`?" in (call("refuze").error or "")


def test_a_module_that_is_gone_is_rejected_not_raised() -> None:
    lane = Lane(name="goneSvc", transport="local", module="no_such_module_here")
    reply = Caller().call(
        lane,
        Call(
            tenant="t",
            trace="0" * 32,
            step="s",
            lane="goneSvc",
            operation="go",
            key="k",
            attempt=1,
            payload={},
            input={},
            timeout=1,
        ),
    )
    assert reply.outcome == "rejected"
    assert "no_such_module_here" in (reply.error or "")


@pytest.mark.parametrize(
    ("operation", "name"), [("leave", "SystemExit"), ("interrupt", "KeyboardInterrupt"), ("no_memory", "MemoryError")]
)
def test_what_would_end_a_program_ends_a_call_only(call: Calls, operation: str, name: str) -> None:
    """In a worker's thread it would else leave the step to its lease, and quarantine it as if it killed workers."""
    reply = call(operation)
    assert reply.outcome == "uncertain"
    assert name in (reply.error or "")
