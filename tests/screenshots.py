"""The pictures of the guide to the control tower: `python -m tests.screenshots [FOLDER]`, by default docs/images.

It plays a morning in the city of `tests.city` and takes each page in the size and scheme that the guide shows.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests import extremes, flights, servers
from tests.city import City, city
from tests.e2e.conftest import ARGUMENTS, CHROMIUM

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDE, NARROW = (1200, 860), (360, 740)
LARGEST = 200_000  # bytes of a picture
HOUR = 3600.0
# (end of the name, scheme, size, pages)
SHOTS = (
    ("", "light", WIDE, ("overview", "instances", "inbox", "review", "stuck", "where", "workflow")),
    ("-dark", "dark", WIDE, ("overview", "undone")),
    ("-narrow", "light", NARROW, ("inbox", "where")),
)


@contextmanager
def _city() -> Iterator[City]:
    with (
        servers.postgres() as postgres,
        servers.broker() as broker,
        servers.template(postgres) as template,
        tempfile.TemporaryDirectory() as folder,
        city(postgres, template, servers.BrokerPlaces(broker), Path(folder)) as found,
    ):
        yield found


def morning(city: City) -> dict[str, str]:
    """What has happened by the time of the pictures: page → its path."""
    late = city.waiting("STR-2026-0351", applicant="Ade Bello")
    city.airport.clock.advance(49 * HOUR)
    flights.until(lambda: city.airport.service.calls("deputy", late), "the escalation")
    city.suspended()
    city.airport.clock.advance(3 * HOUR)
    done = city.done()
    city.airport.clock.advance(0.2 * HOUR)
    undone, stuck = city.undone(), city.stuck()
    city.airport.clock.advance(0.3 * HOUR)
    uncertain = city.uncertain()
    waiting = [city.waiting(number) for number in ("STR-2026-0409", "STR-2026-0412")][-1]
    return {
        "overview": "/ui", "instances": "/ui/instances", "inbox": "/ui/inbox",
        "review": f"/ui/inbox/{waiting}/zoningApproval", "undone": f"/ui/instances/{undone}",
        "stuck": f"/ui/instances/{stuck}", "uncertain": f"/ui/instances/{uncertain}", "where": f"/ui/where/{waiting}",
        "finished": f"/ui/where/{done}", "lanes": "/ui/lanes", "workflows": "/ui/workflows",
        "workflow": "/ui/workflows/permit-renewal",
    }  # fmt: skip


def _extremes(city: City) -> dict[str, str]:
    found = extremes.played(city)
    return {
        **{f"x-{name}": f"/ui/instances/{instance}" for name, instance in found.items()},
        "x-wide-workflow": "/ui/workflows/everybody-is-asked", "x-named-list": "/ui/instances?q=2026/named",
        "x-named-progress": f"/ui/where/{found['named']}", "x-long-progress": f"/ui/where/{found['long']}",
        "x-inbox": "/ui/inbox", "x-filtered": "/ui/instances?status=WAITING", "x-confirm": "/ui/orders/cancel?status=WAITING",
        "x-empty": "/ui/instances?q=nothing", "x-error": "/ui/instances/nothing", "x-search": "/ui/where",
    }  # fmt: skip


def take(browser: Browser, site: str, pages: dict[str, str], folder: Path, *, scheme: str, size: tuple[int, int],
         suffix: str, whole: bool) -> None:  # fmt: skip
    with browser.new_context(color_scheme=scheme, viewport={"width": size[0], "height": size[1]}) as context:  # type: ignore[arg-type]
        page = context.new_page()
        for name, path in pages.items():
            page.goto(site + path)
            target = folder / f"{name}{suffix}.png"
            page.screenshot(path=target, full_page=whole)
            assert whole or target.stat().st_size < LARGEST, f"{target.name} is larger than {LARGEST} bytes"


def main(folder: Path = IMAGES, *, everything: bool = False) -> None:
    """`everything`: each page in every size and scheme, and whole, for whoever works on them."""
    folder.mkdir(parents=True, exist_ok=True)
    with _city() as city, sync_playwright() as playwright:
        pages = morning(city) | (_extremes(city) if everything else {})
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for suffix, scheme, size, names in SHOTS:
            chosen = pages if everything else {name: pages[name] for name in names}
            take(browser, city.site, chosen, folder, scheme=scheme, size=size, suffix=suffix, whole=everything)
        browser.close()


if __name__ == "__main__":
    arguments = [one for one in sys.argv[1:] if one != "--everything"]
    main(Path(arguments[0]) if arguments else IMAGES, everything="--everything" in sys.argv)
