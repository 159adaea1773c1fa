"""The pages, in a real browser, over the real engine: what people see, do, and can do without seeing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Response, sync_playwright
from werkzeug.serving import BaseWSGIServer, make_server

from orchestrator import callbacks, engine, legs, queries
from orchestrator.api.app import create_app
from orchestrator.bootstrap import compose
from orchestrator.settings import Settings
from orchestrator.store import instances
from orchestrator.system import System
from tests import servers

pytestmark = pytest.mark.e2e

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BYTES_A_PAGE = 100_000
APPROVAL = """\
id: permit
title: Permit renewal
businessKey: payload.permitNo
steps:
  - id: zoningApproval
    title: Zoning approval
    pause: true
    timeout: 48h
    onTimeout: fail
"""
TENANT = "local"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        servers.missing(f"no browser: install Debian's chromium ({CHROMIUM})")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    # The pages must do without script; axe is one, so that it is allowed to run, and nothing of ours is.
    with browser.new_context(color_scheme=request.param) as context:
        yield context.new_page()


@pytest.fixture
def system(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[System]:
    (tmp_path / "services.yaml").write_text("services: {}\n")
    system = compose(
        Settings(
            auth="local",
            database_url=database_url,
            broker_url=broker_url,
            data_dir=str(tmp_path),
            services_file=str(tmp_path / "services.yaml"),
            workflows_dir=str(tmp_path),
        )
    )
    yield system
    system.database.close()


@pytest.fixture
def site(system: System) -> Iterator[str]:
    """The address of the pages, served by this process."""
    server: BaseWSGIServer = make_server("127.0.0.1", 0, create_app(system), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def waiting(system: System) -> str:
    """The id of an instance whose one step waits for a decision."""
    engine.put_definition(system, tenant=TENANT, workflow_id="permit", text=APPROVAL)
    instance_id = engine.start(system, tenant=TENANT, workflow_id="permit", payload={"permitNo": "P-1"}).instance_id
    with system.database.transaction() as connection:
        row = instances.find(connection, TENANT, instance_id)
    assert row is not None
    # What a worker would do when the message comes; run here, so that nothing has to be waited for.
    legs.run(system, [instance_id], version=row["version_id"].hex, start="zoningApproval", covered=frozenset())
    assert state(system, instance_id) == "WAITING"
    return instance_id


def state(system: System, instance_id: str) -> str:
    status: str = queries.status(system, tenant=TENANT, instance_id=instance_id)["status"]
    return status


def assert_accessible(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def assert_light(page: Page, url: str) -> None:
    """Opens it: everything that comes with it is small, and comes from here."""
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108 - it marks what it is given
    page.goto(url)
    assert {answer.url.split("/")[2] for answer in answers} == {url.split("/")[2]}
    assert sum(len(answer.body()) for answer in answers) < BYTES_A_PAGE


def test_the_list_shows_instances_and_leads_to_them(page: Page, site: str, waiting: str) -> None:
    assert_light(page, f"{site}/ui")
    assert_accessible(page)
    row = page.get_by_role("row").filter(has_text="P-1")
    assert "Waiting" in row.inner_text()
    row.get_by_role("link").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Permit renewal"


def test_the_list_shows_whole_names_and_all_columns_where_it_is_narrow(page: Page, site: str, waiting: str) -> None:
    page.set_viewport_size({"width": 900, "height": 800})
    page.goto(f"{site}/ui")
    # What is wider scrolls within its region, and the last column is not seen.
    assert page.get_by_role("region").evaluate("region => region.scrollWidth <= region.clientWidth")
    step = page.get_by_role("cell", name="zoningApproval")
    lines = "cell => { const text = document.createRange(); text.selectNodeContents(cell); return text.getClientRects().length }"
    assert step.evaluate(lines) == 1


def test_the_list_can_be_filtered(page: Page, site: str, waiting: str) -> None:
    page.goto(f"{site}/ui")
    page.get_by_label("Business key").fill("P-2")
    page.get_by_role("button", name="Filter").click()
    assert "No instance matches" in page.get_by_role("main").inner_text()
    page.get_by_label("Business key").fill("P-1")
    page.get_by_label("State").select_option("Waiting")
    page.get_by_role("button", name="Filter").click()
    assert page.get_by_role("row").filter(has_text="P-1").count() == 1


def test_a_waiting_step_is_approved_with_its_form(page: Page, site: str, waiting: str, system: System) -> None:
    assert_light(page, f"{site}/ui/instances/{waiting}")
    assert_accessible(page)
    page.get_by_label("Comment").fill("Plans are in order")
    page.get_by_role("button", name="Approve").click()
    assert page.get_by_role("status").inner_text() == "The decision for “Zoning approval” is recorded: approved."
    assert_accessible(page)
    assert state(system, waiting) == "COMPLETED"
    page.reload()
    assert "Plans are in order" in page.get_by_role("region", name="Steps").inner_text()
    assert page.get_by_role("button", name="Approve").count() == 0


def test_a_decision_made_meanwhile_is_shown_to_who_comes_second(
    page: Page, site: str, waiting: str, system: System
) -> None:
    page.goto(f"{site}/ui/instances/{waiting}")
    callbacks.decide(system, trace=waiting, step="zoningApproval", token=None, tenant=TENANT, decision="approved")
    page.get_by_role("button", name="Reject").click()
    assert "approved" in page.get_by_role("main").inner_text()
    assert_accessible(page)


def test_a_callback_page_decides_only_when_its_button_is_pressed(
    page: Page, site: str, waiting: str, system: System
) -> None:
    page.goto(f"{site}/callbacks/{waiting}/zoningApproval")
    assert_accessible(page)
    assert state(system, waiting) == "WAITING"
    page.get_by_role("button", name="Approve").click()
    assert "Decided: approved" in page.get_by_role("status").inner_text()


def test_everything_can_be_reached_by_keyboard(page: Page, site: str, waiting: str) -> None:
    page.goto(f"{site}/ui/instances/{waiting}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_what_is_not_there_is_said_on_a_page(page: Page, site: str) -> None:
    answer = page.goto(f"{site}/ui/instances/{'0' * 32}")
    assert answer is not None
    assert answer.status == 404
    assert page.get_by_role("heading", level=1).inner_text() == "Not found"
    assert_accessible(page)


def test_pages_run_no_script_and_keep_callback_links_to_themselves(page: Page, site: str, waiting: str) -> None:
    answer = page.goto(f"{site}/ui/instances/{waiting}")
    assert answer is not None
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert page.locator("script").count() == 0
