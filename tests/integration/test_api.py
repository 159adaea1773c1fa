"""The REST interface over the real engine and a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from orchestrator import engine, legs
from orchestrator.api.app import create_app
from orchestrator.bootstrap import compose
from orchestrator.changes import Changes
from orchestrator.errors import SettingsError
from orchestrator.settings import Settings
from orchestrator.store import instances
from orchestrator.system import System
from orchestrator.tokens import Wait
from tests import flights, servers
from tests.clock import Clock

pytestmark = pytest.mark.integration

# Nothing listens there: without a worker no step is called.
SERVICES = "services:\n  achSvc: {transport: http, url: 'http://127.0.0.1:9/', idempotency: key}\n"
FEE = """\
id: fee
title: Charge a fee
input: {type: object, required: [fee], properties: {fee: {type: number}}}
businessKey: payload.permitNo
steps:
  - id: chargeFee
    service: achSvc.charge
"""
APPROVAL = """\
id: approval
steps:
  - id: decide
    pause: true
    timeout: 48h
    onTimeout: fail
"""
START = "/api/workflows/start"
NOBODY = "0" * 32


@pytest.fixture
def system(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[System]:
    (tmp_path / "services.yaml").write_text(SERVICES)
    system = compose(
        Settings(
            auth="local",
            database_url=database_url,
            broker_url=broker_url,
            services_file=str(tmp_path / "services.yaml"),
            workflows_dir=str(tmp_path),
            data_dir=str(tmp_path),
            public_url="http://flights.example/base/",
        )
    )
    yield system
    system.database.close()


@pytest.fixture
def api(system: System) -> FlaskClient:
    return create_app(system).test_client()


@pytest.fixture
def fee(api: FlaskClient) -> str:
    """The id of a workflow with one step."""
    assert api.put("/api/definitions/fee", data=FEE).status_code == 201
    return "fee"


@pytest.fixture
def wait(api: FlaskClient, system: System) -> Wait:
    """An instance's step that waits for a decision."""
    assert api.put("/api/definitions/approval", data=APPROVAL).status_code == 201
    instance_id = started(api, "approval")
    with system.database.transaction() as connection:
        row = instances.find(connection, "local", instance_id)
    assert row is not None
    # What a worker would do when the message comes; run here, so that nothing has to be waited for.
    legs.run(system, [instance_id], version=row["version_id"].hex, start="decide", covered=frozenset())
    return Wait(trace=instance_id, step="decide", phase="do", generation=1)


def start(api: FlaskClient, workflow: str, key: str | None = None, **payload: Any) -> TestResponse:
    headers = {"Idempotency-Key": key} if key else {}
    body = {"workflowId": workflow, "payload": {"permitNo": "P-1", **payload}}
    return api.post(START, json=body, headers=headers)


def started(api: FlaskClient, workflow: str, **payload: Any) -> str:
    answer = start(api, workflow, **payload)
    assert answer.status_code == 201, answer.text
    instance_id: str = answer.get_json()["instanceId"]
    return instance_id


