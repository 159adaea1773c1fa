from __future__ import annotations

from typing import Any

import pytest

from orchestrator import states
from orchestrator.lines import line


def entry(verb: str, *, step: str | None = "chargeFee", **more: Any) -> dict[str, Any]:
    plain = {"phase": "do", "status": "", "attempt": 1, "service": "achSvc.charge", "reason": None, "error": None}
    return {"verb": verb, "step": step, **plain, **more}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (entry("claim"), "chargeFee START"),
        (entry("claim", attempt=3), "chargeFee START attempt 3"),
        (entry("succeed"), "chargeFee DONE"),
        (entry("resolve"), "chargeFee DONE"),
        (entry("fail", error="no such account"), "chargeFee FAIL no such account"),
        (entry("fail", reason="expression"), "chargeFee FAIL expression"),
        (entry("retry", error="503"), "chargeFee RETRY 503"),
        (entry("skip", reason="condition"), "chargeFee SKIP"),
        (entry("skip", reason="timeout"), "chargeFee SKIP timeout"),
        (entry("escalate", service="achSvc.backup"), "chargeFee ESCALATE achSvc.backup"),
        (entry("claim", phase="undo", service="achSvc.refund"), "chargeFee COMPENSATE achSvc.refund"),
        (entry("fail", phase="undo", service="achSvc.refund", error="x"), "chargeFee FAIL achSvc.refund: x"),
    ],
)
def test_a_transition_reads_as_the_seed_has_it(given: dict[str, Any], said: str) -> None:
    assert line(given) == said


def test_a_wait_names_where_its_answer_goes() -> None:
    assert line(entry("park"), "http://here/callbacks/t/chargeFee?token=x") == (
        "chargeFee WAIT http://here/callbacks/t/chargeFee?token=x"
    )
    assert line(entry("park")) == "chargeFee WAIT"


@pytest.mark.parametrize("verb", ["open", "reopen"])
def test_a_block_that_is_never_claimed_starts_when_it_is_opened(verb: str) -> None:
    assert line(entry(verb, step="review", attempt=0, service=None)) == "review START"


def test_a_block_that_was_claimed_for_its_condition_does_not_start_twice() -> None:
    assert line(entry("claim", step="review", service=None)) == "review START"
    assert line(entry("open", step="review", service=None)) is None


def test_becoming_ready_is_nothing_to_read_about() -> None:
    assert line(entry("ready")) is None


def test_an_instance_tells_its_status_and_why() -> None:
    assert line(entry("fall", step=None, status="COMPENSATING", reason="failed")) == "FALL COMPENSATING (failed)"


def test_braces_in_an_error_are_no_placeholders() -> None:
    assert line(entry("fail", error='{"code": 7} {service}')) == 'chargeFee FAIL {"code": 7} {service}'


@pytest.mark.parametrize("phase", ["do", "undo"])
def test_every_verb_of_the_table_can_be_told(phase: str) -> None:
    told = {verb: line(entry(verb, phase=phase)) for verb in states.STEP}
    assert all(said is None or said.startswith("chargeFee ") for said in told.values())
