"""The documents keep up with the code: what can be set, called, written or shown is documented, and links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import click
import pytest

import orchestrator
from orchestrator import states
from orchestrator.api.app import create_app
from orchestrator.lanes import registry
from orchestrator.language.schema import json_schema
from orchestrator.settings import PREFIX, Settings
from orchestrator.system import System

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def spans(text: str) -> set[str]:
    """What a page has in code marks, whole and word by word."""
    found = {span.replace("\\|", "|") for span in CODE.findall(FENCE.sub("", text))}
    return found | {word for span in found for word in re.split(r"[\s,{}()?&=;]+", span)}


def missing(wanted: set[str], *pages: str) -> list[str]:
    return sorted(wanted - spans("\n".join(page(name) for name in pages)))


# Settings


def test_every_setting_is_documented() -> None:
    assert missing({PREFIX + field.name.upper() for field in fields(Settings)}, "settings.md") == []


def test_no_setting_is_documented_that_does_not_exist() -> None:
    known = {PREFIX + field.name.upper() for field in fields(Settings)}
    said = {name for text in PAGES for name in re.findall(r"ORCHESTRATOR_[A-Z_]+", text.read_text())}
    assert sorted(name for name in said - known if not name.startswith("ORCHESTRATOR_TEST_")) == []


@pytest.mark.parametrize("field", fields(Settings), ids=lambda field: field.name)
def test_a_settings_default_is_the_documented_one(field: Any) -> None:
    row = re.search(rf"^\| `{PREFIX}{field.name.upper()}` \| ([^|]*) \|", page("settings.md"), re.MULTILINE)
    assert row is not None
    expected = f"{field.default:g}s" if isinstance(field.default, float) else str(field.default)
    assert field.default is None or row[1] == f"`{expected}`"


# The command line


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def documented_command(name: str) -> str:
    """A command's part of the page: from its heading to the next."""
    found = re.search(rf"^### `orchestrator {re.escape(name)}\b.*?(?=^##|\Z)", page("cli.md"), re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/reference/cli.md has no heading for `orchestrator {name}`"
    return found[0]


def test_every_command_is_documented_with_its_options() -> None:
    undocumented = [
        f"{name} {option}"
        for name, command in commands(program())
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for option in parameter.opts
        if option.startswith("--") and option != "--help" and option not in documented_command(name)
    ]
    assert undocumented == []


def test_every_documented_command_exists() -> None:
    known = {name for name, _ in commands(program())}
    assert set(re.findall(r"^### `orchestrator ((?:db )?[a-z]+)", page("cli.md"), re.MULTILINE)) == known


def program() -> click.Group:
    from orchestrator.cli import cli

    return cli


# REST


def routes() -> set[str]:
    """`GET /api/workflows` and so on, from the document that the server publishes."""
    # The routes are known without a database; nothing is called here.
    system = SimpleNamespace(settings=Settings(auth="local"), for_tenants=lambda: system)
    app = create_app(cast("System", system))
    paths: dict[str, dict[str, Any]] = cast("Any", app).api_doc["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def test_every_route_is_documented() -> None:
    text = page("rest.md")
    assert [route for route in sorted(routes()) if not re.search(rf"`{re.escape(route)}[`\s]", text)] == []


def test_every_documented_api_route_exists() -> None:
    said = set(re.findall(r"`((?:GET|PUT|POST) /api/[^`\s]+)", page("rest.md")))
    assert sorted(said - routes()) == []


# The definition language and the services file


def definition_keys() -> set[str]:
    schema = json_schema()
    parts = [schema, *schema["$defs"].values()]
    return {key for part in parts for key in part.get("properties", {})}


def test_every_key_of_a_definition_is_documented() -> None:
    assert missing(definition_keys(), "definition-language.md") == []


def test_every_key_of_the_services_file_is_documented() -> None:
    keys = {"transport"} | set(registry.COMMON) | {key for of in registry.TRANSPORTS.values() for key in of}
    assert missing(keys, "services.md") == []


# States and reasons


def test_every_state_is_documented() -> None:
    text = page("states.md")
    assert [
        name for name in {*states.STEP_STATES, *states.INSTANCE_STATES} if not re.search(rf"\b{name}\b", text)
    ] == []


def test_every_verb_of_the_history_is_documented() -> None:
    text = page("states.md")
    assert [verb for verb in {*states.STEP, *states.INSTANCE} if not re.search(rf"\b{verb}\b", text)] == []


def reasons() -> set[str]:
    """Every reason that the code gives: `reason="…"`, `reason=NAME`, a default of that name, and what `fall` is told."""
    found = set()
    for path in sorted((ROOT / "orchestrator").glob("*.py")):
        module = importlib.import_module(f"orchestrator.{path.stem}") if path.stem != "__init__" else orchestrator
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= {_value(module, arm) for node in _given(tree) for arm in _arms(node)}
    return {value for value in found if isinstance(value, str)}


def _arms(node: ast.expr) -> list[ast.expr]:
    return [*_arms(node.body), *_arms(node.orelse)] if isinstance(node, ast.IfExp) else [node]


def _given(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "reason")
            if isinstance(node.func, ast.Attribute) and node.func.attr == "fall":
                yield from node.args[1:]
        if isinstance(node, ast.FunctionDef):
            with_default = node.args.args[len(node.args.args) - len(node.args.defaults) :]
            yield from (default for argument, default in zip(with_default, node.args.defaults, strict=True)
                        if argument.arg == "reason")  # fmt: skip


def _value(module: ModuleType, node: ast.expr) -> object:
    """What a constant or a name of a module's stands for; None where that hangs on the run."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return getattr(getattr(module, node.value.id, None), node.attr, None)
    if isinstance(node, ast.Name):
        return getattr(module, node.id, None)
    return node.value if isinstance(node, ast.Constant) else None


def test_every_reason_is_documented() -> None:
    found = reasons()
    assert {"exhausted", "condition", "deadline", "quarantined"} <= found, "the search for reasons has gone blind"
    assert missing(found, "reasons.md") == []


# Links and commands


def anchors(path: Path) -> set[str]:
    """Headings as the forge links to them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path: Path) -> list[str]:
    return LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert [link for link in links(path) if "://" not in link and not _leads(path, link)] == []


def _leads(path: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    to = (path.parent / name).resolve() if name else path
    return to.exists() and (not anchor or anchor in anchors(to))


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        path = left.pop()
        if path not in reached and path.suffix == ".md" and path.exists():
            reached.add(path)
            left += [(path.parent / link.partition("#")[0]).resolve() for link in links(path) if "://" not in link]
    assert sorted(str(path.relative_to(ROOT)) for path in set(PAGES) - reached) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_make_target_that_is_named_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:`|\$ )make ([a-z]+)", path.read_text(encoding="utf-8"))
    assert sorted(set(named) - targets) == []
