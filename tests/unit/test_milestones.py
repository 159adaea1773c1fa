"""How far an instance has come, in words for people who do not run it."""

from __future__ import annotations

from orchestrator import loader, states
from orchestrator.milestones import milestones, plain

TEXT = """\
id: permit
steps:
  - {id: uploadDocs, service: fileSvc.upload}
  - {id: zoning, service: fileSvc.a, parallel: true}
  - {id: insurance, service: fileSvc.b, parallel: true}
  - id: review
    title: Both offices
    branches:
      legal: [{id: readDeed, service: fileSvc.c}]
      fire: [{id: inspect, service: fileSvc.d}]
  - {id: notify, service: fileSvc.e}
"""
DEFINITION = loader.load(TEXT)


def standings(is_over: bool = False, **found: str) -> dict[str, str]:
    rows = {name: frozenset(several.split()) for name, several in found.items()}
    return {one.step: one.standing for one in milestones(DEFINITION, rows, is_over=is_over)}


def test_ids_are_said_as_words_where_there_is_no_title() -> None:
    assert plain("uploadDocs") == "Upload docs"
    assert plain("updatePermitDB") == "Update permit DB"
    assert plain("street-closure") == "Street closure"


def test_neighbours_side_by_side_count_one_by_one_and_a_written_block_as_one() -> None:
    shown = milestones(DEFINITION, {}, is_over=False)
    assert [(one.title, one.together) for one in shown] == [
        ("Upload docs", False), ("Zoning", False), ("Insurance", True), ("Both offices", False), ("Notify", False),
    ]  # fmt: skip


def test_what_is_done_now_and_next() -> None:
    found = standings(uploadDocs=states.SUCCEEDED, zoning=states.RUNNING, insurance=states.WAITING)
    assert list(found.values()) == ["done", "now", "now", "next", "next"]


def test_a_block_is_now_until_all_of_it_is_done() -> None:
    assert standings(review=states.RUNNING, readDeed=states.SUCCEEDED, inspect=states.READY)["review"] == "now"
    assert standings(review=states.SUCCEEDED, readDeed=states.SUCCEEDED, inspect=states.SUCCEEDED)["review"] == "done"


def test_a_block_in_which_something_failed_and_was_gone_on_from_is_done() -> None:
    assert standings(review=states.SUCCEEDED, readDeed=states.FAILED, inspect=states.SUCCEEDED)["review"] == "done"


def test_what_was_undone_inside_a_block_undoes_the_block() -> None:
    assert standings(review=states.SUCCEEDED, readDeed=states.COMPENSATED)["review"] == "undone"


def test_what_only_a_person_can_settle_is_held_up() -> None:
    assert standings(review=states.RUNNING, readDeed=states.UNKNOWN, inspect=states.RUNNING)["review"] == "held"


def test_what_has_not_been_reached_when_it_is_over_never_will_be() -> None:
    found = standings(is_over=True, uploadDocs=states.COMPENSATED, zoning=states.FAILED)
    assert list(found.values()) == ["undone", "failed", "dropped", "dropped", "dropped"]


def test_of_iterations_one_that_goes_on_is_enough_to_be_now() -> None:
    assert standings(uploadDocs=f"{states.SUCCEEDED} {states.RUNNING}")["uploadDocs"] == "now"
