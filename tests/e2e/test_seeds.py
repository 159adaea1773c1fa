"""The two documents that this project was asked for, told as they tell it: each of their samples does here what it does
there, in their order, through the command line, HTTP and a browser alone.

First Maria's short-term rental permit ("Workflow Orchestrator"), then Jane Doe's building permit ("Workflow
Orchestration"). The stack is `orchestrator up` with two workers.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from orchestrator.servers import running_stack
from orchestrator.servers.descendants import descendants
from tasks import permit_svc
from tasks.ledger import folder
from tests import flights, held_lane, services
from tests import tower as towers
from tests.integration.test_lane_event import subscribed
from tests.processes import wait_until
from tests.services import Service
from tests.tower import DAY, ROOT, Tower, call, letters, money, papers

pytestmark = pytest.mark.e2e

MARIA = json.loads((ROOT / "samples" / "permit-renewal.json").read_text(encoding="utf-8"))
REVOKED = {**MARIA, "permitNo": "P-1313"}
# Beside the lanes of the repository: one that a test can hold up, the event bus, and a micro-service over HTTP.
LANES = """
  held: {{transport: local, module: tests.held_lane, timeout: 60s}}
  events: {{transport: event, topic: "events.{{operation}}"}}
  backgroundCheck: {{transport: event, topic: "background.{{operation}}"}}
  remoteValidation: {{transport: http, url: "{url}/safe", idempotency: safe}}
"""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with services.serving() as found:
        yield found


@pytest.fixture(scope="module")
def lanes(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("seeds") / "services.yaml"
    file.write_text((ROOT / "services.yaml").read_text(encoding="utf-8") + LANES.format(url=service.url))
    return file


@pytest.fixture(scope="module")
def stack(lanes: Path) -> Iterator[Tower]:
    with towers.tower(workers=2, ORCHESTRATOR_SERVICES_FILE=str(lanes)) as found:
        yield found


@pytest.fixture
def tower(stack: Tower) -> Tower:
    """With nobody let go by a test before."""
    for file in held_lane.folder().iterdir():
        file.unlink()
    return stack


def told(output: str) -> list[str]:
    """The console's lines without the `[trace] ` that all of them begin with."""
    trace = output[1:33]
    assert re.fullmatch("[0-9a-f]{32}", trace), output
    assert all(line.startswith(f"[{trace}] ") for line in output.splitlines())
    return [line.removeprefix(f"[{trace}] ") for line in output.splitlines()]


# --- The first document: "Workflow Orchestrator", Maria renews her short-term rental permit

SEED_YAML = """\
id: permit-renewal
steps:
  - id: uploadDocs     service: fileSvc.upload
  - id: chargeFee      service: achSvc.charge  compensate: achSvc.refund
  - id: updatePermitDB service: permitSvc.update
"""


def test_maria_1_marias_five_steps_are_each_done_once(tower: Tower) -> None:
    trace = tower.start("permit-renewal-approval", {**MARIA, "permitNo": "P-4711"})
    tower.step_is(trace, "zoningApproval", "WAITING")
    stored = folder("files", "local", trace)
    assert sorted(path.name for path in stored.iterdir()) == ["insurance.txt", "site-plan.txt"]
    assert money(trace) == [("charge", 7500)]
    [office] = papers(trace, "zoning-officer")
    assert tower.ask(office["callbackUrl"], {"decision": "approved"}).status == 200
    assert tower.ended(trace)["status"] == "COMPLETED"
    [permit] = permit_svc.REGISTER.rows("SELECT renewals, holder FROM permits WHERE number = 'P-4711'")
    assert (permit["renewals"], permit["holder"]) == (1, "Maria Gomez")
    [receipt] = letters(trace)
    assert "your permit is up to date" in receipt
    assert money(trace) == [("charge", 7500)]


