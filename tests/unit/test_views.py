"""Views of flights in memory, read as the store gives them: rows as mappings, with the columns that are never loaded."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator import approvals, views
from orchestrator.approvals import Answer
from orchestrator.definition import Retry
from tests.unit.flying import DONE, EPOCH, TRACE, Flight, block, gate, reply, service

UNTOLD = {"completion_url": None, "completion_life": 0, "completion_tries": 0, "completion_due_at": None,
          "completion_error": None}  # fmt: skip
FORGOTTEN: dict[str, Any] = {"output": None, "error": None, "comment": None, "decided_by": None}


def shown(flight: Flight, **outputs: Any) -> dict[str, Any]:
    """What `GET …/status` answers; `outputs` of steps by id."""
    header = asdict(flight.header) | {"id": UUID(flight.header.id), "payload": {"fee": 75}} | UNTOLD
    rows = [asdict(row) | FORGOTTEN | {"output": outputs.get(row.step)} for row in flight.rows.values()]
    history = [told(entry, flight) for entry in flight.history]
    found = views.status(
        header, flight.plan, rows, history, lambda one: f"http://127.0.0.1/callbacks/{TRACE}/{one['step']}"
    )
    assert json.loads(json.dumps(found)) == found, "it is JSON"
    return found


def told(entry: Any, flight: Flight) -> dict[str, Any]:
    return asdict(entry) | {"time": flight.now, "instance_id": UUID(TRACE), "workflow_id": "flight"}


def step(answer: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in answer["steps"] if one["step"] == name)
    return found


def test_an_instance_is_told_with_its_ids_and_where_it_stands() -> None:
    found = shown(Flight.of(service("a"), title="Permit"))
    assert (found["instanceId"], found["traceId"], found["workflowId"], found["title"]) == (
        TRACE,
        TRACE,
        "flight",
        "Permit",
    )
    assert (found["status"], found["currentStep"], found["started"], found["ended"]) == (
        "RUNNING",
        "a",
        EPOCH.isoformat(),
        None,
    )


def test_the_current_step_is_the_first_active_one_in_the_order_of_the_definition() -> None:
    flight = Flight.of(block("par", (service("a"), service("b")), service("c")), service("d"))
    flight.run("a")
    found = shown(flight)
    assert (found["currentStep"], found["currentSteps"]) == ("b", ["b", "c"])


def test_at_the_end_there_is_no_current_step() -> None:
    flight = Flight.of(service("a"))
    flight.run("a")
    found = shown(flight)
    assert (found["status"], found["currentStep"], found["currentSteps"]) == ("COMPLETED", None, [])
    assert found["ended"] is not None


def test_a_step_that_is_being_undone_is_current() -> None:
    flight = Flight.of(service("a", undo="key.ua"), service("last"))
    flight.run("a")
    flight.fall()
    assert shown(flight)["currentSteps"] == ["a"]


def test_a_block_that_nobody_wrote_is_shown_to_nobody() -> None:
    flight = Flight.of(block("par", service("a"), service("b"), written=False), service("c"))
    found = shown(flight)
    assert [one["step"] for one in found["steps"]] == ["a", "b"]
    assert "par" not in found["currentSteps"]


def test_the_history_has_an_entry_a_transition_in_order_with_its_line() -> None:
    flight = Flight.of(service("a"))
    flight.run("a")
    history = shown(flight)["history"]
    assert [(one["seq"], one["verb"], one["status"]) for one in history] == [
        (1, "start", "RUNNING"), (2, "ready", "READY"), (3, "claim", "RUNNING"), (4, "succeed", "SUCCEEDED"),
        (5, "complete", "COMPLETED"),
    ]  # fmt: skip
    assert [one["line"] for one in history][2:4] == ["a START", "a DONE"]
    assert (history[3]["result"], history[3]["error"], history[3]["attempt"]) == (DONE.output, None, 1)


@pytest.mark.parametrize(
    ("output", "result"), [({"result": 7, "more": 1}, 7), ({"id": 7}, {"id": 7}), (None, None), ([1], [1])]
)
def test_a_result_is_the_member_of_that_name_or_the_whole_reply(output: Any, result: Any) -> None:
    flight = Flight.of(service("a"), service("b"))
    flight.run("a", reply("done", output=output))
    assert step(shown(flight, a=output), "a")["result"] == result


def test_a_waiting_step_shows_its_deadline_and_where_to_answer_and_nothing_of_it_afterwards() -> None:
    flight = Flight.of(service("a", pause=True, timeout=60.0), service("b"))
    flight.run("a")
    waiting = step(shown(flight), "a")
    due = (EPOCH + timedelta(seconds=60)).isoformat()
    assert (waiting["deadline"], waiting["retryAt"], waiting["callbackUrl"]) == (
        due,
        None,
        f"http://127.0.0.1/callbacks/{TRACE}/a",
    )
    flight.on("a", approvals.decide, answer=Answer(decision="approved"))
    decided = step(shown(flight), "a")
    assert (decided["deadline"], decided["retryAt"], decided["decision"]) == (None, None, "approved")
    assert "callbackUrl" not in decided


def test_a_step_between_two_attempts_shows_when_the_next_one_is() -> None:
    flight = Flight.of(service("a", retry=Retry(backoff=8, jitter=False)))
    flight.run("a", reply("refused"))
    found = step(shown(flight), "a")
    assert (found["status"], found["retryAt"], found["worker"]) == (
        "RETRYING",
        (EPOCH + timedelta(seconds=8)).isoformat(),
        None,
    )


def test_only_a_running_step_shows_its_worker() -> None:
    flight = Flight.of(service("a"), service("b"))
    flight.claim("a")
    assert step(shown(flight), "a")["worker"] == "w1"


def test_compensations_are_told_in_the_order_in_which_they_are_undone() -> None:
    flight = Flight.of(service("a", undo="key.ua"), service("b"), service("c", undo="key.uc"), service("last"))
    for name in "abc":
        flight.run(name)
    flight.fall()
    flight.run("c", phase="undo")
    told = [
        (one["step"], one["service"], one["status"], one["state"], one["attempt"])
        for one in shown(flight)["compensations"]
    ]
    assert told == [("c", "key.uc", "COMPENSATED", "SUCCEEDED", 1), ("a", "key.ua", "COMPENSATING", "READY", 0)]


def test_a_compensation_that_has_not_begun_is_told_too() -> None:
    flight = Flight.of(service("a", undo="key.ua"), service("b", undo="key.ub"), service("last"))
    flight.run("a")
    flight.run("b")
    flight.fall()
    last = shown(flight)["compensations"][-1]
    assert (last["step"], last["service"], last["status"], last["state"], last["attempt"]) == (
        "a",
        "key.ua",
        "COMPENSATING",
        None,
        0,
    )


def test_a_flight_that_was_never_undone_has_no_compensations() -> None:
    flight = Flight.of(service("a", undo="key.ua"), gate("b"))
    flight.run("a")
    assert shown(flight)["compensations"] == []


@pytest.mark.parametrize(("result", "level"), [
    (DONE, "info"), (reply("refused"), "warning"), (reply("rejected"), "error"), (reply("uncertain"), "error")])  # fmt: skip
def test_a_log_line_names_the_trace_and_how_grave_it_is(result: Any, level: str) -> None:
    flight = Flight.of(service("a", "none.a"), service("b"))
    flight.run("a", result)
    entry = next(one for one in flight.history if one.attempt == 1 and one.verb != "claim")
    line = views.log_line(told(entry, flight))
    assert line is not None
    assert (line["level"], line["line"].startswith(f"[{TRACE}] a "), line["seq"]) == (level, True, entry.seq)


def test_steps_are_told_in_definition_order_and_then_by_iteration() -> None:
    flight = Flight.of(service("a"), service("b"))
    rows = [asdict(row) | FORGOTTEN for row in flight.rows.values()]
    many = [rows[0] | {"step": name, "order": order} for name, order in
            (("b", 1), ("a[10]", 0), ("a[2][1]", 0), ("a[2][0]", 0))]  # fmt: skip
    header = asdict(flight.header) | {"id": UUID(flight.header.id), "payload": {}} | UNTOLD
    found = views.status(header, None, many, [], lambda _: "")
    assert [one["step"] for one in found["steps"]] == ["a[2][0]", "a[2][1]", "a[10]", "b"]
    assert found["currentSteps"] == ["a[2][0]", "a[2][1]", "a[10]", "b"]


def test_a_child_names_the_instance_and_the_step_that_have_started_it() -> None:
    flight = Flight.of(service("a"))
    header = (
        asdict(flight.header) | {"id": UUID(flight.header.id), "payload": {}, "parent_step": "inspection[1]"} | UNTOLD
    )
    found = views.status(header | {"parent_id": UUID(int=7)}, flight.plan, [], [], lambda _: "")
    assert found["parent"] == {"instanceId": UUID(int=7).hex, "step": "inspection[1]"}
    assert shown(flight)["parent"] is None
