"""The documentation as a site: `make docs`, into `.site/html`, without a network.

Sphinx with MyST reads the same Markdown that the forge shows, anchors of headings included. It was chosen over MkDocs
because it is released several times a year (MkDocs' last feature release is of 2024), and because a dead link, a missing
anchor and a page that no navigation names are warnings of its own: `make docs` makes errors of them. furo brings its
styles and scripts along: a page loads nothing from another host.
"""

import re
import tomllib
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "Flight orchestrator"
author = "its maintainers"
release = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text("utf-8"))["project"]["version"]
html_title = f"{project} {release}"

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
nitpicky = True
myst_heading_anchors = 4  # as the forge names them, so that a link works in both places
suppress_warnings = ["misc.highlighting_failure"]  # what is shown may leave something out with an ellipsis

html_theme = "furo"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_permalinks_icon = "#"
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

# These pages are the navigation: every `- [page](page.md)` in them, in their order. So they are plain Markdown.
NAVIGATION = {"index", "how-to/index", "reference/index", "explanation/index", "adr/README"}
LISTED = re.compile(r"^- \[[^\]]+\]\(([^)#:]+\.md)\)", re.MULTILINE)


def add_navigation(_: Sphinx, page: str, source: list[str]) -> None:
    if page in NAVIGATION:
        listed = "\n".join(LISTED.findall(source[0]))
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n"


# What the theme leaves out for those who go by keyboard or ear.
NAMED = {
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="All pages">',
    '<aside class="toc-drawer': '<aside aria-label="This page" class="toc-drawer',
    "<pre>": '<pre tabindex="0">',  # a long line is scrolled by keys
    '<th class="head"><p></p></th>': '<td class="head"></td>',  # a column that needs no name
    '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
}


def make_accessible(app: Sphinx, error: Exception | None) -> None:
    for path in Path(app.outdir).rglob("*.html") if error is None else ():
        text = path.read_text(encoding="utf-8")
        for theirs, ours in NAMED.items():
            text = text.replace(theirs, ours)
        path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> None:
    app.add_lexer("mermaid", TextLexer)  # drawn by the forge; here its text stands, and the table beneath says the same
    app.connect("source-read", add_navigation)
    app.connect("build-finished", make_accessible)
