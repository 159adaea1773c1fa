"""What the pages read and send that needs no browser: streams, messages, and the boards' answers."""

from __future__ import annotations

import html
import re
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator import boards, engine, orders, queries
from orchestrator.api.app import create_app
from orchestrator.api.auth import Principal
from orchestrator.changes import Changes
from orchestrator.errors import BadRequest
from orchestrator.store.filters import Filter
from orchestrator.ui import choosing, events, flash
from tests import flights
from tests.services import LATER as ANSWERS_LATER
from tests.services import REJECTED, Airport

ASK = """\
id: ask
title: Ask somebody
businessKey: payload.no
steps:
  - {id: ask, title: May it be, pause: true, timeout: 48h, onTimeout: {decide: approved}}
"""
LATER = """\
id: later
steps:
  - {id: call, service: keyed.call}
"""
SMALL = 75_000  # bytes: what is left of 100 kB by the style sheets and the script
SIGNED = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def app(tower: Airport) -> Flask:
    return create_app(tower.system)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


class Told:
    """A subscription that was told what is scripted."""

    def __init__(self, *answers: bool) -> None:
        self._answers, self.closed = list(answers), False

    def wait(self, _: float) -> bool:
        answer = self._answers.pop(0)
        self.closed = not self._answers
        return answer


def test_a_stream_tells_of_changes_and_shows_in_silence_that_it_lives() -> None:
    lines = list(events.told(Told(True, False, True), quiet=0))  # type: ignore[arg-type]
    assert [line.split("\n")[0] for line in lines[1:]] == ["data: changed", ": nothing new", "data: changed"]
    assert lines[0].startswith("retry: ")


def test_a_stream_ends_after_its_lifetime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LIFETIME", 0.0)
    assert len(list(events.told(Told(True), quiet=0))) == 1  # type: ignore[arg-type]


def test_more_streams_than_there_are_threads_for_are_refused(app: Flask, tower: Airport) -> None:
    app.extensions["changes"] = Changes(tower.system.database, limit=1)
    first = app.test_client().get("/ui/events", buffered=False)
    assert first.content_type.startswith("text/event-stream")
    second = app.test_client().get("/ui/events")
    assert (second.status_code, "Retry-After" in second.headers) == (503, True)
    first.close()
    third = app.test_client().get("/ui/events", buffered=False)
    assert third.status_code == 200
    third.close()
    app.extensions["changes"].close()


def test_a_stream_of_what_is_no_instance_is_refused(client: FlaskClient) -> None:
    assert client.get("/ui/events?instance=nobody").status_code == 404


def waits(tower: Airport, text: str = ASK, **payload: Any) -> str:
    instance = tower.start(tower.define(text), payload or {"no": "A-1"})
    tower.run(instance, "ask")
    return instance


def test_a_message_is_told_once_and_not_to_the_script(client: FlaskClient, tower: Airport) -> None:
    instance = waits(tower)
    sent = client.post(f"/ui/instances/{instance}/suspend", headers=SIGNED)
    assert sent.status_code == 303
    page = f"/ui/instances/{instance}"
    assert b"no further step begins" not in client.get(page, headers={"X-Live": "1"}).data
    assert b"no further step begins" in client.get(page).data
    assert b"no further step begins" not in client.get(page).data


def test_a_message_that_nobody_here_has_signed_is_not_told(client: FlaskClient, tower: Airport) -> None:
    client.set_cookie(flash.COOKIE, '{"text": "Send us money", "mood": "good"}')
    answer = client.get("/ui")
    assert answer.status_code == 200
    assert b"money" not in answer.data


@pytest.mark.parametrize(
    "back", ["https://other.test/", "//other.test/ui", "/\\other.test", "javascript:alert(1)", "/uiX"]
)
def test_a_form_leads_back_to_pages_of_ours_only(client: FlaskClient, tower: Airport, back: str) -> None:
    sent = client.post("/ui/orders", data={"order": "cancel", "back": back}, headers=SIGNED)
    assert sent.headers["Location"] == "/ui/instances"


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://other.test"}, {"Origin": "null"}]
)
def test_another_sites_form_is_refused(client: FlaskClient, tower: Airport, headers: dict[str, str]) -> None:
    instance = waits(tower)
    assert client.post(f"/ui/instances/{instance}/suspend", headers=headers).status_code == 403
    assert tower.status(instance)["status"] == "WAITING"
    assert client.post("/ui/orders/confirmed", headers=headers).status_code == 403


