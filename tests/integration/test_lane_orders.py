"""Lanes as operators see them: over REST, at the console, on the page, and in the metrics."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from orchestrator import lane_orders, queries
from orchestrator.api.app import create_app
from orchestrator.commands import lanes
from orchestrator.store.lanes import lock, write
from orchestrator.system import System
from tests import flights

pytestmark = pytest.mark.integration


@pytest.fixture
def api(system: System) -> FlaskClient:
    return create_app(system).test_client()


def shown(api: FlaskClient, name: str = "fileSvc") -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in api.get("/api/lanes").json["items"] if one["name"] == name)  # type: ignore[index]
    return found


def open_breaker(system: System, name: str = "fileSvc") -> None:
    with system.database.transaction() as connection:
        states, now = lock(connection, [name])
        write(connection, [replace(states[name], failures=10, opened_at=now, open_until=now)])


def test_a_lane_is_held_and_released_over_rest(api: FlaskClient) -> None:
    assert shown(api)["held"] is None
    answer = api.post("/api/lanes/fileSvc/hold", json={"why": "migration"})
    assert answer.status_code == 200
    assert answer.json == shown(api)
    assert (shown(api)["held"]["by"], shown(api)["held"]["why"]) == ("local", "migration")
    assert api.post("/api/lanes/fileSvc/release").status_code == 200
    assert shown(api)["held"] is None


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("nothing/hold", {}, 404),
        ("nothing/release", None, 404),
        ("fileSvc/hold", {"reason": "mistyped"}, 400),
        ("fileSvc/hold", {"why": "x" * 501}, 400),
        ("fileSvc/hold", {"why": "a\0b"}, 400),
    ],
)
def test_what_does_not_fit_is_refused_and_says_why(api: FlaskClient, path: str, body: Any, status: int) -> None:
    answer = api.post(f"/api/lanes/{path}", json=body)
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert "detail" in answer.get_json(force=True)


def test_release_closes_a_breaker_that_is_open(system: System, api: FlaskClient) -> None:
    open_breaker(system)
    assert shown(api)["breaker"]["state"] == "probing"
    assert api.post("/api/lanes/fileSvc/release").json["breaker"] is None  # type: ignore[index]


@pytest.fixture
def console(system: System, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setattr(lanes, "connect", lambda _: system)
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    return CliRunner()


def test_a_lane_is_held_listed_and_released_at_the_console(console: CliRunner) -> None:
    assert console.invoke(lanes.hold, ["fileSvc", "--why", "migration"]).output == "held by ada: migration\n"
    listed = console.invoke(lanes.lanes).output.splitlines()
    assert listed[0].split() == ["LANE", "TRANSPORT", "CONCURRENCY", "RATE", "IN", "FLIGHT", "WAITING", "STATE"]
    assert any(line.startswith("fileSvc ") and line.endswith("held by ada: migration") for line in listed)
    assert console.invoke(lanes.release, ["fileSvc"]).output == "in service\n"


def test_the_console_prints_the_lanes_as_json(console: CliRunner, system: System) -> None:
    found = json.loads(console.invoke(lanes.lanes, ["--json"]).output)
    assert [one["name"] for one in found] == sorted(system.lanes)


def test_a_breaker_shows_on_the_page_and_in_the_metrics(system: System, api: FlaskClient) -> None:
    open_breaker(system)
    assert "Breaker probing" in api.get("/ui/lanes").text
    assert 'orchestrator_lane_breaker_open{lane="fileSvc"} 1' in queries.metrics(system)


def test_the_page_holds_and_releases_a_lane(system: System, api: FlaskClient) -> None:
    held = api.post("/ui/lanes/fileSvc/hold", data={"why": "migration"}, follow_redirects=True)
    assert "Lane fileSvc is held" in held.text
    assert "by local: migration" in held.text
    assert 'orchestrator_lane_held{lane="fileSvc"} 1' in queries.metrics(system)
    assert "Lane fileSvc is released" in api.post("/ui/lanes/fileSvc/release", follow_redirects=True).text


def test_a_step_says_why_its_lane_does_not_take_it(system: System) -> None:
    lane_orders.hold(system, "fileSvc", by="ada")
    workflow = flights.define(system, "id: one\nsteps: [{id: only, service: fileSvc.upload}]\n")
    with flights.worker(system):
        instance = flights.start(system, workflow, {})
        step = flights.until(
            lambda: next((one for one in flights.status(system, instance)["steps"] if one["reason"]), None),
            "a reason of the step",
        )
    assert (step["status"], step["reason"], step["attempt"]) == ("READY", "held", 0)
