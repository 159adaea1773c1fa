"""The command line, through the installed command: what it prints, how it exits, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.servers.descendants import descendants
from tests import servers
from tests.processes import gone, wait_until

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
COMMAND = str(Path(sys.executable).with_name("orchestrator"))
PERMIT, FAILING = "samples/permit-renewal.json", "samples/permit-renewal-fails.json"
TWO_DECISIONS = """\
id: two-decisions
steps:
  - {id: first, pause: true}
  - {id: second, pause: true}
"""
GET = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def environment(**more: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    return {**plain, **more}


def orchestrator(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [COMMAND, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment(**env), capture_output=True, text=True, timeout=110, check=False
    )


def told(ended: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on standard output without the trace id that they begin with."""
    trace = ended.stdout[1:33]
    assert re.fullmatch("[0-9a-f]{32}", trace), ended.stdout + ended.stderr
    lines = ended.stdout.splitlines()
    assert all(line.startswith(f"[{trace}] ") for line in lines)
    return [line.removeprefix(f"[{trace}] ") for line in lines]


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """One for all runs here: making a cluster takes longest."""
    with servers.data_directory() as path:
        yield path


def users_of(data_dir: Path) -> list[str]:
    """Processes whose command line or environment names the directory."""
    name, found = str(data_dir).encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if name in said and int(process.name) != os.getpid():
            found.append(said.replace(b"\0", b" ")[:80].decode(errors="replace"))
    return found


