"""Which steps the page of an instance shows when there are very many."""

from __future__ import annotations

from typing import Any

from orchestrator.ui import shown_steps
from tests.unit.loading import read

LOOPS = """
id: visits
steps:
  - {id: open, service: fileSvc.open}
  - id: houses
    forEach: payload.houses
    as: house
    steps:
      - id: rooms
        forEach: house.rooms
        as: room
        steps: [{id: look, service: fileSvc.look}]
      - {id: sign, service: fileSvc.sign}
"""


def step(name: str, status: str = "SUCCEEDED") -> dict[str, Any]:
    return {"step": name, "status": status}


def names(steps: list[dict[str, Any]]) -> list[str]:
    return [one["step"] for one in steps]


def test_what_is_in_a_loop_stands_with_the_outermost_loop() -> None:
    steps = [step(name) for name in ("open", "houses", "rooms[0]", "look[0][0]", "look[0][1]", "sign[0]")]
    assert names(shown_steps.outer(steps)) == ["open", "houses"]
    (found,) = shown_steps.rounds(read(LOOPS), steps)
    assert (found.loop, names(found.steps), found.omitted) == ("houses", names(steps[2:]), 0)


def test_of_too_many_those_that_have_not_ended_well_are_kept_in_order() -> None:
    steps = [step(f"look[{number}]", "FAILED" if number == 70 else "SUCCEEDED") for number in range(80)]
    (found,) = shown_steps.rounds(None, steps)
    assert names(found.steps) == [*names(steps[:49]), "look[70]"]
    assert (found.loop, found.omitted) == ("look", 30)


def test_many_loops_share_the_room_there_is() -> None:
    steps = [step(f"{loop}[{number}]") for loop in ("a", "b", "c") for number in range(40)]
    assert [len(one.steps) for one in shown_steps.rounds(None, steps)] == [16, 16, 16]