def test_the_inbox_holds_what_waits_for_a_person_and_nothing_else(tower: Airport) -> None:
    tower.service.tell("call", ANSWERS_LATER)
    service = tower.fly(LATER)
    tower.run(service, "call")
    assert tower.status(service)["status"] == "WAITING"
    instance = waits(tower)
    items = boards.inbox(tower.system, tenant=flights.TENANT).items
    assert [(one["instanceId"], one["title"], one["businessKey"]) for one in items] == [(instance, "May it be", "A-1")]
    assert items[0]["then"] == {"kind": "decide", "decision": "approved"}
    assert 172_000 < items[0]["left"] <= 172_800


def test_the_inbox_is_paged_by_the_next_deadline(tower: Airport) -> None:
    later = waits(tower, ASK.replace("48h", "72h").replace("id: ask\n", "id: ask-later\n"))
    sooner = waits(tower)
    first = boards.inbox(tower.system, tenant=flights.TENANT, limit=1)
    rest = boards.inbox(tower.system, tenant=flights.TENANT, limit=1, cursor=first.cursor)
    assert [one["instanceId"] for one in (*first.items, *rest.items)] == [sooner, later]
    assert rest.cursor is None


def test_another_tenant_sees_nothing_of_it(tower: Airport) -> None:
    waits(tower)
    assert boards.inbox(tower.system, tenant="other").items == []
    assert boards.overview(tower.system, tenant="other")["counts"] == {}
    assert boards.listed(tower.system, Filter(tenant="other")).items == []
    assert not any(one["counts"] for one in boards.lanes(tower.system, tenant="other"))


def test_what_is_ready_and_not_taken_for_a_minute_is_late(tower: Airport) -> None:
    instance = tower.fly(LATER)
    assert boards.overview(tower.system, tenant=flights.TENANT)["late"] == 0
    tower.clock.advance(61)
    late = boards.listed(tower.system, Filter(tenant=flights.TENANT, late=True)).items
    assert [one["instanceId"] for one in late] == [instance]
    assert boards.overview(tower.system, tenant=flights.TENANT)["late"] == 1


def test_words_of_a_search_are_no_pattern(tower: Airport) -> None:
    waits(tower, no="100%_a")
    waits(tower, no="100xya")
    found = boards.listed(tower.system, Filter(tenant=flights.TENANT, words="%_A")).items
    assert [one["businessKey"] for one in found] == ["100%_a"]


def test_a_filter_that_cannot_be_read_says_how(tower: Airport) -> None:
    for asked in ({"since": "yesterday"}, {"status": "NOVEL"}, {"cursor": "x"}, {"version": "one"}):
        with pytest.raises(BadRequest):
            choosing.chosen_by(flights.TENANT, asked, limit=1)


def chosen_on_the_page(client: FlaskClient, query: str) -> list[str]:
    page = client.get(f"/ui/instances?{query}").data.decode()
    return re.findall(r'name="id" value="([0-9a-f]{32})"', page)


def test_a_filter_of_the_page_means_what_it_means_in_lists_and_orders(client: FlaskClient, tower: Airport) -> None:
    tower.service.tell("call", REJECTED)
    failed, waiting = tower.fly(LATER), waits(tower)
    tower.run(failed, "call")
    assert chosen_on_the_page(client, "lane=keyed") == [failed]  # though it has ended
    tower.clock.advance(7200)
    tower.order(engine.suspend, waiting)
    assert chosen_on_the_page(client, "since=1h") == [waiting]  # started before, changed since
    assert chosen_on_the_page(client, "since=3h&lane=keyed") == [failed]


def test_all_that_match_are_ordered_and_nothing_that_came_to_match_later(client: FlaskClient, tower: Airport) -> None:
    matching, other = (
        [waits(tower, no=f"A-{number}") for number in range(3)],
        waits(tower, ASK.replace("id: ask\n", "id: other\n")),
    )
    page = client.get("/ui/instances?workflow=ask").data.decode()
    assert 'href="/ui/orders/suspend?workflow=ask"' in page
    asking = client.get("/ui/orders/suspend?workflow=ask").data.decode()
    assert "Suspend 3 instances?" in asking
    assert tower.status(matching[0])["status"] == "WAITING"
    late = waits(tower, no="A-late")
    sent = client.post("/ui/orders/confirmed", data=form_of(asking), headers=SIGNED)
    assert sent.headers["Location"] == "/ui/instances?workflow=ask"
    assert {tower.status(one)["status"] for one in matching} == {"SUSPENDED"}
    assert {tower.status(one)["status"] for one in (other, late)} == {"WAITING"}