def problem(answer: TestResponse, status: int) -> dict[str, Any]:
    """The answer's problem document, once it is known to be one."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    document: dict[str, Any] = answer.get_json(force=True)
    assert {"type", "title", "status", "detail"} <= document.keys()
    assert document["status"] == status
    return document


# Starting


def test_a_start_answers_201_with_ids_and_where_to_look(api: FlaskClient, fee: str) -> None:
    answer = start(api, fee, fee=75)
    body = answer.get_json()
    assert answer.status_code == 201
    assert body["instanceId"] == body["traceId"]
    assert len(body["traceId"]) == 32
    assert body["status"] == "RUNNING"
    assert answer.headers["Location"] == f"http://flights.example/base/api/workflows/{body['instanceId']}/status"


def test_a_repeated_idempotency_key_answers_200_with_the_same_ids(api: FlaskClient, fee: str) -> None:
    first, second = start(api, fee, "maria-1", fee=75), start(api, fee, "maria-1", fee=75)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.get_json()["instanceId"] == second.get_json()["instanceId"]


def test_the_same_idempotency_key_with_another_body_is_a_conflict(api: FlaskClient, fee: str) -> None:
    start(api, fee, "maria-1", fee=75)
    problem(start(api, fee, "maria-1", fee=76), 409)


def test_an_unknown_workflow_is_not_found(api: FlaskClient) -> None:
    assert "nope" in problem(start(api, "nope"), 404)["detail"]


def test_a_payload_against_the_input_schema_is_refused_with_its_paths(api: FlaskClient, fee: str) -> None:
    document = problem(start(api, fee, fee="seventy-five"), 422)
    assert "fee" in document["errors"][0]["message"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"workflowId": "fee", "payload": {"fee": NaN}}', 400),
        (b'{"workflowId": "fee", "payload": [1]}', 400),
        (b'{"workflowId": "fee", "payload": {"name": "\\u0000"}}', 400),
        (b'{"payload": {}}', 400),
        (b'{"workflowId": "fee", "playload": {}}', 400),
        (b'"{\\"workflowId\\": \\"fee\\"}"', 400),
        (b"[]", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b'{"workflowId": "fee", "payload": {"x": ' + b"[" * 200 + b"]" * 200 + b"}}", 400),
        (b" " * 1_100_000, 413),
        (b'{"workflowId": "fee", "payload": {"x": "' + b"x" * 1_001_000 + b'"}}', 413),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(api: FlaskClient, fee: str, body: bytes, status: int) -> None:
    problem(api.post(START, data=body, content_type="application/json"), status)


def test_a_body_that_is_not_declared_as_json_is_refused(api: FlaskClient) -> None:
    problem(api.post(START, data='{"workflowId": "fee"}', content_type="text/plain"), 415)


# Looking


def test_a_status_has_the_documented_members(api: FlaskClient, fee: str) -> None:
    found = api.get(f"/api/workflows/{started(api, fee, fee=75, permitNo='P-1')}/status").get_json()
    assert {
        "instanceId",
        "traceId",
        "workflowId",
        "version",
        "status",
        "reason",
        "currentStep",
        "currentSteps",
        "started",
        "ended",
        "history",
        "compensations",
    } <= found.keys()
    assert (found["workflowId"], found["version"], found["currentStep"]) == ("fee", 1, "chargeFee")
    assert [entry["seq"] for entry in found["history"]] == list(range(1, len(found["history"]) + 1))


@pytest.mark.parametrize("instance_id", [NOBODY, "not-an-id", "a/../b"])
@pytest.mark.parametrize("part", ["status", "history", "logs"])
def test_an_unknown_instance_is_not_found(api: FlaskClient, instance_id: str, part: str) -> None:
    problem(api.get(f"/api/workflows/{instance_id}/{part}"), 404)


def test_instances_are_listed_newest_first_page_by_page(api: FlaskClient, fee: str) -> None:
    ids = [started(api, fee, fee=number) for number in range(3)]
    first = api.get("/api/workflows?limit=2").get_json()
    second = api.get("/api/workflows", query_string={"limit": 2, "cursor": first["cursor"]}).get_json()
    assert [one["instanceId"] for one in first["items"] + second["items"]] == ids[::-1]
    assert second["cursor"] is None


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("businessKey=P-1", 1),
        ("businessKey=P-2", 0),
        ("workflowId=fee", 1),
        ("workflowId=other", 0),
        ("status=RUNNING", 1),
        ("status=COMPLETED", 0),
    ],
)
def test_instances_are_found_by_what_is_asked(api: FlaskClient, fee: str, query: str, found: int) -> None:
    started(api, fee, fee=75, permitNo="P-1")
    assert len(api.get(f"/api/workflows?{query}").get_json()["items"]) == found


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=all", "status=%00"])
def test_a_query_that_makes_no_sense_is_refused(api: FlaskClient, query: str) -> None:
    problem(api.get(f"/api/workflows?{query}"), 400)


def test_an_unknown_state_is_refused_with_those_there_are(api: FlaskClient) -> None:
    # An empty list would look like "none is stuck".
    said = problem(api.get("/api/workflows?status=stuck"), 400)["detail"]
    assert said.startswith("status: must be one of RUNNING, WAITING")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"workflowId": "fee", "payload": []}, "payload: must be a JSON object, {…}"),
        ({"workflowID": "fee"}, "workflowId: is missing; workflowID: is unknown here (did you mean `workflowId`?)"),
        ({"workflowId": "fee", "tenant": "other"}, "tenant: is unknown here"),
    ],
)
def test_a_body_of_the_wrong_shape_is_told_in_words_of_json(api: FlaskClient, body: Any, said: str) -> None:
    assert problem(api.post(START, json=body), 400)["detail"] == said


def test_a_call_that_does_not_exist_is_told_where_the_others_are(api: FlaskClient) -> None:
    assert "/openapi.json" in problem(api.get("/api/nope"), 404)["detail"]
    assert problem(api.get(START), 405)["detail"] == f"GET is not for {START}: use POST."


def test_the_history_comes_in_pages_without_gaps(api: FlaskClient, fee: str) -> None:
    url = f"/api/workflows/{started(api, fee, fee=75)}/history"
    whole = api.get(url).get_json()["items"]
    pages: list[Any] = []
    page = api.get(f"{url}?limit=1").get_json()
    while page["cursor"]:
        pages += page["items"]
        assert len(pages) <= len(whole)
        page = api.get(url, query_string={"limit": 1, "cursor": page["cursor"]}).get_json()
    assert pages + page["items"] == whole


def test_the_log_comes_in_pages_and_leaves_out_what_nobody_has_to_read(api: FlaskClient, fee: str) -> None:
    url = f"/api/workflows/{started(api, fee, fee=75)}"
    api.post(f"{url}/cancel")
    entries = api.get(f"{url}/history").get_json()["items"]
    lines: list[Any] = []
    page = api.get(f"{url}/logs?limit=1").get_json()
    while page["cursor"]:
        lines += page["items"]
        page = api.get(f"{url}/logs", query_string={"limit": 1, "cursor": page["cursor"]}).get_json()
    told = [entry["seq"] for entry in entries if entry["line"]]
    assert [line["seq"] for line in lines + page["items"]] == told
    assert len(told) < len(entries), "a step that becomes READY is nothing to read about"


# Operating


def test_cancel_is_accepted_with_the_status_and_then_conflicts(api: FlaskClient, fee: str) -> None:
    url = f"/api/workflows/{started(api, fee, fee=75)}/cancel"
    accepted = api.post(url)
    assert (accepted.status_code, accepted.get_json()["status"]) == (202, "CANCELLED")
    assert problem(api.post(url), 409)["present"] == "CANCELLED"


def test_suspend_and_resume_go_there_and_back(api: FlaskClient, fee: str) -> None:
    url = f"/api/workflows/{started(api, fee, fee=75)}"
    assert api.post(f"{url}/suspend").get_json()["status"] == "SUSPENDED"
    assert api.post(f"{url}/resume").get_json()["status"] == "RUNNING"


def test_retrying_what_has_not_failed_conflicts_with_the_present_state(api: FlaskClient, fee: str) -> None:
    url = f"/api/workflows/{started(api, fee, fee=75)}/retry"
    assert problem(api.post(url), 409)["present"] == "RUNNING"


def test_resolving_a_step_that_is_not_unknown_is_a_conflict(api: FlaskClient, fee: str) -> None:
    url = f"/api/workflows/{started(api, fee, fee=75)}/steps/chargeFee/resolve"
    problem(api.post(url, json={"verdict": "succeeded", "result": 1}), 409)
    problem(api.post(url, json={"verdict": "perhaps"}), 400)


@pytest.mark.parametrize("verb", ["cancel", "retry", "suspend", "resume"])
def test_operating_on_nothing_is_not_found(api: FlaskClient, verb: str) -> None:
    problem(api.post(f"/api/workflows/{NOBODY}/{verb}"), 404)


# Callbacks


def test_a_wrong_callback_token_is_refused_before_anything_else_is_told(api: FlaskClient, fee: str) -> None:
    instance_id = started(api, fee, fee=75)
    for url in (f"/callbacks/{instance_id}/chargeFee", f"/callbacks/{instance_id}/nope", f"/callbacks/{NOBODY}/x"):
        answer = api.post(url, query_string={"token": "wrong"}, json={"decision": "approved"})
        assert problem(answer, 401)
        assert "Bearer" in answer.headers["WWW-Authenticate"]
        problem(api.post(url, headers={"X-Callback-Token": "wrong"}, json={"decision": "approved"}), 401)


def test_a_callback_to_a_step_that_was_not_reached_changes_nothing(api: FlaskClient, fee: str) -> None:
    instance_id = started(api, fee, fee=75)
    assert api.post(f"/callbacks/{instance_id}/chargeFee", json={"decision": "approved"}).status_code in (404, 409)
    assert api.get(f"/api/workflows/{instance_id}/status").get_json()["status"] == "RUNNING"


@pytest.mark.parametrize("place", ["query", "header", "nowhere"])
def test_a_waiting_step_is_decided_once_and_says_so_again(
    api: FlaskClient, system: System, wait: Wait, place: str
) -> None:
    token = system.tokens.make(wait)
    carried: dict[str, Any] = {
        "query": {"query_string": {"token": token}},
        "header": {"headers": {"X-Callback-Token": token}},
        "nowhere": {},
    }[place]
    url = f"/callbacks/{wait.trace}/decide"
    first, second = (api.post(url, json={"decision": "approved", "comment": "fine"}, **carried) for _ in range(2))
    assert first.get_json() == {"step": "decide", "decision": "approved", "repeated": False}
    assert (second.status_code, second.get_json()["repeated"]) == (200, True)
    assert problem(api.post(url, json={"decision": "rejected"}, **carried), 409)["present"] == "approved"
    assert api.get(f"/api/workflows/{wait.trace}/status").get_json()["status"] == "COMPLETED"


def test_a_callback_after_its_deadline_is_gone_and_the_timeout_stands(
    api: FlaskClient, system: System, wait: Wait, clock: Clock
) -> None:
    clock.advance(49 * 3600)
    problem(api.post(system.tokens.url("", wait), json={"decision": "approved"}), 410)
    assert api.get(f"/api/workflows/{wait.trace}/status").get_json()["status"] == "FAILED"


def test_a_callback_to_a_cancelled_instance_is_told_that_it_has_ended(
    api: FlaskClient, system: System, wait: Wait
) -> None:
    api.post(f"/api/workflows/{wait.trace}/cancel")
    answer = api.post(system.tokens.url("", wait), json={"decision": "approved"})
    assert problem(answer, 409)["present"] == "CANCELLED"


def test_following_a_callback_link_shows_a_page_and_decides_nothing(
    api: FlaskClient, system: System, wait: Wait
) -> None:
    page = api.get(system.tokens.url("", wait))
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "Approve" in page.text
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert api.get(f"/api/workflows/{wait.trace}/status").get_json()["status"] == "WAITING"
    assert api.get(f"/callbacks/{wait.trace}/decide?token=wrong").status_code == 401


def test_a_callback_token_needs_no_person_and_opens_nothing_else(api: FlaskClient, system: System, wait: Wait) -> None:
    abroad: dict[str, Any] = {"environ_overrides": {"REMOTE_ADDR": "10.0.0.1"}}
    url = system.tokens.url("", wait)
    problem(api.post(f"/callbacks/{wait.trace}/decide", json={"decision": "approved"}, **abroad), 403)
    problem(api.post(url.replace("decide", "other"), json={"decision": "approved"}, **abroad), 401)
    assert api.post(url, json={"decision": "approved"}, **abroad).status_code == 200


def test_a_decision_that_is_neither_yes_nor_no_is_refused(api: FlaskClient) -> None:
    problem(api.post(f"/callbacks/{NOBODY}/x", json={"decision": "perhaps"}), 400)


# Definitions


def test_a_definition_is_a_new_version_only_when_its_text_changes(api: FlaskClient, fee: str) -> None:
    again = api.put("/api/definitions/fee", data=FEE)
    changed = api.put("/api/definitions/fee", data=FEE.replace("Charge a fee", "Charge the fee"))
    assert [(one.status_code, one.get_json()["version"]) for one in (again, changed)] == [(200, 1), (201, 2)]
    assert changed.headers["Location"] == "http://flights.example/base/api/definitions/fee?version=2"


def test_a_definition_is_read_as_it_was_written(api: FlaskClient, fee: str) -> None:
    assert api.get("/api/definitions/fee").get_json()["text"] == FEE
    assert [one["id"] for one in api.get("/api/definitions").get_json()["items"]] == ["fee"]
    problem(api.get("/api/definitions/fee?version=2"), 404)
    problem(api.get("/api/definitions/nope"), 404)


@pytest.mark.parametrize(
    "call",
    [
        lambda api, text: api.put("/api/definitions/fee", data=text),
        lambda api, text: api.post("/api/definitions/validate", data=text),
    ],
)
def test_a_definition_with_errors_is_refused_with_their_places(api: FlaskClient, call: Any) -> None:
    error = problem(call(api, FEE.replace("service:", "servise:")), 422)["errors"][0]
    assert error.keys() == {"message", "line", "column", "hint"}
    assert (error["line"], error["column"]) == (7, 5)
    assert "service" in error["hint"]


def test_a_valid_definition_is_said_to_be_so_and_not_saved(api: FlaskClient) -> None:
    answer = api.post("/api/definitions/validate", data=FEE)
    assert (answer.status_code, answer.get_json()) == (200, {"valid": True, "errors": []})
    problem(api.get("/api/definitions/fee"), 404)


def test_a_definition_is_not_saved_under_another_id(api: FlaskClient) -> None:
    problem(api.put("/api/definitions/other", data=FEE), 400)


def test_a_definition_that_is_too_large_is_refused(api: FlaskClient) -> None:
    said = problem(api.put("/api/definitions/fee", data="#" * 300_000), 413)["detail"]
    assert "ORCHESTRATOR_MAX_DEFINITION" in said


def test_a_body_of_unknown_length_is_refused_rather_than_cut(api: FlaskClient) -> None:
    padded = (FEE + "#" * 300_000).encode()
    chunked = {"wsgi.input": BytesIO(padded), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    problem(api.put("/api/definitions/fee", environ_overrides=chunked), 413)
    problem(api.get("/api/definitions/fee"), 404)


# Operations and errors


def test_health_needs_nobody_and_asks_nobody(api: FlaskClient) -> None:
    answer = api.get("/healthz", headers={"Host": "10.0.0.7"}, environ_overrides={"REMOTE_ADDR": "10.0.0.1"})
    assert (answer.status_code, answer.get_json()) == (200, {"ok": True})


def test_metrics_are_in_the_form_that_prometheus_reads(api: FlaskClient, fee: str) -> None:
    started(api, fee, fee=75)
    answer = api.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    assert "# TYPE" in answer.text


def test_a_start_asks_to_come_back_while_the_database_takes_no_writes(
    api: FlaskClient, system: System, fee: str
) -> None:
    with system.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as outside:
        name = outside.execute(text("SELECT current_database()")).scalar_one()
        outside.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    system.database.engine.dispose()

    answer = start(api, fee, fee=75)

    assert problem(answer, 503)["title"] == "The database does not answer"
    assert "Retry-After" in answer.headers


def test_ready_turns_into_503_and_calls_ask_to_come_back_when_the_database_goes(
    api: FlaskClient, fee: str, postgres_server: str, database_url: str
) -> None:
    assert api.get("/readyz").status_code == 200
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        name = servers.database_name(database_url)
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND datname = %s",
            [name],
        )
    assert problem(api.get("/readyz"), 503)["database"] is False
    answer = start(api, fee, fee=75)
    problem(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", START, 405),
        ("DELETE", "/healthz", 405),
        ("PUT", "/callbacks/a/b", 405),
        ("GET", "/ui/nope", 404),
    ],
)
def test_every_error_is_a_problem_document(api: FlaskClient, method: str, path: str, status: int) -> None:
    problem(api.open(path, method=method), status)


def test_a_stranger_is_refused(api: FlaskClient) -> None:
    problem(api.get("/api/workflows", headers={"Host": "evil.example"}), 403)
    problem(api.get("/ui", environ_overrides={"REMOTE_ADDR": "10.0.0.1"}), 403)
    problem(api.post(f"/api/workflows/{NOBODY}/cancel", headers={"Origin": "https://evil.example"}), 403)


def test_the_description_names_every_call_and_how_it_fails(api: FlaskClient) -> None:
    described = api.get("/openapi.json").get_json()
    rules = {rule.rule.replace("<", "{").replace(">", "}") for rule in api.application.url_map.iter_rules()}
    served = {rule for rule in rules if rule.startswith("/api/")} | {
        "/callbacks/{trace}/{step}",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    assert described["paths"].keys() == served
    for operations in described["paths"].values():
        for operation in operations.values():
            assert "application/problem+json" in operation["responses"]["400"]["content"]


def test_the_description_can_be_read_without_another_server(api: FlaskClient) -> None:
    page = api.get("/swagger")
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text


def test_nothing_is_served_while_no_keys_are_known(system: System) -> None:
    with pytest.raises(SettingsError, match="ORCHESTRATOR_JWKS"):
        create_app(replace(system, settings=replace(system.settings, auth="jwt")))


# Orders by filter


BULK = "/api/workflows/bulk"


def test_a_bulk_order_answers_with_what_was_done_and_what_refused(api: FlaskClient, fee: str) -> None:
    first, second = started(api, fee, fee=1), started(api, fee, fee=2)
    api.post(f"/api/workflows/{first}/suspend")
    answer = api.post(BULK, json={"action": "suspend", "filter": {"workflowId": fee}})
    assert answer.status_code == 200
    body = answer.get_json()
    assert (body["matched"], body["done"], body["more"], body["cursor"]) == (2, 1, False, None)
    assert [one["instanceId"] for one in body["refused"]] == [first]
    assert [(one["instanceId"], one["status"]) for one in body["items"]] == [
        (second, "SUSPENDED"),
        (first, "SUSPENDED"),
    ]


def test_a_bulk_order_may_be_tried_dry_and_bounded(api: FlaskClient, fee: str) -> None:
    first, second = started(api, fee, fee=1), started(api, fee, fee=2)
    order = {"action": "cancel", "filter": {"status": "RUNNING", "since": "1h"}, "dryRun": True, "limit": 1}
    body = api.post(BULK, json=order).get_json()
    assert (body["matched"], body["done"], body["more"]) == (1, 0, True)
    following = api.post(BULK, json={**order, "cursor": body["cursor"]}).get_json()
    assert [one["instanceId"] for one in body["items"] + following["items"]] == [second, first]
    assert api.get(f"/api/workflows/{first}/status").get_json()["status"] == "RUNNING"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"action": "cancel", "filter": {}}, "the filter is empty"),
        ({"action": "cancel"}, "filter: is missing"),
        ({"action": "resolve", "filter": {"status": "STUCK"}}, "action"),
        ({"action": "cancel", "filter": {"state": "STUCK"}}, "unknown here"),
        ({"action": "cancel", "filter": {"status": "LOST"}}, "must be one of"),
        ({"action": "cancel", "filter": {"since": "soon"}}, "neither a moment"),
        ({"action": "cancel", "filter": {"late": True}, "limit": 1001}, "limit"),
        ({"action": "cancel", "filter": {"late": True}, "cursor": "x"}, "not a cursor"),
    ],
)
def test_a_bulk_order_that_cannot_be_read_is_refused_with_the_mend(
    api: FlaskClient, body: dict[str, Any], said: str
) -> None:
    assert said in problem(api.post(BULK, json=body), 400)["detail"]


def test_the_list_takes_the_same_filter(api: FlaskClient, fee: str) -> None:
    first = started(api, fee, fee=1)
    assert api.get(f"/api/workflows?since=1h&workflowId={fee}").get_json()["items"][0]["instanceId"] == first
    for query in ("lane=achSvc", "late=true", "stuck=1", "until=1h", "reason=failed"):
        assert api.get(f"/api/workflows?{query}").get_json()["items"] == [], query
    problem(api.get("/api/workflows?since=soon"), 400)


# Waiting for a change


def test_a_status_may_be_awaited(api: FlaskClient, system: System, fee: str) -> None:
    instance = started(api, fee, fee=1)
    with ThreadPoolExecutor(1) as pool:
        path = f"/api/workflows/{instance}/status?wait=60s"  # longer than our patience: who is not woken fails the test
        answer = pool.submit(lambda: api.application.test_client().get(path))
        _watched(system)
        orders = cycle((engine.suspend, engine.resume))

        def is_answered() -> bool:
            next(orders)(
                system, tenant="local", instance_id=instance
            )  # once more, where it has looked only after the first
            return bool(futures.wait([answer], timeout=2).done)

        flights.until(is_answered, "the answer")
        assert answer.result().status_code == 200
    api.application.extensions["changes"].close()


def test_a_number_of_the_history_may_be_awaited_and_may_be_past_already(api: FlaskClient, fee: str) -> None:
    instance = started(api, fee, fee=1)
    seen = api.get(f"/api/workflows/{instance}/status").get_json()["history"][-1]["seq"]
    assert api.get(f"/api/workflows/{instance}/status?wait=30s&since={seen - 1}").status_code == 200
    assert api.get(f"/api/workflows/{instance}/status?wait=100ms&since={seen}").get_json()["history"][-1]["seq"] == seen
    api.application.extensions["changes"].close()


def test_an_instance_that_has_ended_is_answered_at_once(api: FlaskClient, fee: str) -> None:
    instance = started(api, fee, fee=1)
    api.post(f"/api/workflows/{instance}/cancel")
    assert api.get(f"/api/workflows/{instance}/status?wait=60s").get_json()["status"] == "CANCELLED"
    api.application.extensions["changes"].close()


def test_too_many_who_wait_are_told_to_come_again(api: FlaskClient, system: System, fee: str) -> None:
    instance = started(api, fee, fee=1)
    api.application.extensions["changes"] = Changes(system.database, limit=0)
    answer = api.get(f"/api/workflows/{instance}/status?wait=1s")
    problem(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0


def test_a_wait_that_is_no_duration_or_no_instance_is_refused(api: FlaskClient, fee: str) -> None:
    instance = started(api, fee, fee=1)
    assert "wait" in problem(api.get(f"/api/workflows/{instance}/status?wait=long"), 400)["detail"]
    problem(api.get(f"/api/workflows/{NOBODY}/status?wait=1s"), 404)
    api.application.extensions["changes"].close()


def _watched(system: System) -> None:
    def watched() -> bool:
        with system.database.transaction() as connection:
            return bool(connection.exec_driver_sql("SELECT count(*) FROM watching").scalar_one())

    flights.until(watched, "that somebody watches")


# Completions


def test_a_completion_url_that_is_not_allowed_is_refused(api: FlaskClient, fee: str) -> None:
    body = {"workflowId": fee, "payload": {"permitNo": "P-1", "fee": 1}, "completionUrl": "http://169.254.169.254/"}
    document = problem(api.post(START, json=body), 422)
    assert "169.254.169.254 is not an allowed host" in document["errors"][0]["message"]
    assert "ORCHESTRATOR_WEBHOOK_HOSTS" in document["errors"][0]["hint"]
    assert api.get("/api/workflows").get_json()["items"] == []
