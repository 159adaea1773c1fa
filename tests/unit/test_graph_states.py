from __future__ import annotations

import pytest

from orchestrator import states
from orchestrator.definition import Definition
from orchestrator.graph_states import URGENCY, Tally, in_words, most_urgent, tallies
from orchestrator.loader import load

VISITS = """\
id: visits
steps:
  - {id: first, service: a.one}
  - id: sites
    forEach: payload.sites
    as: site
    steps:
      - {id: plan, service: a.two}
      - id: way
        switch: [{when: site.far, steps: [{id: drive, service: a.three}]}]
      - id: tries
        repeat: {until: steps.visit.result.ok, max: 4}
        steps: [{id: visit, service: a.four}]
"""
ROUNDS = """\
id: rounds
steps:
  - id: tries
    repeat: {until: steps.visit.result.ok, max: 4}
    steps:
      - {id: visit, service: a.one}
      - id: papers
        forEach: payload.papers
        as: paper
        steps: [{id: read, service: a.two}]
"""


@pytest.fixture(scope="module")
def visits() -> Definition:
    return load(VISITS)


@pytest.fixture(scope="module")
def rounds() -> Definition:
    return load(ROUNDS)


def test_every_state_of_a_step_has_an_urgency_and_words() -> None:
    assert URGENCY.keys() == set(states.STEP_STATES)


def test_the_most_urgent_is_what_needs_a_person_then_what_moves_then_what_has_ended() -> None:
    assert most_urgent(["SUCCEEDED", "RUNNING", "FAILED", "WAITING"]) == "FAILED"
    assert most_urgent(["SKIPPED", "READY", "SUCCEEDED"]) == "READY"
    assert most_urgent([]) == ""


def test_a_state_of_another_version_is_shown_as_it_is_and_before_all_others() -> None:
    assert most_urgent(["STUCK", "DREAMING"]) == "DREAMING"
    assert in_words("DREAMING") == "DREAMING"


def test_a_step_outside_loops_has_no_badge_and_one_without_a_row_no_tally(visits: Definition) -> None:
    assert tallies(visits, {"first": "WAITING"}) == {"first": Tally(state="WAITING")}


def test_a_step_in_a_loop_counts_all_iterations_that_are_known(visits: Definition) -> None:
    rows = {"sites": "RUNNING", "plan[0]": "SUCCEEDED", "plan[1]": "SUCCEEDED", "plan[2]": "FAILED", "plan[3]": "READY"}
    assert tallies(visits, rows)["plan"] == Tally(state="FAILED", badge="2 of 4 done, 1 failed, 1 ready")
    assert tallies(visits, rows, {"sites": 9})["plan"].badge == "2 of 9 done, 1 failed, 1 ready"


def test_a_step_behind_a_switch_counts_those_that_went_this_way(visits: Definition) -> None:
    rows = {"sites": "RUNNING", "plan[0]": "SUCCEEDED", "plan[1]": "SUCCEEDED", "drive[1]": "SUCCEEDED"}
    assert tallies(visits, rows, {"sites": 9})["drive"].badge == "1 of 1 done"


def test_an_iteration_is_done_when_its_last_step_is(visits: Definition) -> None:
    rows = {"sites": "RUNNING", "plan[0]": "SUCCEEDED", "tries[0]": "SUCCEEDED", "plan[1]": "SUCCEEDED"}
    assert tallies(visits, rows)["sites"] == Tally(state="RUNNING", badge="1 of 2 done, 1 running")


def test_a_loop_under_way_shows_its_most_urgent_iteration_and_one_that_has_ended_itself(visits: Definition) -> None:
    rows = {"plan[0]": "SUCCEEDED", "tries[0]": "SUCCEEDED", "plan[1]": "UNKNOWN"}
    assert tallies(visits, {**rows, "sites": "RUNNING"})["sites"].state == "UNKNOWN"
    assert tallies(visits, {**rows, "sites": "SKIPPED"})["sites"].state == "SKIPPED"


def test_an_iteration_that_has_ended_and_is_undone_is_not_done(visits: Definition) -> None:
    rows = {"sites": "COMPENSATING", "plan[0]": "COMPENSATED", "tries[0]": "COMPENSATED"}
    assert tallies(visits, rows)["sites"].badge == "0 of 1 done, 1 undone"


def test_of_a_repeat_the_latest_round_counts(rounds: Definition) -> None:
    rows = {"tries": "RUNNING", "visit[0]": "FAILED", "papers[0]": "SUCCEEDED", "visit[1]": "RUNNING"}
    found = tallies(rounds, rows)
    assert found["visit"] == Tally(state="RUNNING", badge="round 2")
    assert found["tries"] == Tally(state="RUNNING", badge="round 2 of at most 4")


def test_a_loop_in_a_repeat_counts_the_items_of_the_latest_round(rounds: Definition) -> None:
    rows = {"tries": "RUNNING", "papers[0]": "SUCCEEDED", "papers[1]": "RUNNING"}
    rows |= {f"read[0][{n}]": "SUCCEEDED" for n in range(12)} | {"read[1][0]": "SUCCEEDED", "read[1][1]": "WAITING"}
    found = tallies(rounds, rows, {"papers[0]": 12, "papers[1]": 3})
    assert found["read"] == Tally(state="WAITING", badge="1 of 3 done, 1 waiting")
    assert found["papers"] == Tally(state="WAITING", badge="1 of 3 done, 1 waiting")


def test_a_repeat_in_a_loop_counts_its_own_rows_once_several_run(visits: Definition) -> None:
    rows = {"sites": "RUNNING", "tries[0]": "SUCCEEDED", "tries[1]": "RUNNING"}
    rows |= {"visit[0][0]": "SUCCEEDED", "visit[1][0]": "SUCCEEDED", "visit[1][1]": "FAILED"}
    found = tallies(visits, rows, {"sites": 2})
    assert found["tries"] == Tally(state="FAILED", badge="1 of 2 done, 1 running")
    assert found["visit"] == Tally(state="FAILED", badge="1 of 2 done, 1 failed")
