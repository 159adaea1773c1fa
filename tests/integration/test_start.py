"""Starting instances: idempotency keys, the input schema, and what may not be kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchestrator import engine, queries
from orchestrator.births import Started
from orchestrator.errors import BadRequest, Conflict, Invalid, InvalidPayload, NotFound, Problem, TooLarge
from orchestrator.store import definitions
from tests import flights
from tests.services import Airport

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

PERMIT = """
id: permit
input:
  type: object
  required: [permitNo, fee]
  properties:
    permitNo: {type: string, minLength: 1}
    fee: {type: number, exclusiveMinimum: 0}
    owner: {type: object, properties: {name: {type: string}}}
businessKey: payload.permitNo
steps: [{id: work, service: keyed.work}]
"""
GOOD = {"permitNo": "P-1", "fee": 75}


def start(airport: Airport, payload: Any, key: str | None = None, tenant: str = flights.TENANT) -> Started:
    return engine.start(airport.system, tenant=tenant, workflow_id="permit", payload=payload, idempotency_key=key)


def count(airport: Airport) -> int:
    found: int = airport.query("SELECT count(*) FROM instance")[0][0]
    return found


@pytest.fixture
def permits(tower: Airport) -> Airport:
    tower.define(PERMIT)
    return tower


def test_an_instance_is_born_with_its_first_step_and_its_ids(permits: Airport) -> None:
    started = start(permits, GOOD)
    assert started == Started(instance_id=started.instance_id, status="RUNNING", created=True)
    shown = permits.status(started.instance_id)
    assert (shown["instanceId"], shown["traceId"]) == (started.instance_id,) * 2
    assert len(started.instance_id) == 32
    assert (shown["workflowId"], shown["version"], shown["businessKey"]) == ("permit", 1, "P-1")
    assert [(one["seq"], one["step"], one["status"]) for one in shown["history"]] == [
        (1, None, "RUNNING"),
        (2, "work", "READY"),
    ]


def test_the_same_key_with_the_same_body_is_the_same_instance(permits: Airport) -> None:
    first = start(permits, GOOD, "k")
    again = start(permits, dict(reversed(GOOD.items())), "k")
    assert (again.instance_id, again.created) == (first.instance_id, False)
    assert count(permits) == 1
    permits.run(first.instance_id, "work")
    assert start(permits, GOOD, "k").status == "COMPLETED"


def test_the_same_key_with_another_body_is_a_conflict(permits: Airport) -> None:
    first = start(permits, GOOD, "k")
    with pytest.raises(Conflict) as raised:
        start(permits, GOOD | {"fee": 76}, "k")
    assert raised.value.present == first.instance_id
    permits.define(PERMIT.replace("id: permit\n", "id: other\n"))
    with pytest.raises(Conflict):
        engine.start(permits.system, tenant=flights.TENANT, workflow_id="other", payload=GOOD, idempotency_key="k")
    assert count(permits) == 1


def test_a_repeated_start_is_answered_alike_although_its_workflow_has_a_stricter_version_now(permits: Airport) -> None:
    first = start(permits, GOOD, "k")
    permits.define(PERMIT.replace("required: [permitNo, fee]", "required: [permitNo, fee, owner]"))
    assert start(permits, GOOD, "k").instance_id == first.instance_id
    with pytest.raises(InvalidPayload):
        start(permits, GOOD, "k2")


def test_keys_are_each_tenants_own(permits: Airport) -> None:
    engine.put_definition(permits.system, tenant="elsewhere", workflow_id="permit", text=PERMIT)
    mine, theirs = start(permits, GOOD, "k"), start(permits, GOOD, "k", "elsewhere")
    assert mine.instance_id != theirs.instance_id
    with pytest.raises(NotFound):
        queries.status(permits.system, tenant="elsewhere", instance_id=mine.instance_id)


def test_without_a_key_the_same_body_is_another_instance(permits: Airport) -> None:
    assert start(permits, GOOD).instance_id != start(permits, GOOD).instance_id
    assert start(permits, GOOD, "").created


def test_of_many_starts_with_one_key_at_once_one_creates_and_all_are_told_its_id(permits: Airport) -> None:
    with ThreadPoolExecutor(12) as pool:
        started = list(pool.map(lambda _: start(permits, GOOD, "k"), range(24)))
    assert len({one.instance_id for one in started}) == 1
    assert sum(one.created for one in started) == 1
    assert count(permits) == 1
    assert permits.query("SELECT count(*) FROM step")[0][0] == 1


def test_of_many_starts_with_one_key_and_other_bodies_at_once_the_losers_are_told_of_the_conflict(
    permits: Airport,
) -> None:
    def attempt(fee: int) -> str:
        try:
            return start(permits, GOOD | {"fee": fee}, "k").instance_id
        except Conflict as conflict:
            return conflict.present or ""

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(attempt, range(1, 17)))) == 1
    assert count(permits) == 1


def test_a_payload_that_does_not_fit_the_schema_is_refused_with_every_path_that_fails(permits: Airport) -> None:
    with pytest.raises(InvalidPayload) as raised:
        start(permits, {"permitNo": "", "fee": "75", "owner": {"name": 1}})
    told = [problem.message.split(":")[0] for problem in raised.value.problems]
    assert told == ["payload.fee", "payload.owner.name", "payload.permitNo"]
    with pytest.raises(InvalidPayload) as raised:
        start(permits, {})
    assert len(raised.value.problems) == 2
    assert count(permits) == 0


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


REFUSED: dict[str, tuple[Any, type[Exception]]] = {
    "nothing": (None, BadRequest),
    "a list": ([], BadRequest),
    "text": ("text", BadRequest),
    "a number": (7, BadRequest),
    "NaN": (GOOD | {"x": float("nan")}, BadRequest),
    "infinity": (GOOD | {"x": [float("-inf")]}, BadRequest),
    "NUL": (GOOD | {"x": "a\0b"}, BadRequest),
    "NUL in a name": (GOOD | {"a\0b": 1}, BadRequest),
    "half a character": (GOOD | {"x": "\ud800"}, BadRequest),
    "deep": (GOOD | {"x": nested(200)}, BadRequest),
    "deeper than Python goes": (GOOD | {"x": nested(100_000)}, BadRequest),
    "no JSON": (GOOD | {"x": {1, 2}}, BadRequest),
    "large": (GOOD | {"x": "é" * 500_001}, TooLarge),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_and_nothing_is_started(permits: Airport, name: str) -> None:
    payload, error = REFUSED[name]
    for key in (None, "k"):
        with pytest.raises(error):
            start(permits, payload, key)
    assert count(permits) == 0


@pytest.mark.parametrize(
    "value",
    ["\\u0000 is how NUL is written", "ünïcode 🚲", "'; DROP TABLE instance; --", "%(x)s :id {0}", 10**30, -1.5e-7, True, None, [], {},
     nested(90), "x" * 900_000, "\u2028\x7f\x1b[31m"],
    ids=lambda value: str(value)[:20].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_what_can_be_kept_reaches_the_service_unchanged(permits: Airport, value: Any) -> None:
    instance = start(permits, GOOD | {"x": value}).instance_id
    permits.run(instance, "work")
    assert permits.status(instance)["status"] == "COMPLETED"
    assert permits.service.calls("work")[0].body["input"]["x"] == value


def test_what_is_unknown_or_anothers_cannot_be_started(permits: Airport) -> None:
    for tenant, workflow in ((flights.TENANT, "nowhere"), ("elsewhere", "permit"), (flights.TENANT, "")):
        with pytest.raises(NotFound):
            engine.start(permits.system, tenant=tenant, workflow_id=workflow, payload=GOOD)


def test_a_business_key_that_the_payload_does_not_have_is_an_error_of_the_payload(tower: Airport) -> None:
    tower.define("id: keyless\nbusinessKey: payload.permitNo\nsteps: [{id: work, service: keyed.work}]")
    with pytest.raises(InvalidPayload, match="businessKey"):
        tower.start("keyless", {})
    assert tower.status(tower.start("keyless", {"permitNo": 7}))["businessKey"] == "7"


def test_the_errors_of_a_refused_file_answer_whoever_starts_it(permits: Airport) -> None:
    with permits.system.database.transaction() as connection:
        problem = Problem(
            message="unknown key `servce`", file="permit.yaml", line=3, column=5, hint="did you mean `service`?"
        )
        definitions.refuse(connection, flights.TENANT, "permit", "permit.yaml", [problem])
    with pytest.raises(Invalid) as raised:
        start(permits, GOOD)
    assert raised.value.problems == (problem,)
    permits.define(PERMIT)
    assert start(permits, GOOD).created, "a good text has come"


def test_instances_are_listed_newest_first_by_what_is_asked_for(permits: Airport) -> None:
    ids = [start(permits, {"permitNo": f"P-{n % 2}", "fee": 1}).instance_id for n in range(5)]
    permits.run(ids[0], "work")

    def listed(**more: Any) -> list[str]:
        return [
            one["instanceId"] for one in queries.list_instances(permits.system, tenant=flights.TENANT, **more).items
        ]

    assert listed() == ids[::-1]
    assert listed(status="COMPLETED") == [ids[0]]
    assert listed(business_key="P-1") == [ids[3], ids[1]]
    assert listed(workflow_id="nowhere") == []
    page = queries.list_instances(permits.system, tenant=flights.TENANT, limit=2)
    assert [one["instanceId"] for one in page.items] == ids[:2:-1]
    assert listed(limit=2, cursor=page.cursor) == [ids[2], ids[1]]
