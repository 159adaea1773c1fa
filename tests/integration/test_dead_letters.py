"""Messages that no task can take are kept, counted and shown, and the worker that met them goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from celery.worker import state
from kombu import Connection
from sqlalchemy import event

from orchestrator import canvas, cli, dead_letters, queries
from orchestrator.lanes.exchanges import CLOUD_EVENT, FAILED, LANDED, LANDED_EVENTS, LANDED_QUEUE
from orchestrator.servers.ports import free_port
from orchestrator.store import dead_letters as store
from orchestrator.store.database import Database
from orchestrator.store.dead_letters import KEPT, Kept, Letter
from tests import flights
from tests.services import Airport

pytestmark = [pytest.mark.integration, pytest.mark.rabbitmq]

QUEUE = "legs"
FLIGHT = "id: neighbour\nsteps: [{id: work, service: keyed.work}]"
NOWHERE = "0" * 32


def headers(task: str, **more: Any) -> dict[str, Any]:
    return {"lang": "py", "task": task, "id": "message-1", "argsrepr": "", "kwargsrepr": "", **more}


def publish(connection: Connection, content: Any, **how: Any) -> None:
    """As anybody may who knows the broker's address."""
    given = {"content_type": "application/json", "content_encoding": "utf-8", **how}
    with connection.channel() as channel:
        connection.Producer(channel, auto_declare=False).publish(content, exchange="", routing_key=QUEUE, **given)


def body(*parts: Any) -> str:
    return json.dumps(parts)


GOOD_EMBED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
FORGED: dict[str, tuple[str, Any, dict[str, Any]]] = {
    # name: reason, content, how it is published
    "no headers at all": ("not_a_task", '{"hello": 1}', {}),
    "no JSON, and no task": ("undecodable", b"\xff\xfe{", {}),
    "a content type that is not accepted": ("undecodable", b"\x80\x04K\x01.", {
        "content_type": "application/x-python-serialize", "content_encoding": "binary"}),
    "the same for a task of ours": ("invalid", b"\x80\x04K\x01.", {
        "content_type": "application/x-python-serialize", "content_encoding": "binary", "headers": headers(canvas.LEG)}),
    "a task that nobody has": ("unknown_task", body([], {}, GOOD_EMBED), {"headers": headers("os.system")}),
    "no JSON for a task of ours": ("undecodable", "{", {"headers": headers(canvas.LEG)}),
    "JSON nested a hundred thousand deep": ("undecodable", "[" * 100_000, {"headers": headers(canvas.LEG)}),
    "parts that are no parts": ("invalid", "[1]", {"headers": headers(canvas.LEG)}),
    "a number for a body": ("invalid", "7", {"headers": headers(canvas.LEG)}),
    "an eta that is no time": ("invalid", body([[]], {}, GOOD_EMBED), {"headers": headers(canvas.LEG, eta="soon")}),
    "a headers' id that is a list": ("invalid", body([], {}, GOOD_EMBED), {"headers": headers(canvas.LEG, id=["x"])}),
    "arguments that do not fit": ("raised", body([], {"who": "me"}, GOOD_EMBED), {"headers": headers(canvas.LEG)}),
    "arguments that are no arguments": ("invalid", body("ab", 3, GOOD_EMBED), {"headers": headers(canvas.LEG)}),
    "a wave that is no wave": (
        "no_definition", body([7], {"version": NOWHERE, "start": "a"}, GOOD_EMBED), {"headers": headers(canvas.LEG)}),
    "a version that no definition has": (
        "no_definition", body([[NOWHERE]], {"version": NOWHERE, "start": "a"}, GOOD_EMBED),
        {"headers": headers(canvas.LEG)}),
    "a version that is no version": (
        "raised", body([[NOWHERE]], {"version": "x", "start": "a"}, GOOD_EMBED), {"headers": headers(canvas.LEG)}),
    "an undo of what no definition has": (
        "no_definition", body([[NOWHERE]], {"version": NOWHERE, "step": "a"}, GOOD_EMBED),
        {"headers": headers(canvas.COMPENSATE)}),
}  # fmt: skip


