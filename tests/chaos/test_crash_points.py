"""A process dies, or a call fails, at every boundary that the engine crosses; what is left is judged every time.

The sweep is a program of its own (`python -m tests.chaos.crashpoints`), for it forks, and here are threads. This is its
short form: a death and a failure at each point by name; the long one strikes at every occurrence, and in pairs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.chaos.crashpoints import call_sites
from tests.chaos.crashpoints.seeded import BUGS
from tests.chaos.crashpoints.shapes import SHAPES

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
PAIRS = 1  # second deaths for a shape
Sweep = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def sweep(
    postgres_server: str, broker_places: servers.BrokerPlaces, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sweep]:
    """Runs the program on servers of the tests, and returns its report."""
    with broker_places.one() as broker_url:
        env = {**os.environ, servers.DATABASE: postgres_server, servers.BROKER: broker_url, "PYTHONWARNINGS": "ignore"}

        def run(*options: str) -> dict[str, Any]:
            path = tmp_path_factory.mktemp("crash-points") / "report.json"
            argv = [sys.executable, "-m", "tests.chaos.crashpoints", "--depth", "names", "--json", str(path), *options]
            done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
            assert path.exists(), done.stderr
            report: dict[str, Any] = json.loads(path.read_text())
            assert (done.returncode == 0) == (not report["violations"] and not any(report["unstruck"].values()))
            return report

        yield run


@pytest.fixture(scope="module")
def report(sweep: Sweep) -> dict[str, Any]:
    return sweep("--pairs", str(PAIRS))


def test_no_death_and_no_failed_call_breaks_a_promise(report: dict[str, Any]) -> None:
    assert report["violations"] == []
    assert all(report["shapes"][name]["pairs"] for name in SHAPES)


@pytest.mark.parametrize("how", ["dies", "fails"])
def test_each_point_that_any_execution_has_shown_was_struck(report: dict[str, Any], how: str) -> None:
    assert report["unstruck"][how] == []
    assert len(report["points"]) > 150, "the spy has found next to nothing"


def test_each_place_in_the_engine_that_commits_publishes_or_sends_was_passed_by_some_flight(
    report: dict[str, Any],
) -> None:
    assert call_sites.missed(ROOT, set(report["functions"])) == []


def test_each_place_that_is_excused_exists() -> None:
    assert call_sites.idle(ROOT) == []


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_reported(sweep: Sweep, bug: str) -> None:
    _, shape, told = BUGS[bug]
    found = sweep("--bug", bug, "--shape", shape, "--first")
    assert any(told in violation for violation in found["violations"])
    assert any(found["unstruck"].values()), "it was stopped on its way, so there is more that was seen than struck"
