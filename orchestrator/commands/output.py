"""How commands print: columns for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

Row = Mapping[str, Any]


def as_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def columns(rows: Sequence[Row], names: Sequence[str]) -> None:
    """A table with a heading; nothing where a value is missing."""
    shown = [[_cell(row.get(name)) for name in names] for row in rows]
    heading = [name.upper() for name in names]
    widths = [max(len(line[at]) for line in [heading, *shown]) for at in range(len(names))]
    for line in [heading, *shown]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def facts(named: Mapping[str, Any]) -> None:
    """`name  value` a line; those without a value are left out."""
    width = max(len(name) for name in named)
    for name, value in named.items():
        if value not in (None, "", []):
            click.echo(f"{name.ljust(width)}  {_cell(value)}")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split())
