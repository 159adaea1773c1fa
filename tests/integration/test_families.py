"""An instance and those that it has started, looked at together."""

from __future__ import annotations

import pytest

from orchestrator import queries
from orchestrator.commands import following
from orchestrator.errors import BadRequest
from orchestrator.queries import Page
from tests import flights
from tests.services import Airport

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

SITE = "id: site\nsteps: [{id: visit, service: keyed.visit}]"
DISTRICT = "id: district\nsteps: [{id: sub, workflow: site}]"
CITY = """
id: city
steps:
  - {id: area, workflow: district}
  - {id: stamp, service: keyed.stamp}
"""


@pytest.fixture
def family(airport: Airport) -> list[str]:
    """A root that has ended, its child, and its grandchild."""
    for text in (SITE, DISTRICT):
        airport.define(text)
    root = airport.fly(CITY)
    airport.ended(root)
    (child,) = airport.status(root)["children"]
    (grandchild,) = airport.status(child["instanceId"])["children"]
    return [root, child["instanceId"], grandchild["instanceId"]]


def test_parents_and_children_name_each_other(airport: Airport, family: list[str]) -> None:
    root, child, grandchild = family
    shown = airport.status(root)
    assert (shown["parent"], shown["stepsOmitted"]) == (None, 0)
    assert shown["children"] == [{"instanceId": child, "workflowId": "district", "step": "area", "status": "COMPLETED"}]
    assert airport.status(child)["parent"] == {"instanceId": root, "step": "area"}
    assert airport.status(grandchild)["parent"] == {"instanceId": child, "step": "sub"}
    assert {one["instanceId"] for one in shown["history"]} == {root}


def pages(airport: Airport, instance: str, limit: int) -> list[Page]:
    found = [queries.history(airport.system, tenant=flights.TENANT, instance_id=instance, limit=limit)]
    while (cursor := found[-1].cursor) is not None:
        found.append(
            queries.history(airport.system, tenant=flights.TENANT, instance_id=instance, limit=limit, cursor=cursor)
        )
    return found


def test_the_history_of_a_root_has_all_that_descend_from_it_by_time(airport: Airport, family: list[str]) -> None:
    items = [item for page in pages(airport, family[0], 500) for item in page.items]
    assert {one["instanceId"] for one in items} == set(family)
    assert {one["workflowId"] for one in items} == {"city", "district", "site"}
    assert [one["time"] for one in items] == sorted(one["time"] for one in items)
    for one in family:
        seqs = [item["seq"] for item in items if item["instanceId"] == one]
        assert seqs == list(range(1, len(seqs) + 1))
    below = [item for page in pages(airport, family[1], 500) for item in page.items]
    assert {one["instanceId"] for one in below} == set(family[1:])


def test_pages_lose_nothing_and_repeat_nothing(airport: Airport, family: list[str]) -> None:
    whole = pages(airport, family[0], 500)[0].items
    assert [item for page in pages(airport, family[0], 1) for item in page.items] == whole
    assert [item for page in pages(airport, family[0], 3) for item in page.items] == whole


def test_logs_name_the_instance_of_each_line(airport: Airport, family: list[str]) -> None:
    items = queries.logs(airport.system, tenant=flights.TENANT, instance_id=family[0]).items
    visit = next(one for one in items if one["step"] == "visit")
    assert (visit["instanceId"], visit["workflowId"]) == (family[2], "site")
    assert visit["line"].startswith(f"[{family[2]}] visit")


def test_who_follows_a_root_sees_its_descendants(airport: Airport, family: list[str]) -> None:
    seen = list(following.follow(airport.system, tenant=flights.TENANT, trace=family[0], until=following.is_over))
    assert {one["instanceId"] for one in seen} == set(family)
    assert len(seen) == len({(one["instanceId"], one["seq"]) for one in seen})


def test_a_cursor_of_something_else_is_refused(airport: Airport, family: list[str]) -> None:
    for cursor in ("17", "x", f"99999999999999999-{family[0]}-1x"):
        with pytest.raises(BadRequest, match="is not a cursor"):
            queries.history(airport.system, tenant=flights.TENANT, instance_id=family[0], cursor=cursor)


def test_of_many_steps_those_that_ended_well_are_left_out_first(
    airport: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "STEPS", 3)
    instance = airport.fly("""
id: many
steps:
  - id: each
    forEach: payload.items
    as: one
    steps: [ {id: work, service: keyed.work} ]
  - {id: wait, pause: true}
""", {"items": list(range(6))})  # fmt: skip
    shown = airport.reached(instance, "WAITING")
    assert "wait" in [one["step"] for one in shown["steps"]]
    assert len(shown["steps"]) == 3
    assert shown["stepsOmitted"] == 5