def test_maria_3_1_the_flight_plan_as_it_is_printed_is_refused_with_line_column_and_the_right_form(
    tower: Tower, tmp_path: Path
) -> None:
    (tmp_path / "permit-renewal.yaml").write_text(SEED_YAML)
    ended = towers.run("validate", str(tmp_path / "permit-renewal.yaml"))
    assert ended.returncode == 1
    for line, right in (
        (3, "- {id: uploadDocs, service: fileSvc.upload}"),
        (4, "- {id: chargeFee, service: achSvc.charge, compensate: achSvc.refund}"),
        (5, "- {id: updatePermitDB, service: permitSvc.update}"),
    ):
        assert f"permit-renewal.yaml:{line}:24: `service` must stand on a line of its own" in ended.stdout
        assert right in ended.stdout
    answer = tower.ask("/api/definitions/permit-renewal", SEED_YAML, method="PUT")
    assert answer.status == 422
    assert [(one["line"], one["column"]) for one in answer.body["errors"]] == [(3, 24), (4, 24), (5, 24)]


def test_maria_3_1_in_the_form_that_the_error_shows_it_is_the_flight_plan(tower: Tower, tmp_path: Path) -> None:
    (tmp_path / "seed.yaml").write_text(SEED_YAML)
    said = towers.run("validate", str(tmp_path / "seed.yaml")).stdout
    steps = [f"  {form}" for form in re.findall(r"on one line as (- \{.*\})\)", said)]
    (tmp_path / "mended.yaml").write_text("\n".join(["id: seed-renewal", "steps:", *steps, ""]))
    assert towers.run("validate", str(tmp_path / "mended.yaml")).returncode == 0
    compiled = towers.run("compile", str(tmp_path / "mended.yaml")).stdout
    assert compiled == "chain([uploadDocs chargeFee updatePermitDB])\n"


def test_maria_3_3_the_console_prints_each_steps_start_and_done(tower: Tower) -> None:
    ended = tower.command("run", "permit-renewal", "samples/permit-renewal.json")
    assert told(ended.stdout) == [
        "uploadDocs START",
        "uploadDocs DONE",
        "chargeFee START",
        "chargeFee DONE",
        "updatePermitDB START",
        "updatePermitDB DONE",
    ]
    assert ended.returncode == 0


def test_maria_3_3_when_the_permit_cannot_be_updated_the_refund_fires(tower: Tower) -> None:
    ended = tower.command("run", "permit-renewal", "samples/permit-renewal-fails.json")
    assert told(ended.stdout) == [
        "uploadDocs START",
        "uploadDocs DONE",
        "chargeFee START",
        "chargeFee DONE",
        "updatePermitDB START",
        "updatePermitDB FAIL permit P-1313 was revoked: rented to more guests than the permit allows",
        "chargeFee COMPENSATE achSvc.refund",
        "chargeFee COMPENSATED achSvc.refund",
    ]
    assert ended.returncode == 1
    assert money(ended.stdout[1:33]) == [("charge", 7500), ("refund", 7500)]


