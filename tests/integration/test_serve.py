"""The web server as a process of its own: gunicorn over the composed system."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.api.serve import options, run
from orchestrator.errors import SettingsError
from orchestrator.servers.ports import free_port
from orchestrator.settings import Settings
from tests.processes import gone, wait_until

pytestmark = pytest.mark.integration

SERVE = "from orchestrator.api.serve import run; from orchestrator.settings import load; run(load())"


@pytest.fixture
def server(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    (tmp_path / "services.yaml").write_text("services: {}\n")
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")} | {
        "ORCHESTRATOR_AUTH": "local",
        "ORCHESTRATOR_PORT": str(port),
        "ORCHESTRATOR_DATA_DIR": str(tmp_path),
        "ORCHESTRATOR_DATABASE_URL": database_url,
        "ORCHESTRATOR_BROKER_URL": broker_url,
        "ORCHESTRATOR_WORKFLOWS_DIR": str(tmp_path),
        "ORCHESTRATOR_SERVICES_FILE": str(tmp_path / "services.yaml"),
    }
    process = subprocess.Popen([sys.executable, "-c", SERVE], env=environment, start_new_session=True)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(json.load(answer)["ok"])
    except (urllib.error.URLError, ConnectionError):
        return False


def children(parent: int) -> list[int]:
    """On Linux; elsewhere none are seen."""
    tasks = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(child) for child in tasks.read_text().split()] if tasks.exists() else []


def test_the_server_answers_until_it_is_told_to_stop(server: tuple[subprocess.Popen[bytes], str]) -> None:
    process, url = server
    wait_until(lambda: answers(f"{url}/readyz"), within=30)
    workers = children(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=15) == 0
    assert all(gone(worker) for worker in workers)


def test_wrong_settings_stop_it_before_anything_is_bound() -> None:
    with pytest.raises(SettingsError, match="ORCHESTRATOR_JWKS"):
        run(Settings(auth="jwt"))


def test_it_does_not_serve_several_tenants_where_postgres_would_mix_them(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE loose (tenant text NOT NULL)")
    with pytest.raises(SettingsError, match="loose has no policy; run `orchestrator db upgrade`"):
        run(Settings(auth="jwt", jwt_secret="x" * 32, database_url=database_url))


def test_it_binds_what_the_settings_say_and_opens_no_control_socket() -> None:
    chosen = options(Settings(host="::1", port=8081))
    assert chosen["bind"] == "[::1]:8081"
    assert chosen["control_socket_disable"] is True


def test_who_waits_for_a_change_is_answered_when_the_server_stops(
    server: tuple[subprocess.Popen[bytes], str], database_url: str
) -> None:
    process, url = server
    wait_until(lambda: answers(f"{url}/readyz"), within=30)
    asked(url, "PUT", "definitions/held", b"id: held\nsteps: [{id: decide, pause: true}]")
    begun = asked(url, "POST", "workflows/start", b'{"workflowId": "held"}')
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(asked, url, "GET", f"workflows/{begun['instanceId']}/status?wait=60s")
        with psycopg.connect(database_url, autocommit=True) as connection:
            wait_until(lambda: connection.execute("SELECT 1 FROM watching").fetchone() is not None, within=10)
        stopped = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert waits.result(timeout=15)["status"] == "RUNNING"
        assert process.wait(timeout=15) == 0
    assert time.monotonic() - stopped < 8, "it was not killed for who waited"


def asked(url: str, method: str, path: str, content: bytes | None = None) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/api/{path}", content, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