def kept(airport: Airport) -> list[Kept]:
    with airport.system.database.transaction() as connection:
        return list(store.listed(connection, None, 1000))


@pytest.fixture
def empty(airport: Airport) -> Airport:
    with airport.system.database.transaction() as connection:
        store.clear(connection, None)
    return airport


def flies_on(airport: Airport) -> None:
    """The worker takes what comes after."""
    instance = airport.fly(FLIGHT)
    assert airport.ended(instance)["status"] == "COMPLETED"


@pytest.mark.parametrize("name", FORGED)
def test_what_no_task_can_take_is_kept_with_its_reason_and_the_worker_goes_on(empty: Airport, name: str) -> None:
    reason, content, how = FORGED[name]
    with empty.system.app.connection_for_write() as connection:
        publish(connection, content, **how)
    [one] = flights.until(lambda: kept(empty), f"the letter of {name}")
    assert (one.letter.reason, one.letter.queue) == (reason, QUEUE)
    assert one.letter.error
    assert one.letter.content
    flies_on(empty)
    assert len(kept(empty)) == 1, "it does not come again"
    flights.until(lambda: not state.reserved_requests, "nothing that is left in the worker")


STRANGE: list[Any] = [None, [], {}, "x", 7, -1, 1e300, True, [[]], {"a": {}}, "9" * 50]
HEADERS = ["id", "eta", "expires", "retries", "timelimit", "group", "root_id", "parent_id", "chord", "argsrepr", "origin",
           "ignore_result", "replaced_task_nesting", "stamps", "stamped_headers", "shadow", "group_index"]  # fmt: skip
EMBEDDED = ["callbacks", "errbacks", "chain", "chord"]


def test_no_header_that_anybody_may_forge_ends_the_worker_or_stays_in_it(empty: Airport) -> None:
    """Whatever becomes of each: the worker has as many free hands afterwards as before."""
    good = {"version": NOWHERE, "start": "a"}
    with empty.system.app.connection_for_write() as connection:
        for strange in STRANGE:
            for name in HEADERS:
                publish(connection, body([[NOWHERE]], good, GOOD_EMBED), headers=headers(canvas.LEG, **{name: strange}))
            for name in EMBEDDED:
                embed = {**GOOD_EMBED, name: strange}
                publish(connection, body([[NOWHERE]], good, embed), headers=headers(canvas.LEG))
    flies_on(empty)
    flights.until(lambda: not state.reserved_requests and not state.active_requests, "a worker with free hands")
    flies_on(empty)
    put(empty, content="the last")
    flights.until(lambda: any(one.letter.content == "the last" for one in kept(empty)), "all letters")


EVENTS: dict[str, tuple[str, bytes]] = {
    "no JSON": ("unfit_event", b"\xff\x00{"),
    "no event": ("unfit_event", b'{"hello": 1}'),
    "a NUL": ("unfit_event", json.dumps({"specversion": "1.0", "data": {"trace": "a\0"}}).encode()),
    "half a surrogate pair": ("unfit_event", b'{"specversion": "1.0", "data": {"trace": "\\ud800"}}'),
    "nested too deep": ("unfit_event", b"[" * 100_000),
    "a number that is too large": ("unfit_event", b'{"specversion": "1.0", "data": {"result": 1e999}}'),
    "a result that is too large": ("unfit_event", b'{"specversion": "1.0", "data": {"result": "' + b"x" * 2_000_000 + b'"}}'),
    "another's token": ("refused", json.dumps(
        {"specversion": "1.0", "data": {"trace": NOWHERE, "step": "work", "token": "a" * 40}}).encode()),
}  # fmt: skip


@pytest.mark.parametrize("name", EVENTS)
def test_a_landed_event_that_fits_nothing_is_kept(empty: Airport, name: str) -> None:
    reason, content = EVENTS[name]
    with empty.system.app.connection_for_write() as connection:
        connection.Producer().publish(content, exchange=LANDED_EVENTS, declare=[LANDED_EVENTS], routing_key="landed.x",
                                      content_type=CLOUD_EVENT, content_encoding="utf-8")  # fmt: skip
    [one] = flights.until(lambda: kept(empty), f"the letter of {name}")
    assert (one.letter.reason, one.letter.queue) == (reason, "landed-events")
    assert len(one.letter.content) <= dead_letters.SAMPLE
    assert one.letter.size == len(content)
    assert "a" * 40 not in one.letter.content, "a token opens a wait"


