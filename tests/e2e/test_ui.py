"""Every page, in a real browser, in light and dark: can everybody read it, is it small, is it all from here?

One browser page goes to all of them: to open one anew costs as much as to look at it.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Response, ViewportSize, expect

from orchestrator.errors import Problem
from orchestrator.store import definitions
from tests import extremes, flights
from tests.city import City, serving
from tests.e2e.conftest import opened

pytestmark = pytest.mark.e2e

BYTES_A_PAGE = 100_000
PHONE, DESK = ViewportSize(width=360, height=740), ViewportSize(width=1280, height=720)
TALLEST = 8000  # pixels of a page at a desk, with all that opens open
OF_COLOUR = ("color-contrast", "link-in-text-block")  # axe's rules that look at colours
OUT_OF_THEIR_CELLS = """[...document.querySelectorAll('td .state')].filter(one =>
  one.getBoundingClientRect().right > one.closest('td').getBoundingClientRect().right + 1).map(one => one.textContent)"""
PATHS = {
    "overview": "/ui",
    "instances": "/ui/instances",
    "no instances": "/ui/instances?q=nothing",
    "inbox": "/ui/inbox",
    "review": "/ui/inbox/{waiting}/zoningApproval",
    "decided": "/ui/inbox/{done}/zoningApproval",
    "waiting": "/ui/instances/{waiting}",
    "done": "/ui/instances/{done}",
    "undone": "/ui/instances/{undone}",
    "stuck": "/ui/instances/{stuck}",
    "uncertain": "/ui/instances/{uncertain}",
    "lanes": "/ui/lanes",
    "workflows": "/ui/workflows",
    "workflow": "/ui/workflows/permit-renewal",
    "refused workflow": "/ui/workflows/broken",
    "search": "/ui/where",
    "several found": "/ui/where?key=STR-",
    "none found": "/ui/where?key=nothing",
    "progress": "/ui/where/{waiting}",
    "finished": "/ui/where/{done}",
    "callback": "/callbacks/{waiting}/zoningApproval",
    "decided callback": "/callbacks/{done}/zoningApproval",
    "no instance": "/ui/instances/00000000000000000000000000000000",
    "bad filter": "/ui/instances?since=yesterday",
    "filtered": "/ui/instances?status=WAITING",
    "order to all": "/ui/orders/cancel?status=WAITING",
    "many iterations": "/ui/instances/{many}",
    "many branches": "/ui/instances/{wide}",
    "many steps": "/ui/instances/{long}",
    "long names": "/ui/instances/{named}",
    "long names' progress": "/ui/where/{named}",
    "sign in": "{locked}/ui/sign-in",
    "sign in first": "{locked}/ui/instances",
}


@pytest.fixture(scope="module")
def scenes(shared_city: City) -> dict[str, str]:
    """Instances in every kind of state: name → id."""
    city = shared_city
    city.service.reset()
    city.suspended()
    with city.airport.system.database.transaction() as connection:
        problem = Problem(
            message="unknown key `stepz`", file="broken.yaml", line=2, column=1, hint="did you mean `steps`?"
        )
        definitions.refuse(connection, flights.TENANT, "broken", "broken.yaml", [problem])
    return {
        **extremes.played(city),
        "done": city.done(),
        "undone": city.undone(),
        "stuck": city.stuck(),
        "uncertain": city.uncertain(),
        "waiting": city.waiting(),
    }


@pytest.fixture(scope="module")
def locked(shared_city: City) -> Iterator[str]:
    """The address of the same pages for people who have to sign in."""
    system = shared_city.airport.system
    settings = replace(system.settings, auth="jwt", jwt_secret="nobody knows it" * 3)
    with serving(replace(shared_city.airport, system=replace(system, settings=settings))) as site:
        yield site


@pytest.fixture(scope="module")
def reader(browser: Browser) -> Iterator[Page]:
    """One page that goes everywhere."""
    yield from opened(browser)


def answers_of(page: Page) -> list[Response]:
    """All that comes from now on, but for the stream: that has no end. A page with a route keeps no cache."""
    answers: list[Response] = []
    page.route("**/ui/events*", lambda route: route.abort())
    page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108 - it marks what it is given
    return answers


def weight(answers: list[Response]) -> int:
    return sum(len(answer.body()) for answer in answers if not 300 <= answer.status < 400)


def assert_accessible(page: Page, *rules: str) -> None:
    """By all rules, or by these."""
    options: dict[str, Any] = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    found = Axe().run(page, options=options)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("name", PATHS)
def test_a_page_is_small_all_from_here_fits_a_phone_and_can_be_read_by_everybody(
    reader: Page, town: City, scenes: dict[str, str], locked: str, name: str
) -> None:
    path = PATHS[name].format(**scenes, locked=locked)
    address = path if path.startswith("http") else town.site + path
    reader.emulate_media(color_scheme="light")
    reader.set_viewport_size(PHONE)
    answers = answers_of(reader)
    reader.goto(address)
    assert {answer.url.split("/")[2] for answer in answers} == {address.split("/")[2]}
    assert weight(answers) < BYTES_A_PAGE
    for details in reader.locator("main details").all():
        details.evaluate("details => { details.open = true }")
    assert reader.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    reader.set_viewport_size(DESK)
    assert reader.evaluate("document.documentElement.scrollHeight") < TALLEST
    assert reader.evaluate(OUT_OF_THEIR_CELLS) == []
    assert_accessible(reader)
    reader.emulate_media(color_scheme="dark")
    assert_accessible(reader, *OF_COLOUR)  # a scheme changes nothing else


def test_the_rules_of_colour_find_what_cannot_be_read(reader: Page, town: City) -> None:
    reader.goto(f"{town.site}/ui")
    reader.evaluate("document.querySelector('h1').style.color = 'var(--line)'")
    with pytest.raises(AssertionError, match="color-contrast"):
        assert_accessible(reader, *OF_COLOUR)


def test_a_full_list_of_instances_is_small_enough(desk: Page, town: City, scenes: dict[str, str]) -> None:
    for number in range(60):
        town.airport.start("business-licence", {"permitNo": f"BL-2027-{number:04}", "trade": "Florist"})
    answers = answers_of(desk)
    desk.goto(f"{town.site}/ui/instances")
    assert desk.locator("tbody tr").count() == 50
    assert weight(answers) < BYTES_A_PAGE
    desk.get_by_role("link", name="Next page").click()
    assert desk.locator("tbody tr").count() > 10
    desk.get_by_role("link", name="First page").click()
    assert desk.locator("tbody tr").count() == 50


def test_the_script_is_small(town: City) -> None:
    with urllib.request.urlopen(f"{town.site}/ui/static/live.js") as answer:
        assert len(answer.read()) < 5000


def test_everything_can_be_reached_by_keyboard(desk: Page, town: City, scenes: dict[str, str]) -> None:
    desk.goto(f"{town.site}/ui/instances/{scenes['waiting']}")
    desk.keyboard.press("Tab")
    assert desk.evaluate("document.activeElement.textContent") == "Skip to the content"
    desk.keyboard.press("Enter")
    assert desk.evaluate("document.activeElement.id") == "main"
    reached = set()
    for _ in range(60):
        desk.keyboard.press("Tab")
        reached.add(desk.evaluate("document.activeElement.textContent.trim().split('\\n')[0].trim()"))
    assert {"Approve “Zoning approval”", "Reject “Zoning approval”", "Suspend", "Cancel…"} <= reached


def test_a_step_of_the_picture_leads_to_its_row(desk: Page, town: City, scenes: dict[str, str]) -> None:
    desk.goto(f"{town.site}/ui/instances/{scenes['stuck']}")
    desk.locator(".picture a[href='#step-chargeFee']").click()
    assert desk.locator("tr:target").inner_text().startswith("Charge the fee")


def test_counts_of_the_overview_lead_to_what_they_count(desk: Page, town: City, scenes: dict[str, str]) -> None:
    for tile in ("Stuck", "Suspended", "Waiting"):
        desk.goto(f"{town.site}/ui")
        link = desk.locator(".tiles a").filter(has_text=tile)
        count = int(link.locator(".count").inner_text())
        link.click()
        assert count > 0
        expect(desk.locator("tbody tr")).to_have_count(min(count, 50))


def test_filters_narrow_the_list(desk: Page, town: City, scenes: dict[str, str]) -> None:
    def rows() -> int:
        return desk.locator("tbody tr").count()

    desk.goto(f"{town.site}/ui/instances")
    desk.get_by_label("State").select_option("Stuck")
    desk.get_by_label("Workflow").select_option("Street closure")
    desk.get_by_role("button", name="Filter").click()
    expect(desk.locator("tbody tr")).to_have_count(1)
    for query in (f"q={scenes['done']}", "key=STR-2026-0377", "lane=registerSvc", "q=0377&since=2h"):
        desk.goto(f"{town.site}/ui/instances?{query}")
        assert rows() == 1, query
    desk.goto(f"{town.site}/ui/instances?q=100%25")  # a character that means something to LIKE
    assert rows() == 0


@pytest.mark.parametrize(
    "query", ["status=NOVEL", "since=yesterday", "version=x", "cursor=x", "status=%00", "q=%F0%9F%92%A9", "version=-1"]
)
def test_a_filter_that_means_nothing_is_no_servers_fault(town: City, query: str) -> None:
    try:
        with urllib.request.urlopen(f"{town.site}/ui/instances?{query}") as answer:
            status = answer.status
    except urllib.error.HTTPError as refused:
        status = refused.code
    assert status in (200, 400)


def test_pages_run_no_script_but_ours_and_keep_callback_links_to_themselves(
    desk: Page, town: City, scenes: dict[str, str]
) -> None:
    answer = desk.goto(f"{town.site}/callbacks/{scenes['waiting']}/zoningApproval")
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    sources: list[Any] = desk.eval_on_selector_all("script", "all => all.map(one => one.getAttribute('src'))")
    assert all(source and source.startswith("/ui/static/") for source in sources)
    assert desk.locator("[style], style").count() == 0


def test_a_callback_page_decides_only_when_its_button_is_pressed(desk: Page, town: City) -> None:
    instance = town.waiting("STR-2026-0999")
    token = town.service.came("approve")[-1].body["callbackUrl"].partition("token=")[2]
    desk.goto(f"{town.site}/callbacks/{instance}/zoningApproval?token={token}")
    assert flights.status(town.airport.system, instance)["status"] == "WAITING"
    desk.get_by_role("button", name="Approve").click()
    assert "Decided: approved" in desk.get_by_role("main").inner_text()
    assert town.airport.ended(instance)["status"] == "COMPLETED"


def test_a_program_that_asks_for_what_is_not_there_gets_a_problem_document(town: City) -> None:
    asked = urllib.request.Request(f"{town.site}/ui/instances/{'0' * 32}", headers={"Accept": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked)
    with refused.value as answer:
        assert json.load(answer)["status"] == 404
