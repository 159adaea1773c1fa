"""Bugs planted in the join of branches: it is passed early, or twice."""

from __future__ import annotations

import pytest

from orchestrator import flow
from orchestrator.instance import Instance
from tests import flights
from tests.chaos.seeded import Plant, Scene, nothing
from tests.chaos.shapes import PAYLOAD

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

BRANCHES = """
id: branches
steps:
  - id: both
    branches:
      one: [{id: x, service: keyed.x}]
      other: [{id: y, service: keyedFar.y}]
  - {id: last, service: keyed.last}
"""
NEIGHBOURS = """
id: neighbours
steps:
  - {id: x, service: keyed.x, parallel: true}
  - {id: y, service: keyedFar.y, parallel: true}
  - {id: last, service: keyed.last}
"""


def count_an_arrival_twice(patch: pytest.MonkeyPatch) -> None:
    """The join is ready when the first branch has ended."""
    arrive = flow._arrive

    def twice(instance: Instance, block: str) -> None:
        row = instance.row(block)
        assert row is not None
        instance.amend(row, branches_left=row.branches_left - 1)
        arrive(instance, block)

    patch.setattr(flow, "_arrive", twice)


def pass_the_join_twice(patch: pytest.MonkeyPatch) -> None:
    """What follows is begun once more when it has ended, as by a late message that nobody drops."""
    leave, begun = flow._leave, set()

    def again(instance: Instance, step: str) -> None:
        if step == "last" and instance.header.id not in begun:
            begun.add(instance.header.id)
            flow._ready(instance, step, instance.row(step))
        else:
            leave(instance, step)

    patch.setattr(flow, "_leave", again)


@pytest.mark.parametrize("definition", [BRANCHES, NEIGHBOURS], ids=["branches", "neighbours"])
@pytest.mark.parametrize(
    ("plant", "reported"),
    [
        (nothing, set()),
        (count_an_arrival_twice, {"join-early", "effect-out-of-order"}),
        (pass_the_join_twice, {"join-doubled", "effect-doubled"}),
    ],
)
def test_a_join_that_is_counted_twice(
    plant: Plant, reported: set[str], definition: str, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    airport = scene.airport
    held = airport.service.hold("y")
    with flights.worker(airport.system):
        instance = airport.fly(definition, PAYLOAD)
        airport.service.came("y")
        if plant is count_an_arrival_twice:
            airport.service.came("last")
        held.set()
        assert airport.ended(instance)["status"] == "COMPLETED"
    assert scene.kinds() == reported