@pytest.mark.parametrize("task", [LANDED, FAILED])
def test_an_answer_of_a_celery_lane_that_nothing_waits_for_is_kept_without_its_token(empty: Airport, task: str) -> None:
    told = {"trace": NOWHERE, "step": "work", "token": "s" * 40}
    empty.system.app.send_task(task, ({"a": 1},), told, queue=LANDED_QUEUE)
    [one] = flights.until(lambda: kept(empty), "the letter")
    assert (one.letter.reason, one.letter.queue) == ("refused", LANDED_QUEUE)
    assert "s" * 40 not in one.letter.content
    assert NOWHERE in one.letter.content


def put(airport: Airport, reason: Any = "undecodable", content: str = "x") -> None:
    dead_letters.keep(airport.system, reason, queue="q", error="e\x1b[2J", content=content)


def test_they_are_bounded_by_reason_and_counted_for_ever(tower: Airport) -> None:
    for _ in range(KEPT + 20):
        put(tower)
    put(tower, "refused", "y" * 100_000)
    assert dead_letters.flush(tower.system) == KEPT + 21
    letters = kept(tower)
    assert len(letters) == KEPT + 1
    assert len(letters[0].letter.content) == dead_letters.SAMPLE
    assert letters[0].letter.size == 100_000
    told = queries.metrics(tower.system)
    assert f'orchestrator_dead_letters_total{{reason="undecodable"}} {KEPT + 20}' in told
    assert f'orchestrator_dead_letters_kept{{reason="undecodable"}} {KEPT}' in told
    with tower.system.database.transaction() as connection:
        assert store.clear(connection, None) == KEPT + 1
        assert store.counts(connection)["undecodable"] == KEPT + 20


def test_they_are_written_in_one_transaction(tower: Airport) -> None:
    for at in range(50):
        put(tower, "undecodable" if at % 2 else "refused")
    commits: list[object] = []
    event.listen(tower.system.database.engine, "commit", commits.append)
    assert dead_letters.flush(tower.system) == 50
    assert dead_letters.flush(tower.system) == 0
    assert len(commits) == 1


def test_while_the_database_is_away_they_wait_in_the_process(tower: Airport) -> None:
    away = replace(tower.system, database=Database(f"postgresql://nobody@127.0.0.1:{free_port()}/none"))
    for at in range(2):
        dead_letters.keep(away, "refused", queue="q", error=str(at), content="x")
    assert dead_letters.flush(away) == 0
    assert len(away.letterbox) == 2
    before = len(kept(tower))
    assert dead_letters.flush(tower.system) == 2
    assert [one.letter.error for one in kept(tower)[:2]] == ["1", "0"]
    assert len(kept(tower)) == before + 2


def test_one_that_cannot_be_written_costs_itself_alone(tower: Airport, caplog: pytest.LogCaptureFixture) -> None:
    before = len(kept(tower))
    put(tower)
    tower.system.letterbox.drop(
        Letter(reason="refused", queue="q\0", error="e", content="", size=0, worker=tower.system.worker)
    )
    put(tower)
    dead_letters.flush(tower.system)
    assert len(kept(tower)) == before + 2
    assert len(tower.system.letterbox) == 0
    assert "a dead letter cannot be written" in caplog.text
    assert "INSERT" not in caplog.text, "the log has what was said of it, and not the statement"


@pytest.mark.parametrize(("retention", "days"), [(None, 30), (86_400.0, 1), (90 * 86_400.0, 30)])
def test_they_are_kept_for_thirty_days_or_for_as_long_as_all_else(
    tower: Airport, retention: float | None, days: int
) -> None:
    system = replace(tower.system, settings=replace(tower.system.settings, retention=retention))
    put(tower, "refused", "a tenant's payload")
    dead_letters.flush(system)
    tower.clock.advance(days * 86_400 - 60)
    dead_letters.tend(system)
    assert kept(tower)[0].letter.content == "a tenant's payload"
    tower.clock.advance(120)
    assert dead_letters.tend(system) >= 1
    assert kept(tower) == []