@contextmanager
def waiting_run(data_dir: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A run that waits for its first decision, and where that goes."""
    file = tmp_path / "two.yaml"
    file.write_text(TWO_DECISIONS)
    payload = tmp_path / "payload.json"
    payload.write_text("{}")
    command = [COMMAND, "run", str(file), str(payload), "--data-dir", str(data_dir)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process, next_wait(process)
    finally:
        process.terminate()  # and not kill: whoever removes the data directory next would find Postgres still at it
        process.communicate()


def next_wait(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if " WAIT " in line:
            return line.split(" WAIT ")[1].strip()
    assert process.stderr is not None
    raise AssertionError(process.stderr.read())


# run


def test_run_prints_the_steps_of_the_seed_and_leaves_nothing_running(data_dir: Path) -> None:
    ended = orchestrator("run", "permit-renewal", PERMIT, "--data-dir", str(data_dir))
    assert told(ended) == [
        "uploadDocs START",
        "uploadDocs DONE",
        "chargeFee START",
        "chargeFee DONE",
        "updatePermitDB START",
        "updatePermitDB DONE",
    ]
    assert ended.returncode == 0
    assert "COMPLETED in " in ended.stderr
    assert users_of(data_dir) == []


def test_run_of_a_failing_flight_refunds_and_exits_with_1(data_dir: Path) -> None:
    ended = orchestrator("run", "permit-renewal", FAILING, "--data-dir", str(data_dir))
    lines = told(ended)
    failed = next(at for at, line in enumerate(lines) if line.startswith("updatePermitDB FAIL "))
    assert lines[failed + 1] == "chargeFee COMPENSATE achSvc.refund"
    assert ended.returncode == 1
    assert users_of(data_dir) == []


def test_run_without_waiting_exits_with_3_where_a_decision_is_due(data_dir: Path) -> None:
    ended = orchestrator("run", "permit-renewal-approval", PERMIT, "--no-wait", "--data-dir", str(data_dir))
    lines = told(ended)
    assert re.match(
        r"zoningApproval WAIT http://127\.0\.0\.1:\d+/callbacks/[0-9a-f]{32}/zoningApproval\?token=", lines[-1]
    )
    assert ended.returncode == 3
    trace = lines[-1].split("/callbacks/")[1].split("/")[0]
    assert f"`orchestrator approve {trace} zoningApproval --data-dir {data_dir}`" in ended.stderr
    assert f"WAITING: {trace} goes on with `orchestrator up --data-dir {data_dir}`" in ended.stderr


def test_a_waiting_run_goes_on_by_its_callback_and_by_the_command(data_dir: Path, tmp_path: Path) -> None:
    with waiting_run(data_dir, tmp_path) as (process, url):
        body = json.dumps({"decision": "approved"}).encode()
        request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
        assert GET.open(request, timeout=20).status == 200
        trace = next_wait(process).split("/callbacks/")[1].split("/")[0]
        assert orchestrator("approve", trace, "second", "--data-dir", str(data_dir)).returncode == 0
        rest, said = process.communicate(timeout=60)
    assert rest == f"[{trace}] second DONE\n"
    assert process.returncode == 0, said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_run_that_is_stopped_takes_its_servers_with_it(
    data_dir: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with waiting_run(data_dir, tmp_path) as (process, _):
        started = descendants(process.pid)
        process.send_signal(number)
        assert process.wait(timeout=30) == code
        assert len(started) >= 4  # Postgres, broker, worker, web
        wait_until(lambda: all(gone(one) for one in started))


def test_a_run_beside_another_on_the_same_data_has_data_of_its_own(data_dir: Path, tmp_path: Path) -> None:
    with waiting_run(data_dir, tmp_path):
        ended = orchestrator("run", "permit-renewal", PERMIT, "--data-dir", str(data_dir))
    assert told(ended)[-1] == "updatePermitDB DONE"
    assert "is in use by another stack" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("permit-renewal", "nowhere.json"), "there is no file nowhere.json"),
        (("permit-renewal", "Makefile"), "Makefile:1:1: not JSON"),
        (("nowhere.yaml", PERMIT), "nowhere.yaml: cannot be read"),
        (("permit-renewal",), "Missing argument 'PAYLOAD.json'"),
    ],
)
def test_run_says_what_is_wrong_before_it_starts_a_server(arguments: Sequence[str], said: str, tmp_path: Path) -> None:
    ended = orchestrator("run", *arguments, "--data-dir", str(tmp_path / "none"))
    assert ended.returncode == 2
    assert f"error: {said}" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "none").exists()


# definitions


def test_validate_prints_every_problem_of_every_file_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(
        "id: one\nsteps:\n  - {id: a, servce: fileSvc.upload}\n  - {id: a, service: filSvc.x}\n"
    )
    (tmp_path / "seed.yaml").write_text("id: two\nsteps:\n  - id: uploadDocs     service: fileSvc.upload\n")
    ended = orchestrator(
        "validate", str(tmp_path / "one.yaml"), "workflows/permit-renewal.yaml", str(tmp_path / "seed.yaml")
    )
    assert ended.returncode == 1
    assert f"{tmp_path}/one.yaml:3:" in ended.stdout
    assert "did you mean `service`?" in ended.stdout
    assert f"{tmp_path}/one.yaml:4:" in ended.stdout
    assert "workflows/permit-renewal.yaml: permit-renewal is valid" in ended.stdout
    assert f"{tmp_path}/seed.yaml:3:" in ended.stdout


def test_the_definitions_that_come_with_it_are_valid() -> None:
    files = [str(file.relative_to(ROOT)) for file in sorted(ROOT.glob("workflows/*"))]
    assert orchestrator("validate", *files).returncode == 0


def test_compile_prints_each_step_in_its_leg() -> None:
    assert (
        orchestrator("compile", "workflows/permit-renewal.yaml").stdout
        == "chain([uploadDocs chargeFee updatePermitDB])\n"
    )
    assert orchestrator("compile", "workflows/permit-renewal-approval.yaml").stdout.splitlines() == [
        "chain([uploadDocs], chord([zoningCheck], [insuranceCheck]) → [missingDocs chargeFee zoningApproval])",
        "after the decision on zoningApproval: chain([updatePermitDB sendReceipt])",
    ]


def test_graph_prints_mermaid_or_svg() -> None:
    assert orchestrator("graph", "workflows/permit-renewal.yaml").stdout.startswith("flowchart TD\n")
    assert orchestrator("graph", "workflows/permit-renewal.yaml", "--svg").stdout.startswith("<svg ")


# what is not there


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://nobody:x@127.0.0.1:1/none", "the database does not answer; see ORCHESTRATOR_DATABASE_URL"),
        ("nonsense", "ORCHESTRATOR_DATABASE_URL is not a database's address"),
    ],
)
def test_a_database_that_is_not_there_is_named_by_its_setting(url: str, said: str) -> None:
    ended = orchestrator("list", ORCHESTRATOR_DATABASE_URL=url)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: {said}")
    assert len(ended.stderr.splitlines()) == 1


def test_without_any_stack_the_mend_is_told(tmp_path: Path) -> None:
    ended = orchestrator("list", "--data-dir", str(tmp_path))
    assert ended.returncode == 2
    assert "orchestrator up" in ended.stderr


def test_a_database_without_tables_tells_how_to_get_them(postgres_server: str) -> None:
    with servers.database(postgres_server) as url:
        ended = orchestrator("list", ORCHESTRATOR_DATABASE_URL=url)
    assert ended.returncode == 1
    assert "orchestrator db upgrade" in ended.stderr


def test_help_lists_every_command_without_loading_what_is_heavy() -> None:
    check = (
        "import sys; from orchestrator import cli; sys.exit(bool({'sqlalchemy', 'celery', 'flask'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0
    said = orchestrator("--help").stdout
    assert "run " in said
    assert "resolve " in said
