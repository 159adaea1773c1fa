"""Pages that are followed command by command, in an empty folder: what they show is what a newcomer gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.walkthrough import newcomer, pattern

pytestmark = pytest.mark.e2e

DOCS = Path(__file__).parents[2] / "docs"
TUTORIAL = (DOCS / "tutorial" / "first-flight.md").read_text(encoding="utf-8")
TESTING = (DOCS / "how-to" / "test-a-workflow.md").read_text(encoding="utf-8")


def test_the_tutorial_can_be_followed_to_its_end_and_shows_what_happens() -> None:
    with newcomer() as person:
        person.follow(TUTORIAL)
        assert person.last_id, "no instance was seen"


def test_the_tutorials_workflow_is_tested_as_the_page_on_testing_says() -> None:
    with newcomer() as person:
        person.follow_files(TUTORIAL)
        person.follow(TESTING)
        assert (person.folder / "tests" / "test_hello.py").exists()


def test_what_a_page_shows_is_compared_but_for_ids_times_and_what_it_leaves_out() -> None:
    shown = pattern("[01a200abf3c47703ad0ad62b75e5fe98] … DONE\nCOMPLETED in 0.1 s\n")
    assert shown.fullmatch(f"[{'0' * 32}] greet START\n[…] greet DONE\nCOMPLETED in 12.3 s")
    assert not shown.fullmatch(f"[{'0' * 32}] greet FAIL\nCOMPLETED in 12.3 s")
    assert not shown.fullmatch("[01a2] greet DONE\nCOMPLETED in 12.3 s")