def counts(airport: Airport) -> dict[str, int]:
    with airport.system.database.transaction() as connection:
        return store.counts(connection)


TIMES = dead_letters.DELIVERIES + 5
NOBODYS = {"trace": NOWHERE, "step": "work", "token": "s" * 40}


def test_a_hint_that_comes_back_too_often_is_given_up(airport: Airport) -> None:
    before = counts(airport)
    with airport.system.app.connection_for_write() as connection:
        for _ in range(TIMES):
            publish(connection, body([[]], {"version": NOWHERE, "step": "a"}, GOOD_EMBED),
                    headers=headers(canvas.COMPENSATE, redelivered=True))  # fmt: skip
    flights.until(
        lambda: counts(airport).get("redelivered", 0) == before.get("redelivered", 0) + TIMES - dead_letters.DELIVERIES,
        "the letters of those that came too often",
    )
    flies_on(airport)


def test_an_answer_is_taken_however_often_it_comes_back(airport: Airport) -> None:
    """Given back by each worker that stops: it may be known nowhere else."""
    before = counts(airport)
    happening = json.dumps({"specversion": "1.0", "data": NOBODYS})
    with airport.system.app.connection_for_write() as connection:
        for _ in range(TIMES):
            airport.system.app.send_task(
                LANDED, ({"a": 1},), NOBODYS, queue=LANDED_QUEUE, task_id="the-same", headers={"redelivered": True}
            )
            connection.Producer().publish(happening, exchange=LANDED_EVENTS, declare=[LANDED_EVENTS], routing_key="landed.x",
                                          content_type=CLOUD_EVENT, content_encoding="utf-8",
                                          headers={"id": "the-same", "redelivered": True})  # fmt: skip
    flights.until(
        lambda: counts(airport).get("refused", 0) == before.get("refused", 0) + 2 * TIMES, "each of them, looked at"
    )
    assert counts(airport).get("redelivered", 0) == before.get("redelivered", 0)


Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(tower: Airport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    settings = tower.system.settings
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", settings.broker_url or "")
    monkeypatch.setenv("ORCHESTRATOR_SERVICES_FILE", settings.services_file)
    with tower.system.database.transaction() as connection:
        store.clear(connection, None)

    def ask(*arguments: str) -> tuple[int, str]:
        return cli.invoke(list(arguments)), capsys.readouterr().out

    return ask


def test_the_command_lists_and_clears_them_and_doctor_says_that_they_are_there(tower: Airport, ask: Ask) -> None:
    assert "dead letters: none is kept" in ask("doctor")[1]
    put(tower)
    put(tower, "refused")
    dead_letters.flush(tower.system)
    assert "bad      dead letters: 1 undecodable" in ask("doctor")[1]
    code, out = ask("dead-letters")
    assert code == 0
    assert out.splitlines()[0].split() == ["ID", "TIME", "REASON", "QUEUE", "BYTES", "ERROR"]
    assert "\x1b" not in out, "nothing in it commands a terminal"
    found = json.loads(ask("dead-letters", "--json", "--reason", "refused")[1])
    assert [(one["reason"], one["queue"], one["bytes"], one["content"]) for one in found] == [("refused", "q", 1, "x")]
    assert ask("dead-letters", "--reason", "nonsense")[0] == 2, "an empty list would say that there are none"
    assert ask("dead-letters", "--clear") == (0, "2 deleted\n")
    assert "dead letters: none is kept" in ask("doctor")[1]


def test_what_has_not_come_back_for_long_is_forgotten(tower: Airport) -> None:
    with tower.system.database.transaction() as connection:
        assert [store.came_back(connection, "m") for _ in range(3)] == [1, 2, 3]
    dead_letters.tend(tower.system)
    with tower.system.database.transaction() as connection:
        assert store.came_back(connection, "m") == 4
    tower.clock.advance(8 * 86_400)
    dead_letters.tend(tower.system)
    with tower.system.database.transaction() as connection:
        assert store.came_back(connection, "m") == 1