class Gateway(BaseHTTPRequestHandler):
    """`GW->>ACT: startWorkflow(permit-renewal)`: what an API gateway does with POST /renewPermit."""

    tower: Tower

    def do_POST(self) -> None:
        assert self.path == "/renewPermit"
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = {"Idempotency-Key": self.headers["Idempotency-Key"]}
        start = {"workflowId": "permit-renewal", "payload": payload}
        answer = self.tower.ask("/api/workflows/start", start, headers=key)
        content = json.dumps({"traceId": answer.body.get("traceId"), "present": answer.body.get("present")}).encode()
        self.send_response(answer.status if answer.status >= 300 else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def gateway(tower: Tower) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("ToTower", (Gateway,), {"tower": tower}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/renewPermit"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_maria_4_a_gateway_starts_it_and_a_front_end_that_sends_twice_pays_once(tower: Tower) -> None:
    with gateway(tower) as renew_permit:
        first, again = (call(renew_permit, MARIA, headers={"Idempotency-Key": "form-17"}) for _ in range(2))
        assert (first.status, again.status) == (200, 200)
        assert first.body == again.body
        other = call(renew_permit, REVOKED, headers={"Idempotency-Key": "form-17"})
    trace = first.body["traceId"]
    assert (other.status, other.body["present"]) == (409, trace)
    shown = tower.ended(trace)
    assert shown["status"] == "COMPLETED"
    assert [one["service"] for one in shown["steps"]] == ["fileSvc.upload", "achSvc.charge", "permitSvc.update"]
    assert money(trace) == [("charge", 7500)]


HELD = """\
id: {id}
steps:
  - {{id: uploadDocs, service: held.pass_by}}
  - {{id: chargeFee, service: held.hold}}
  - {{id: updatePermitDB, service: held.pass_by}}
"""


def test_maria_5_1_a_running_instance_has_a_record_with_the_documents_fields(tower: Tower) -> None:
    trace = tower.start(tower.put(HELD.format(id="held-renewal")), {})
    wait_until(lambda: len(held_lane.calls("hold")) == 1)
    record = tower.status(trace)
    fields = ("traceId", "workflowId", "currentStep", "status")
    assert [record[name] for name in fields] == [trace, "held-renewal", "chargeFee", "RUNNING"]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d", record["started"])
    by_command = json.loads(tower.command("status", trace, "--json").stdout)
    assert [by_command[name] for name in (*fields, "started")] == [record[name] for name in (*fields, "started")]
    held_lane.let_go("hold")
    assert tower.ended(trace)["currentStep"] is None


def test_maria_5_1_when_its_worker_is_killed_another_resumes_at_the_current_step(tower: Tower) -> None:
    trace = tower.start(tower.put(HELD.format(id="held-renewal")), {})
    wait_until(lambda: len(held_lane.calls("hold")) == 1)
    shown = tower.step(trace, "chargeFee")
    assert shown is not None
    killed = int(shown["worker"].rsplit(":", 2)[1])  # host:process:random
    assert killed in descendants(tower.process.pid)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(held_lane.calls("hold")) == 2)
    resumed = tower.status(trace)
    assert (resumed["currentStep"], resumed["status"]) == ("chargeFee", "RUNNING")
    worker = next(one["worker"] for one in resumed["steps"] if one["step"] == "chargeFee")
    assert int(worker.rsplit(":", 2)[1]) != killed
    held_lane.let_go("hold")
    assert tower.ended(trace)["status"] == "COMPLETED"
    first, second = held_lane.calls("hold")
    assert first == second, "the second call carries the same idempotency key"
    assert len(held_lane.calls("pass_by")) == 2, "uploadDocs was not done again"


def broker_of(tower: Tower) -> str:
    stack = running_stack.find(tower.data_dir)
    assert stack is not None
    assert stack.broker_url is not None
    return stack.broker_url


def test_maria_5_2_a_step_may_publish_an_event_with_step_trace_and_payload_to_whoever_subscribes(tower: Tower) -> None:
    tower.put("id: tell-all\nsteps:\n  - {id: sendEmail, service: events.sendEmail}\n")
    with subscribed(broker_of(tower), "sendEmail", "events.*") as mailer:
        trace = tower.start("tell-all", {"to": "maria@example.org"})
        assert tower.ended(trace)["status"] == "COMPLETED"
        [event] = mailer.came()
    assert {name: event["data"][name] for name in ("step", "trace", "payload")} == {
        "step": "sendEmail",
        "trace": trace,
        "payload": {"to": "maria@example.org"},
    }


def test_maria_5_2_a_background_check_takes_its_time_and_its_result_comes_back(tower: Tower) -> None:
    tower.put("id: background\nsteps:\n  - {id: check, service: backgroundCheck.run, pause: true}\n")
    with subscribed(broker_of(tower), "checks", "background.run") as checker:
        trace = tower.start("background", {"applicant": "Maria"})
        [event] = checker.came()
        assert tower.step_is(trace, "check", "WAITING")
        assert call(event["data"]["callbackUrl"], {"result": {"clean": True}}).status == 200
    shown = tower.ended(trace)
    assert (shown["status"], shown["steps"][0]["result"]) == ("COMPLETED", {"clean": True})


ZONING = """\
id: zoning
steps:
  - id: zoningApproval
    service: zoningPortal.approve
    pause: true          # Orchestrator waits here
  - {id: updatePermitDB, service: permitSvc.update}
"""


def test_maria_6_it_waits_until_the_officers_callback_url_is_hit_and_then_goes_on(tower: Tower) -> None:
    trace = tower.start(tower.put(ZONING), MARIA)
    assert tower.step_is(trace, "zoningApproval", "WAITING")
    assert tower.status(trace)["status"] == "WAITING"
    [paper] = papers(trace, "zoning-officer")
    url = paper["callbackUrl"]
    assert url.startswith(f"{tower.url}/callbacks/{trace}/zoningApproval?token=")
    assert call(url.partition("?")[0] + "?token=wrong", {"decision": "approved"}).status == 401
    assert call(url).status == 200, "to look decides nothing"
    assert tower.status(trace)["status"] == "WAITING"
    assert call(url, {"decision": "approved"}).status == 200
    assert tower.ended(trace)["status"] == "COMPLETED"
    assert call(url, {"decision": "rejected"}).status == 409, "a decision has one winner"


def test_maria_6_the_officer_clicks_approve_on_the_page_behind_the_callback_url(tower: Tower, desk: Page) -> None:
    trace = tower.start(tower.put(ZONING), MARIA)
    tower.step_is(trace, "zoningApproval", "WAITING")
    [paper] = papers(trace, "zoning-officer")
    desk.goto(paper["callbackUrl"])
    expect(desk.get_by_role("definition").filter(has_text="Maria Gomez").first).to_be_visible()
    desk.get_by_role("button", name="Approve").click()
    expect(desk.locator(".verdict")).to_contain_text("approved")
    assert tower.ended(trace)["status"] == "COMPLETED"


def test_maria_7_steps_marked_parallel_are_called_side_by_side(tower: Tower) -> None:
    tower.put(
        "id: side-by-side\nsteps:\n"
        "  - {id: zoningCheck, service: held.hold, parallel: true}\n"
        "  - {id: insuranceCheck, service: held.hold, parallel: true}\n"
        "  - {id: chargeFee, service: held.pass_by}\n"
    )
    trace = tower.start("side-by-side", {})
    wait_until(lambda: len(held_lane.calls("hold")) == 2)  # both, before either has answered
    assert tower.status(trace)["currentSteps"] == ["zoningCheck", "insuranceCheck"]
    assert held_lane.calls("pass_by") == []
    held_lane.let_go("hold")
    assert tower.ended(trace)["status"] == "COMPLETED"


def test_maria_7_ui_lists_active_traces_with_their_step_and_leads_to_their_logs(tower: Tower, desk: Page) -> None:
    trace = tower.start(tower.put(ZONING), MARIA)
    tower.step_is(trace, "zoningApproval", "WAITING")
    desk.goto(f"{tower.url}/ui")
    row = desk.locator("[data-part=departures]").get_by_role("row").filter(has=desk.locator(f"a[href$='{trace}']"))
    expect(row).to_contain_text("Zoning approval")
    expect(row).to_contain_text("Waiting")
    row.get_by_role("link").click()
    expect(desk).to_have_url(re.compile(trace))
    desk.get_by_text(re.compile(r"^\d+ lines?$")).click()
    expect(desk.get_by_role("region", name="Log")).to_contain_text("zoningApproval START")
    assert tower.ask(f"/api/workflows/{trace}/cancel", {}).status == 202
    tower.ended(trace)


# "each agency uploads its YAML files but the same engine runs them all, respecting IAM scopes"

SECRET = "a secret of the tests that has well over thirty-two bytes"  # it opens nothing


@pytest.fixture
def shared_engine() -> Iterator[Tower]:
    """A stack of its own, for as long as it is asked: lanes' ledgers are read where the latest one keeps them."""
    with towers.tower(ORCHESTRATOR_AUTH="jwt", ORCHESTRATOR_JWT_SECRET=SECRET) as found:
        yield found


def bearer(agency: str, *scopes: str) -> dict[str, Any]:
    ended = towers.run(
        "token",
        "--tenant",
        agency,
        "--scope",
        " ".join(scopes),
        ORCHESTRATOR_AUTH="jwt",
        ORCHESTRATOR_JWT_SECRET=SECRET,
    )
    assert ended.returncode == 0, ended.stderr
    return {"headers": {"Authorization": f"Bearer {ended.stdout.strip()}"}}


def test_maria_7_many_agencies_share_one_engine_each_with_its_own_yaml_and_scopes(shared_engine: Tower) -> None:
    engine = shared_engine
    scopes = ("definitions:write", "workflows:start", "workflows:read")
    parks, roads = bearer("parks", *scopes), bearer("roads", *scopes)
    for agency, operation in ((parks, "receipt"), (roads, "reject")):
        text = f"id: permit\nsteps:\n  - {{id: tell, service: notificationSvc.{operation}}}\n"
        assert engine.ask("/api/definitions/permit", text, method="PUT", **agency).status == 201
    flown = {}
    for name, agency in (("parks", parks), ("roads", roads)):
        trace = flown[name] = engine.start("permit", {"applicant": name}, **agency)
        path = f"/api/workflows/{trace}/status"
        flights.until(lambda path=path, agency=agency: engine.ask(path, **agency).body["ended"], "the end")  # type: ignore[misc]
    [said_by_parks], [said_by_roads] = letters(flown["parks"], "parks"), letters(flown["roads"], "roads")
    assert "up to date" in said_by_parks
    assert "rejected" in said_by_roads
    theirs = f"/api/workflows/{flown['parks']}/status"
    assert engine.ask(theirs, **roads).status == 404, "another agency's does not exist"
    assert engine.ask(theirs).status == 401
    refused = engine.ask(theirs, **bearer("parks", "workflows:start"))
    assert (refused.status, refused.body["scope"]) == (403, "workflows:read")


# --- The second document: "Workflow Orchestration", Jane Doe's building permit

PERMIT_WORKFLOW = """\
{
  "id": "building-permit",
  "steps": [
    { "id": "validate", "service": "validationSvc" },
    { "id": "approve",  "service": "approvalSvc", "timeout": "48h", "onTimeout": "escalate" },
    { "id": "notify",   "service": "notificationSvc" }
  ]
}
"""
JANE = {"applicant": "Jane Doe", "plans": {"storeys": 2}}


def submitted(tower: Tower) -> str:
    """Jane's application, which waits for its approval."""
    answer = tower.ask("/api/workflows/start", {"workflowId": "building-permit", "payload": JANE})
    trace = str(answer.body["instanceId"])
    tower.step_is(trace, "approve", "WAITING")
    return trace


def test_jane_1_a_reviewer_who_is_away_for_two_days_is_passed_over_for_the_backup(tower: Tower) -> None:
    trace = submitted(tower)
    [reviewer] = papers(trace, "reviewer")
    tower.clock.advance(2 * DAY - 600)
    tower.ended(tower.start(tower.put("id: tick\nsteps: [{id: pass, wait: 1ms}]\n"), {}))  # a sweep has looked
    assert papers(trace, "backup-reviewer") == [], "ten minutes before the time is up nobody else is asked"
    assert call(reviewer["callbackUrl"]).status == 200
    tower.clock.advance(660)
    [backup] = flights.until(lambda: papers(trace, "backup-reviewer"), "the backup is asked")
    assert call(reviewer["callbackUrl"], {"decision": "approved"}).status == 410
    shown = tower.step_is(trace, "approve", "WAITING")
    assert (shown["escalated"], shown["service"]) == (True, "approvalSvc.backup")
    lines = tower.command("logs", trace).stdout
    assert f"[{trace}] approve ESCALATE approvalSvc.backup" in lines
    assert call(backup["callbackUrl"], {"decision": "approved"}).status == 200
    assert tower.ended(trace)["status"] == "COMPLETED"
    assert len(letters(trace)) == 1


def test_jane_1_she_follows_her_application_from_submitted_to_completed(tower: Tower, desk: Page) -> None:
    trace = submitted(tower)
    desk.goto(f"{tower.url}/ui/where/{trace}")
    expect(desk.get_by_role("main")).to_contain_text("Received")
    stones = desk.locator(".stones li")
    expect(stones).to_have_count(3)
    expect(stones.nth(0)).to_contain_text("Done")
    expect(stones.nth(2)).to_contain_text("Still to come")
    [paper] = papers(trace, "reviewer")
    assert call(paper["callbackUrl"], {"decision": "approved"}).status == 200
    expect(desk.locator(".serving")).to_contain_text("Finished")  # by itself: nobody has reloaded the page
    expect(stones.nth(2)).to_contain_text("Done")
    assert tower.status(trace)["status"] == "COMPLETED"


def test_jane_2_missing_documents_are_rejected_and_complete_ones_are_not(tower: Tower) -> None:
    tower.put(
        "id: conditions\nsteps:\n"
        "  - {id: validate, service: validationSvc}\n"
        "  - id: decide\n"
        "    switch:\n"
        "      - when: size(steps.validate.output.missing) > 0\n"
        "        steps: [{id: reject, service: notificationSvc}, {id: rejected, end: rejected}]\n"
        "  - {id: notify, service: notificationSvc}\n"
    )
    incomplete = tower.ended(tower.start("conditions", {"applicant": "Jane Doe"}))
    assert (incomplete["status"], incomplete["reason"]) == ("COMPLETED", "rejected")
    [letter] = letters(incomplete["traceId"])
    assert "was rejected" in letter
    whole = tower.ended(tower.start("conditions", JANE))
    assert (whole["status"], whole["reason"]) == ("COMPLETED", None)
    [letter] = letters(whole["traceId"])
    assert "has been decided" in letter


def test_jane_3_1_the_json_workflow_stands_in_workflows_word_by_word_and_is_valid() -> None:
    file = "workflows/permitWorkflow.json"
    assert (ROOT / file).read_text(encoding="utf-8") == PERMIT_WORKFLOW
    ended = towers.run("validate", file)
    assert (ended.returncode, ended.stdout) == (0, f"{file}: building-permit is valid\n")


def test_jane_3_2_a_post_starts_it_and_answers_with_the_instance_id(tower: Tower) -> None:
    answer = tower.ask(
        "/api/workflows/start",
        json.dumps({"workflowId": "building-permit", "payload": JANE}),
        method="POST",
        headers={"Content-Type": "application/json"},
    )
    assert answer.status == 201
    assert re.fullmatch("[0-9a-f]{32}", answer.body["instanceId"])


def test_jane_3_3_the_status_has_the_current_step_and_a_history_of_step_result_and_time(tower: Tower) -> None:
    trace = submitted(tower)
    status = tower.ask(f"/api/workflows/{trace}/status").body
    assert status["currentStep"] == "approve"
    [validated] = [one for one in status["history"] if one["step"] == "validate" and one["result"] is not None]
    assert (validated["result"], validated["status"]) == ("ok", "SUCCEEDED")
    assert re.match(r"\d{4}-\d\d-\d\dT", validated["time"])


def test_jane_4_the_service_gets_a_post_with_the_payload_and_its_answer_moves_the_instance_on(
    tower: Tower, service: Service
) -> None:
    tower.put(
        "id: over-http\nsteps:\n"
        "  - {id: validate, service: remoteValidation}\n"
        "  - {id: approve, service: approvalSvc}\n"
    )
    service.tell("validate", services.Answer(reply={"result": "ok"}))
    trace = tower.start("over-http", JANE)
    [seen] = service.came("validate")
    assert (seen.method, seen.operation, seen.body["payload"]) == ("POST", "validate", JANE)
    tower.step_is(trace, "approve", "WAITING")
    shown = tower.step(trace, "validate")
    assert shown is not None
    assert (shown["status"], shown["result"]) == ("SUCCEEDED", "ok")


def test_jane_6_the_digital_board_says_who_is_now_serving(tower: Tower, desk: Page) -> None:
    trace = submitted(tower)
    desk.goto(f"{tower.url}/ui/where/{trace}")
    expect(desk.locator(".serving .now")).to_have_text("Now serving: Approve")
    expect(desk.locator(".serving")).to_contain_text("Next deadline")
    assert tower.command("approve", trace, "approve").returncode == 0
    expect(desk.locator(".serving .now")).to_have_count(0)
    tower.ended(trace)
