"""The commands that look at instances and order something about them, on a real database, in this process."""

from __future__ import annotations

import io
import json
import re
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator import cli
from orchestrator.api import serve

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PERMIT = "samples/permit-renewal.json"
TWO_DECISIONS = """\
id: two-decisions
steps:
  - {id: first, pause: true}
  - {id: second, pause: true}
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    code: int
    out: str
    err: str


Ask = Callable[..., Answer]


@pytest.fixture
def ask(database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """The commands in this process, on a database of the test's own: a process each would take a second each."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", database_url)
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", broker_url)

    def ask(*arguments: str) -> Answer:
        code = cli.invoke(list(arguments))
        said = capsys.readouterr()
        return Answer(code=code, out=said.out, err=said.err)

    return ask


def test_upgrade_loads_the_workflows_and_tells_of_those_refused(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.yaml").write_text("id: bad\nsteps: []\n")
    (tmp_path / "good.yaml").write_text("id: good\nsteps: [{id: wait, pause: true}]\n")
    monkeypatch.setenv("ORCHESTRATOR_WORKFLOWS_DIR", str(tmp_path))
    upgraded = ask("db", "upgrade")
    assert upgraded.code == 0
    assert "bad.yaml:2:1:" in upgraded.err
    assert ask("start", "good", PERMIT).code == 0
    refused = ask("start", "bad", PERMIT)
    assert refused.code == 2
    assert refused.err.startswith("error: bad.yaml:2:1:")


def test_an_instance_is_started_shown_and_ordered_about(ask: Ask) -> None:
    ask("db", "upgrade")
    trace = ask("start", "permit-renewal", PERMIT, "--key", "one").out.strip()
    assert re.fullmatch("[0-9a-f]{32}", trace)
    assert ask("start", "permit-renewal", PERMIT, "--key", "one").out.strip() == trace
    shown = json.loads(ask("status", trace, "--json").out)
    assert (shown["status"], shown["currentStep"]) == ("RUNNING", "uploadDocs")
    assert [one["instanceId"] for one in json.loads(ask("list", "--json").out)] == [trace]
    assert json.loads(ask("list", "--stuck", "--json").out) == []
    assert ask("suspend", trace).out == "SUSPENDED\n"
    assert ask("resume", trace).out == "RUNNING\n"
    assert ask("cancel", trace).out == "CANCELLED\n"
    again = ask("cancel", trace)
    assert (again.code, "is CANCELLED" in again.err) == (1, True)
    assert re.search(r"^1 .* start +RUNNING", ask("history", trace).out, re.MULTILINE)
    assert ask("logs", trace, "--follow").out.endswith(f"[{trace}] CANCEL CANCELLED (cancelled)\n")
    assert re.search("^status +CANCELLED$", ask("status", trace).out, re.MULTILINE)


def test_a_definition_may_be_started_from_its_file(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(TWO_DECISIONS)
    trace = ask("start", str(tmp_path / "two.yaml"), PERMIT).out.strip()
    assert json.loads(ask("status", trace, "--json").out)["workflowId"] == "two-decisions"


def test_a_payload_may_come_from_standard_input(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    ask("db", "upgrade")
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"permitNo": "P-7"}'))
    trace = ask("start", "permit-renewal", "-").out.strip()
    assert json.loads(ask("status", trace, "--json").out)["payload"] == {"permitNo": "P-7"}


def test_an_unknown_workflow_is_told_with_a_near_one(ask: Ask) -> None:
    ask("db", "upgrade")
    answer = ask("start", "permit-renewl", PERMIT)
    assert answer == Answer(
        code=2, out="", err="error: there is no workflow `permit-renewl`; did you mean `permit-renewal`?\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("status", "chargeFee"), 1, "error: 'chargeFee' is not an instance id: those have 32 hex digits"),
        (("status", "0" * 32), 1, f"error: there is no instance '{'0' * 32}'"),
        (("list", "--status", "lost"), 2, "lost is none of RUNNING, WAITING"),
        (("list", "--stuck", "--status", "WAITING"), 2, "say one of --stuck, --status"),
        (("logs", "0" * 32, "--follow", "--json"), 2, "say one of --follow, --json"),
        (("resolve", "0" * 32, "chargeFee"), 2, "say one of --succeeded JSON, --failed, --retry"),
        (("resolve", "0" * 32, "chargeFee", "--succeeded", "{"), 2, "error: --succeeded:1:2: not JSON"),
        (("resolve", "0" * 32, "chargeFee", "--succeeded", "done"), 2, "a text is written --succeeded '\"done\"'"),
        (("worker", "--queues", "legs,lgs"), 2, "services.yaml names no queue lgs; there are landed, legs, sweep"),
        (("approve", "0" * 32, "chargeFee", "--result", "NaN"), 2, "NaN is no JSON value"),
    ],
)
def test_what_is_wrong_with_an_order_is_told_in_a_line(
    ask: Ask, arguments: Sequence[str], code: int, said: str
) -> None:
    answer = ask(*arguments)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err.splitlines()[-1]


def test_a_payload_that_is_no_object_is_told_with_where_it_came_from(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("[1]"))
    assert ask("start", "permit-renewal", "-").err.startswith("error: standard input holds no JSON object")


def test_a_web_server_whose_port_is_taken_says_which_and_how_to_mend_it(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot_bind(_: object) -> None:
        raise SystemExit(1)  # after gunicorn has tried for some seconds

    monkeypatch.setattr(serve, "run", cannot_bind)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        monkeypatch.setenv("ORCHESTRATOR_PORT", port)
        said = ask("web")
    assert (said.code, said.err) == (
        2, f"error: port {port} of 127.0.0.1 is taken: set ORCHESTRATOR_PORT to another\n"
    )  # fmt: skip


def test_schema_prints_the_one_of_definitions(ask: Ask) -> None:
    schema = json.loads(ask("schema").out)
    assert {"id", "steps"} <= schema["properties"].keys()


def test_orders_by_filter_look_first_and_then_do(ask: Ask) -> None:
    ask("db", "upgrade")
    first, second = (ask("start", "permit-renewal", PERMIT).out.strip() for _ in range(2))
    looked = ask("suspend", "--workflow", "permit-renewal", "--since", "1h", "--dry-run")
    assert (looked.code, looked.err) == (0, "2 would be ordered to suspend\n")
    assert looked.out.splitlines() == [f"{one} permit-renewal RUNNING" for one in (second, first)]
    ask("suspend", first)
    done = ask("suspend", "--workflow", "permit-renewal", "--yes")
    assert (done.code, done.err) == (1, "suspend: 1 done, 1 refused\n")
    assert done.out.splitlines()[0] == f"{second} permit-renewal SUSPENDED"
    assert "cannot be suspended" in done.out.splitlines()[1]
    told = json.loads(ask("resume", "--status", "suspended", "--limit", "1", "--yes", "--json").out)
    assert (told["matched"], told["done"], told["more"]) == (1, 1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("retry",), "say ID, or at least one option"),
        (("retry", "0" * 32, "--lane", "achSvc"), "say ID, or options"),
        (("retry", "--lane", "achSvc"), "say --yes, or look first with --dry-run"),
        (("cancel", "--status", "lost"), "lost is none of RUNNING"),
        (("list", "--since", "soon"), "neither a moment"),
    ],
)
def test_an_order_that_says_too_little_or_too_much_is_refused(ask: Ask, arguments: Sequence[str], said: str) -> None:
    answer = ask(*arguments)
    assert answer.code == 2
    assert said in answer.err.splitlines()[-1]