def test_more_than_one_order_can_bear_are_asked_about_again(
    client: FlaskClient, tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.ui.orders.MOST", 2)
    matching = [waits(tower, no=f"A-{number}") for number in range(3)]
    first = client.get("/ui/orders/suspend?workflow=ask").data.decode()
    assert "Suspend the newest 2 instances of those that match?" in first
    following = client.post("/ui/orders/confirmed", data=form_of(first), headers=SIGNED).headers["Location"]
    second = client.get(following).data.decode()
    assert "2 instances are suspended." in second
    assert "Suspend this instance?" in second
    client.post("/ui/orders/confirmed", data=form_of(second), headers=SIGNED)
    assert {tower.status(one)["status"] for one in matching} == {"SUSPENDED"}


def test_what_would_mean_every_instance_is_not_offered_and_refused(client: FlaskClient, tower: Airport) -> None:
    waits(tower)
    assert b"/ui/orders/cancel" not in client.get("/ui/instances").data
    assert client.get("/ui/orders/cancel").status_code == 400
    gone = client.get("/ui/orders/cancel?workflow=nothing")
    assert gone.headers["Location"] == "/ui/instances?workflow=nothing"


def test_a_page_that_asks_about_a_thousand_is_small(client: FlaskClient, tower: Airport) -> None:
    tower.define(ASK)
    for number in range(80):
        tower.start("ask", {"no": str(number)})
    page = client.get("/ui/orders/cancel?workflow=ask").data
    assert b"Cancel 80 instances?" in page
    assert b"The newest 50 of the 80" in page
    assert len(page) + (orders.MOST - 80) * 33 < SMALL


def form_of(page: str) -> dict[str, str]:
    """What the form of a page would send."""
    return {
        name: html.unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page)
    }


LOOP = """\
id: rooms
steps:
  - id: each
    title: Every room
    forEach: payload.rooms
    as: room
    steps:
      - {id: inspect, title: Inspect a room, pause: true}
"""


def test_a_wait_inside_a_loop_is_decided_by_the_name_of_its_iteration(client: FlaskClient, tower: Airport) -> None:
    instance = tower.start(tower.define(LOOP), {"rooms": ["kitchen", "hall"]})
    tower.run(instance, "each")
    for number in range(2):
        tower.run(instance, f"inspect[{number}]")
    items = boards.inbox(tower.system, tenant=flights.TENANT).items
    assert [one["title"] for one in items] == ["Inspect a room (1)", "Inspect a room (2)"]
    page = client.get(f"/ui/instances/{instance}").data.decode()
    assert 'id="step-inspect"' in page  # where the picture leads to
    assert client.get(f"/ui/inbox/{instance}/inspect[1]").status_code == 200
    sent = client.post(f"/ui/inbox/{instance}/inspect[1]", data={"decision": "approved"}, headers=SIGNED)
    assert sent.status_code == 303
    found = tower.step(instance, "inspect[1]")
    assert found is not None
    assert (found["status"], found["decidedBy"]) == ("SUCCEEDED", "local")
    assert b"Every room" in client.get(f"/ui/where/{instance}").data


def test_a_loops_picture_counts_the_items_that_have_not_begun_too(client: FlaskClient, tower: Airport) -> None:
    text = LOOP.replace("    as: room", "    as: room\n    maxConcurrency: 1")
    instance = tower.start(tower.define(text), {"rooms": ["kitchen", "hall", "attic"]})
    tower.run(instance, "each")
    tower.run(instance, "inspect[0]")
    loop = tower.step(instance, "each")
    assert loop is not None
    assert (loop["items"], loop["begun"]) == (3, 1)
    assert "0 of 3 done" in client.get(f"/ui/instances/{instance}").data.decode()


def test_a_picture_and_its_milestones_count_what_a_status_leaves_out(
    client: FlaskClient, tower: Airport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "STEPS", 2)
    text = LOOP.replace("  - id: each", "  - {id: before, title: Begin, service: keyed.begin}\n  - id: each")
    instance = tower.start(tower.define(text), {"rooms": ["kitchen", "hall", "attic"]})
    tower.run(instance, "before")
    tower.run(instance, "each")
    for number in range(3):
        tower.run(instance, f"inspect[{number}]")
    tower.decide(instance, "inspect[0]", decision="approved")
    assert tower.status(instance)["stepsOmitted"] == 3
    assert "1 of 3 done, 2 waiting" in client.get(f"/ui/instances/{instance}").data.decode()
    stones = boards.progress(boards.whole(tower.system, tenant=flights.TENANT, instance_id=instance))["milestones"]
    assert [one.standing for one in stones] == ["done", "now"]


