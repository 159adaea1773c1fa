"""The documents as a site: it is built strictly, hangs together, loads nothing from elsewhere, and can be read by all."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
IN_STYLES = re.compile(r"url\(\s*['\"]?(?!data:|#)([^'\")]+)|@import\s+['\"]([^'\"]+)")


def recipe() -> list[str]:
    """What `make docs` runs, word by word."""
    found = re.search(r"^\t\$\(BIN\)/(sphinx-build .*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found is not None, "`make docs` does not call sphinx-build"
    return shlex.split(found[1])


def build(sources: Path, into: Path) -> subprocess.CompletedProcess[str]:
    places = {"docs": str(sources), "$(SITE)/doctrees": str(into / "doctrees"), "$(SITE)/html": str(into / "html")}
    words = [places.get(word, word) for word in recipe()]
    command = [str(Path(sys.executable).with_name(words[0])), *words[1:]]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


@dataclass
class Html(HTMLParser):
    """Where a page leads, what it loads, and where one can jump to in it."""

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if LOADS.get(tag) in given:
            self.loads.append(given[LOADS[tag]])


def read(path: Path) -> Html:
    page = Html()
    page.feed(path.read_text(encoding="utf-8"))
    return page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("site")
    built = build(ROOT / "docs", into)
    assert built.returncode == 0, built.stderr
    return into / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    return {path: read(path) for path in site.rglob("*.html")}


def test_every_document_is_a_page(site: Path, pages: dict[Path, Html]) -> None:
    documents = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert documents <= {path.relative_to(site) for path in pages}


def test_links_and_their_anchors_lead_somewhere(pages: dict[Path, Html]) -> None:
    dead = [
        f"{path.name}: {link}" for path, page in pages.items() for link in page.links if not leads(path, link, pages)
    ]
    assert dead == []


def leads(path: Path, link: str, pages: dict[Path, Html]) -> bool:
    parts = urlsplit(link)
    if parts.scheme:
        return parts.scheme in ("https", "http")  # outside: nobody looks
    to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if to not in pages:
        return to.is_file() and not parts.fragment
    return not parts.fragment or parts.fragment in pages[to].ids


def test_no_page_loads_anything_from_another_host(site: Path, pages: dict[Path, Html]) -> None:
    loaded = {what for page in pages.values() for what in page.loads}
    for style in site.rglob("*.css"):
        loaded |= {url or name for url, name in IN_STYLES.findall(style.read_text(encoding="utf-8"))}
    assert len(loaded) > 3, "the search for what pages load has gone blind"
    assert [what for what in sorted(loaded) if "//" in what] == []


def test_no_page_names_a_path_of_the_machine_that_built_it(pages: dict[Path, Html]) -> None:
    assert [path.name for path in pages if str(ROOT) in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("[nowhere](nowhere.md)", "nowhere.md"),
        ("[nothing](index.md#no-such-heading)", "no-such-heading"),
    ],
)
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path, change: str, complaint: str) -> None:
    built = build(small_sources(tmp_path, f"# One page\n\n{change}\n"), tmp_path)
    assert built.returncode != 0
    assert complaint in built.stderr


def test_a_page_that_no_navigation_names_fails_the_build(tmp_path: Path) -> None:
    sources = small_sources(tmp_path, "# One page\n")
    (sources / "forgotten.md").write_text("# Forgotten\n")
    built = build(sources, tmp_path)
    assert built.returncode != 0
    assert "forgotten.md" in built.stderr


def small_sources(folder: Path, index: str) -> Path:
    """Documents with one page, beneath a copy of what the configuration reads."""
    sources = folder / "docs"
    sources.mkdir()
    (sources / "conf.py").write_text((ROOT / "docs" / "conf.py").read_text())
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (sources / "index.md").write_text(index)
    return sources


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "name", ["index", "tutorial/first-flight", "reference/settings", "reference/states", "how-to/test-a-workflow"]
)
def test_a_page_has_no_barriers(browser: Browser, site: Path, name: str, scheme: str) -> None:
    with browser.new_context(color_scheme=scheme) as context:  # type: ignore[arg-type]  # one of playwright's literals
        page = context.new_page()
        page.goto((site / f"{name}.html").as_uri())
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
