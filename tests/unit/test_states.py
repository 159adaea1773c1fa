from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import state_diagram, states

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "states.md"


def test_the_page_in_the_docs_is_the_table() -> None:
    assert PAGE.read_text() == state_diagram.page(), (
        "run: python -m orchestrator.state_diagram > docs/reference/states.md"
    )


@pytest.mark.parametrize("table", [states.STEP, states.INSTANCE])
def test_every_edge_is_drawn_once(table: state_diagram.Table) -> None:
    lines = list(state_diagram.diagram(table))
    drawn = {
        (way, verb)
        for way, _, verbs in (line.strip().partition(": ") for line in lines[1:])
        for verb in verbs.split(", ")
    }
    assert drawn == {(f"{source or '[*]'} --> {target}", verb) for source, verb, target in states.edges(table)}
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize("table", [states.STEP, states.INSTANCE])
def test_a_verb_stands_under_its_own_name_and_says_why(table: state_diagram.Table) -> None:
    assert all(name == row.verb and row.why and row.sources for name, row in table.items())


def test_only_states_that_are_listed_are_led_to_and_from() -> None:
    for table, known in ((states.STEP, states.STEP_STATES), (states.INSTANCE, states.INSTANCE_STATES)):
        named = {name for source, _, target in states.edges(table) for name in (source, target)} - {states.UNBORN}
        assert named == set(known)


def test_from_an_ended_instance_only_a_restart_and_the_undo_of_its_parent_lead_on() -> None:
    leaving = {verb for source, verb, _ in states.edges(states.INSTANCE) if source in states.TERMINAL}
    assert leaving == {"restart", "recall"}


def test_every_instance_state_can_be_left_for_an_end() -> None:
    after: dict[str, set[str]] = {name: set() for name in states.INSTANCE_STATES}
    for source, _, target in states.edges(states.INSTANCE):
        after.get(source, set()).add(target)
    reached = set(states.TERMINAL)
    while more := {name for name, targets in after.items() if targets & reached} - reached:
        reached |= more
    assert reached == set(states.INSTANCE_STATES)


def test_claims_take_only_what_is_ready_or_due_again() -> None:
    assert states.STEP["claim"].sources == {states.READY, states.RETRYING} == states.CLAIMABLE


@pytest.mark.parametrize("source", [states.RUNNING, states.WAITING])
def test_a_callback_may_come_before_its_leg_has_parked(source: str) -> None:
    assert states.target("resolve", source) == states.SUCCEEDED


@pytest.mark.parametrize(("verb", "source"), [("claim", states.RUNNING), ("succeed", states.WAITING), ("ready", states.READY),
                                              ("undo", states.COMPENSATED)])  # fmt: skip
def test_what_is_not_in_the_table_is_refused(verb: str, source: str) -> None:
    with pytest.raises(ValueError, match=f"{verb} is not allowed from {source}"):
        states.target(verb, source)


def test_a_step_that_was_not_reached_is_called_unborn() -> None:
    with pytest.raises(ValueError, match="claim is not allowed from unborn"):
        states.target("claim", states.UNBORN)


def test_the_sets_that_decide_what_a_failure_awaits_do_not_overlap() -> None:
    assert not states.PENDING & states.UNSETTLED
    assert states.CLAIMABLE < states.PENDING < states.ACTIVE
    assert states.is_terminal(states.COMPLETED)
    assert not states.is_terminal(states.STUCK)