def as_somebody(app: Flask, *scopes: str) -> FlaskClient:
    """A client whose user has these scopes only."""
    person = Principal(tenant=flights.TENANT, subject="r.visitor", scopes=frozenset(scopes))
    app.extensions["authenticator"] = SimpleNamespace(authenticate=lambda _: person)
    return app.test_client()


def test_buttons_that_would_be_refused_are_left_out(app: Flask, tower: Airport) -> None:
    instance = waits(tower)
    pages = ("/ui/instances", f"/ui/instances/{instance}", f"/ui/inbox/{instance}/ask", "/ui/workflows/ask")
    everything = as_somebody(app, "workflows:read", "workflows:operate", "workflows:decide", "workflows:start", "definitions:read")  # fmt: skip
    assert all('method="post"' in everything.get(page).data.decode() for page in pages)
    reader = as_somebody(app, "workflows:read", "definitions:read")
    assert not any('method="post"' in reader.get(page).data.decode() for page in pages)


PAGES = ("/ui", "/ui/instances", "/ui/inbox", "/ui/lanes", "/ui/workflows", "/ui/where", "/ui/workflows/ask",
         "/ui/instances/{}", "/ui/inbox/{}/ask", "/ui/where/{}", "/callbacks/{}/ask", "/ui/nowhere")  # fmt: skip


@pytest.mark.parametrize("scopes", [(), ("workflows:read",), ("definitions:read",), ("workflows:decide",)])
def test_no_page_offers_a_link_that_would_be_refused(app: Flask, tower: Airport, scopes: tuple[str, ...]) -> None:
    instance = waits(tower)
    visitor, followed = as_somebody(app, *scopes), set()
    for page in PAGES:
        shown = visitor.get(page.format(instance), headers={"Accept": "text/html"}).data.decode()
        followed |= {html.unescape(link) for link in re.findall(r'<a [^>]*href="(/[^"]*)"', shown)}
    refused = [link for link in followed if visitor.get(link, follow_redirects=True).status_code in (401, 403)]
    assert refused == []


@pytest.mark.parametrize(
    "path", ["instances/{}/suspend", "inbox/{}/ask", "instances/{}/steps/ask/resolve", "workflows/ask/start", "orders"]
)
def test_what_was_left_out_is_refused_all_the_same(app: Flask, tower: Airport, path: str) -> None:
    instance = waits(tower)
    sent = as_somebody(app, "workflows:read").post(f"/ui/{path.format(instance)}", headers=SIGNED)
    assert sent.status_code == 403
    assert tower.status(instance)["status"] == "WAITING"


def test_a_page_stays_small_however_much_an_instance_has(client: FlaskClient, tower: Airport) -> None:
    rooms = [{"name": f"room {number}", "note": "<&>" * 200} for number in range(150)]
    instance = tower.start(
        tower.define(LOOP.replace("    as: room", "    as: room\n    maxConcurrency: 150")), {"rooms": rooms}
    )
    tower.run(instance, "each")
    for number in range(60):
        tower.run(instance, f"inspect[{number}]")
    for path in (
        f"instances/{instance}",
        f"where/{instance}",
        f"inbox/{instance}/inspect[1]",
        "inbox",
        "",
        "instances",
    ):
        assert len(client.get(f"/ui/{path}").data) < SMALL, path


CHILD = """\
id: inner
steps:
  - {id: ask, pause: true}
"""
PARENT = """\
id: outer
title: The outer
steps:
  - {id: inspection, title: Inspect it, workflow: inner}
"""


def test_parents_and_children_lead_to_each_other(client: FlaskClient, tower: Airport) -> None:
    tower.define(CHILD)
    outer = tower.fly(PARENT)
    tower.run(outer, "inspection")
    inner = tower.status(outer)["children"][0]["instanceId"]
    assert f'href="/ui/instances/{inner}"' in client.get(f"/ui/instances/{outer}").data.decode()
    page = client.get(f"/ui/instances/{inner}").data.decode()
    assert f'href="/ui/instances/{outer}"' in page
    assert "Part of" in page