def test_purge_counts_first_and_then_deletes(ask: Ask) -> None:
    ask("db", "upgrade")
    trace = ask("start", "permit-renewal", PERMIT).out.strip()
    ask("cancel", trace)
    assert ask("purge", "--older-than", "1d").out == "0 deleted\n"
    assert ask("purge", "--older-than", "1ms", "--dry-run").out == "1 would be deleted\n"
    assert ask("purge", "--older-than", "1ms", "--status", "completed,failed").out == "0 deleted\n"
    assert ask("purge", "--older-than", "1ms", "--status", "cancelled", "--workflow", "permit-renewal").out == (
        "1 deleted\n"
    )
    assert ask("status", trace).code == 1
    assert ask("purge", "--older-than", "long").code == 2
    assert "no instance ends as RUNNING" in ask("purge", "--older-than", "1d", "--status", "running").err


def test_a_completion_is_asked_for_at_the_start_and_its_key_is_told(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    ask("db", "upgrade")
    told = ("start", "permit-renewal", PERMIT, "--completion-url", "https://hooks.example/x")
    assert "hooks.example is not an allowed host" in ask(*told).err
    monkeypatch.setenv("ORCHESTRATOR_WEBHOOK_HOSTS", "hooks.example")
    trace = ask(*told).out.strip()
    shown = json.loads(ask("status", trace, "--json").out)
    assert shown["completion"] == {"url": "https://hooks.example/x", "status": "awaited", "tries": 0, "error": None,
                                   "next": None}  # fmt: skip
    assert re.fullmatch("[0-9a-f]{64}", json.loads(ask("webhook", "--json").out)["key"])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BROKER_URL", "foo", "ORCHESTRATOR_BROKER_URL is not a broker's address, such as redis://"),
        ("LEASE", "soon", "ORCHESTRATOR_LEASE='soon'"),
        ("RETENTION", "never", "ORCHESTRATOR_RETENTION='never'"),
    ],
)
def test_a_wrong_setting_is_wrong_use(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"ORCHESTRATOR_{name}", value)
    for command in (("list",), ("worker",), ("beat",), ("web",), ("up",)):
        answer = ask(*command)
        assert answer.code == 2, command
        assert said in answer.err.splitlines()[-1]
