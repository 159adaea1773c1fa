"""Definitions in files: whether they are valid, how they look, what they compile to. No server is needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from orchestrator import settings
from orchestrator.commands import output, reading
from orchestrator.errors import Invalid
from orchestrator.lane import Lane

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))
def validate(files: tuple[Path, ...]) -> int:
    """Check definitions; every problem is printed as file:line:column. Exit 1 when there is any."""
    given = settings.load()
    lanes = reading.lanes(given)
    if lanes is None:
        click.echo(f"note: there is no {given.services_file}, so service lanes are not checked", err=True)
    bad = [path for path in files if not _check(path, lanes, given.max_definition)]
    return 1 if bad else 0


def _check(path: Path, lanes: Mapping[str, Lane] | None, limit: int) -> bool:
    try:
        found = reading.definition(path, lanes, limit=limit)
    except Invalid as invalid:
        for problem in invalid.problems:
            click.echo(str(problem))
        return False
    click.echo(f"{path}: {found.id} is valid")
    return True


@click.command()
@click.argument("file", type=FILE)
@click.option("--svg", is_flag=True, help="A picture instead of Mermaid text.")
def graph(file: Path, svg: bool) -> None:
    """Draw a definition: as Mermaid text, or as SVG."""
    from orchestrator import graph_mermaid, graph_svg

    given = settings.load()
    definition = reading.definition(file, reading.lanes(given), strict=False, limit=given.max_definition)
    click.echo(graph_svg.svg(definition) if svg else graph_mermaid.mermaid(definition))


@click.command("compile")
@click.argument("file", type=FILE)
def compile_(file: Path) -> None:
    """Print a definition's canvases, one a line: fused legs in brackets, their queue behind @."""
    from orchestrator.commands import canvas_text
    from orchestrator.plan import Plan

    given = settings.load()
    lanes = reading.lanes(given) or {}
    definition = reading.definition(file, lanes, strict=False, limit=given.max_definition)
    plan = Plan(definition, lanes)
    for line in canvas_text.lines(plan):
        click.echo(line)


@click.command()
def schema() -> None:
    """Print the JSON Schema of definitions, for editors."""
    from orchestrator.language.schema import json_schema

    output.as_json(json_schema())
