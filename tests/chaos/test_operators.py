"""The operators of a chaos run: what they order is obeyed, and nothing that they have suspended is left so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.system import System
from tests import flights
from tests.chaos.run import operators, options
from tests.chaos.run.operators import Operators, is_done
from tests.chaos.run.options import Options

pytestmark = [pytest.mark.chaos]

WAITS = "id: waits\nsteps: [{id: a, pause: true}]"
FALLS = "id: falls\nsteps: [{id: halt, fail: wanted}]"


def test_an_effect_is_looked_up_in_the_ledger_by_its_key(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    lines = [{"what": "call", "key": "t:mail:g1:do"}, {"what": "effect", "key": "t:note:g1:do"}]
    ledger.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert is_done(ledger, "t:note:g1:do")
    assert not is_done(ledger, "t:mail:g1:do")


def verbs(shown: dict[str, Any]) -> list[str]:
    return [entry["verb"] for entry in shown["history"]]


@pytest.fixture
def people(worker: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operators]:
    monkeypatch.setattr(options, "TENANTS", (worker.settings.tenant,))
    monkeypatch.setattr(operators, "headers", lambda _: {})
    with flights.web_process(worker) as url:
        settings = replace(worker.settings, public_url=url)
        arena = SimpleNamespace(settings=settings, options=Options(seconds=1, seed=1), ledger=tmp_path / "ledger.jsonl")
        yield Operators(arena)  # type: ignore[arg-type]


@pytest.mark.integration
def test_what_is_suspended_is_resumed_in_the_end_whoever_suspended_it(worker: System, people: Operators) -> None:
    flights.define(worker, WAITS)
    instances = [flights.start(worker, "waits", {}) for _ in range(2)]
    for one in instances:
        flights.reached(worker, one, "WAITING")
        people._order("suspend", one, worker.settings.tenant)
        flights.reached(worker, one, "SUSPENDED")
    people._resume_all()
    for one in instances:
        flights.reached(worker, one, "WAITING")
    people._suspend()
    assert people.orders.answered["suspend", 202] == 3
    people._resume(float("inf"))
    assert people.orders.answered["resume", 202] == 3


@pytest.mark.integration
def test_what_fell_is_retried_once(worker: System, people: Operators) -> None:
    flights.define(worker, FALLS)
    instance = flights.start(worker, "falls", {})
    flights.ended(worker, instance)
    people._retry()
    flights.until(lambda: "restart" in verbs(flights.status(worker, instance)), "a second life")
    flights.ended(worker, instance)
    people._retry()
    assert people.orders.answered == {("retry", 202): 1}
