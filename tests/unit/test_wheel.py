"""What is installed for those who do not work in this tree."""

from __future__ import annotations

from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed() -> set[str]:
    return {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}


def test_worker_and_beat_can_be_started_from_it(installed: set[str]) -> None:
    assert {"worker.py", "beat_schedule.py"} <= installed


def test_migrations_pages_and_styles_are_in_it(installed: set[str]) -> None:
    folders = (ROOT / "orchestrator", ROOT / "tasks")
    files = {file.relative_to(ROOT) for folder in folders for file in folder.rglob("*") if file.is_file()}
    wanted = {file.as_posix() for file in files if "__pycache__" not in file.parts}
    assert {file.rpartition(".")[2] for file in wanted} >= {"py", "html", "css"}, "the search has gone blind"
    assert sorted(wanted - installed) == []


def test_nothing_else_comes_with_it(installed: set[str]) -> None:
    assert {name.split("/")[0] for name in installed} == {"orchestrator", "tasks", "worker.py", "beat_schedule.py"}
