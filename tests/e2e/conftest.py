"""Fixtures for the tests of the pages: a real browser, and a city whose worker runs what they start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests import servers
from tests.city import City, city

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
EXPECTED = "Failed to load resource"  # an answer that is no 2xx: the tests ask for some


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        servers.missing(f"no browser: install Debian's chromium ({CHROMIUM})")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shared_city(
    postgres_server: str,
    database_template: str,
    broker_places: servers.BrokerPlaces,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[City]:
    with city(postgres_server, database_template, broker_places, tmp_path_factory.mktemp("city")) as found:
        yield found


@pytest.fixture
def town(shared_city: City) -> City:
    """The module's city, in which nothing is told any more of what the test before has told."""
    shared_city.service.reset()
    return shared_city


@pytest.fixture
def desk(browser: Browser) -> Iterator[Page]:
    """One page for a story, in the light."""
    yield from opened(browser)


@pytest.fixture
def other_desk(browser: Browser) -> Iterator[Page]:
    """Somebody else's."""
    yield from opened(browser)


@pytest.fixture
def plain(browser: Browser) -> Iterator[Page]:
    """A browser that runs no script."""
    yield from opened(browser, java_script_enabled=False)


def opened(browser: Browser, **options: object) -> Iterator[Page]:
    """A page whose console must stay silent: it tells what the policy of the pages has blocked, too."""
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and EXPECTED not in message.text:
            complaints.append(message.text)

    with browser.new_context(**options) as context:  # type: ignore[arg-type]  # passed on
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.set_default_timeout(15_000)
        yield page
    assert complaints == []
