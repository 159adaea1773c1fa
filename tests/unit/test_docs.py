"""The documents keep up with the code: what can be set, called, written or shown is documented, and links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import fields
from http import HTTPStatus
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast, get_args, get_type_hints

import click
import pytest
from click.testing import CliRunner

import orchestrator
from orchestrator import definition, lane, loader, states
from orchestrator.api import problems
from orchestrator.api.app import create_app
from orchestrator.lanes import keys, registry
from orchestrator.language.schema import json_schema
from orchestrator.settings import PREFIX, Settings
from orchestrator.system import System

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
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
    assert set(re.findall(r"^### `orchestrator ((?:db )?[a-z-]+)", page("cli.md"), re.MULTILINE)) == known


def program() -> click.Group:
    from orchestrator.cli import cli

    return cli


# REST


def published() -> dict[str, Any]:
    """The document that the server publishes of itself."""
    # It is known without a database; nothing is called here.
    system: Any = SimpleNamespace(settings=Settings(auth="local"), for_tenants=lambda: system)
    document: dict[str, Any] = cast("Any", create_app(cast("System", system))).api_doc
    return document


def routes() -> set[str]:
    """`GET /api/workflows` and so on."""
    return {f"{method.upper()} {path}" for path, methods in published()["paths"].items() for method in methods}


def test_every_route_is_documented() -> None:
    text = page("rest.md")
    assert [route for route in sorted(routes()) if not re.search(rf"`{re.escape(route)}[`\s]", text)] == []


def test_every_documented_api_route_exists() -> None:
    said = set(re.findall(r"`((?:GET|PUT|POST) /api/[^`\s]+)", page("rest.md")))
    assert sorted(said - routes()) == []


def parameters() -> set[str]:
    operations = [operation for methods in published()["paths"].values() for operation in methods.values()]
    return {one["name"] for operation in operations for one in operation.get("parameters", []) if one["in"] != "path"}


def test_every_parameter_of_a_query_and_every_header_is_documented() -> None:
    found = parameters()
    assert {"limit", "cursor", "Idempotency-Key"} <= found, "the search for parameters has gone blind"
    assert missing(found, "rest.md") == []


def problem_types() -> set[str]:
    """The ends of `type`: of the table of errors, and of the documents that are made on the spot."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "orchestrator" / "api").glob("*.py"))
    return {name for _, _, name, _ in problems.KINDS} | set(re.findall(r'\bkind="([a-z-]+)"', sources))


def test_every_problem_type_is_documented() -> None:
    found = problem_types()
    assert {"conflict", "not-ready"} <= found, "the search for problem types has gone blind"
    assert missing(found, "rest.md") == []


def test_no_problem_type_is_documented_that_does_not_exist() -> None:
    table = page("rest.md").partition("## Problem types")[2].partition("\n## ")[0]
    # The rest of them is made from HTTP's own phrases.
    phrases = {status.phrase.lower().replace(" ", "-") for status in HTTPStatus}
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)) - problem_types() - phrases == set()


def metrics() -> set[str]:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "orchestrator").rglob("*.py"))
    return set(re.findall(r"# TYPE (orchestrator_\w+)", sources))


def test_every_metric_is_documented_and_no_other() -> None:
    found = metrics()
    assert "orchestrator_instances" in found, "the search for metrics has gone blind"
    assert missing(found, "metrics.md") == []
    assert set(re.findall(r"^\| `(orchestrator_\w+)` \|", page("metrics.md"), re.MULTILINE)) == found


# The definition language and the services file


def definition_keys() -> set[str]:
    schema = json_schema()
    parts = [schema, *schema["$defs"].values()]
    return {key for part in parts for key in part.get("properties", {})}


def test_every_key_of_a_definition_is_documented() -> None:
    assert missing(definition_keys(), "definition-language.md") == []


def test_every_key_of_the_services_file_is_documented() -> None:
    known = {"transport"} | set(keys.COMMON) | {key for of in keys.TRANSPORTS.values() for key in of}
    assert missing(known, "services.md") == []


def test_everything_that_may_happen_when_time_is_up_is_documented() -> None:
    kinds = get_args(get_type_hints(definition.TimeoutAction)["kind"])
    assert "escalate" in kinds
    said = " ".join(spans(page("definition-language.md")))
    assert [kind for kind in kinds if not re.search(rf"\b{kind}\b", said)] == []


def test_every_idempotency_and_outcome_is_documented() -> None:
    assert missing({*get_args(lane.Transport), *get_args(lane.Idempotency)}, "services.md") == []
    assert set(get_args(lane.Outcome)) - spans((DOCS / "explanation" / "idempotency.md").read_text()) == set()


def definitions() -> list[tuple[str, str]]:
    """Every whole definition that a page shows, with the page's name."""
    found = ((path.name, text) for path in PAGES for text in YAML.findall(path.read_text(encoding="utf-8")))
    return [(name, text) for name, text in found if re.search(r"^id: .*^steps:", text, re.MULTILINE | re.DOTALL)]


@pytest.mark.parametrize("shown", [pytest.param(text, id=name) for name, text in definitions()])
def test_a_definition_that_is_shown_can_be_loaded(shown: str) -> None:
    # `strict=False`: a reader's own lanes are not among ours.
    loader.load(shown, lanes=registry.load(str(ROOT / "services.yaml")), strict=False)


SHOWN = re.compile(r"^\$ orchestrator ((?:validate|compile) (workflows/\S+))\n((?:(?!\$|```).*\n)*)", re.MULTILINE)


def shown_on_samples() -> list[tuple[str, str]]:
    """Commands on sample files, and what a page says that they print. Files of readers' own are the tutorial's tests'."""
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    return [(line, said) for line, file, said in SHOWN.findall(text) if (ROOT / file).is_file()]


@pytest.mark.parametrize(("line", "said"), shown_on_samples())
def test_a_command_on_a_sample_prints_what_is_shown(line: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert CliRunner().invoke(program(), line.split()).output == said


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
