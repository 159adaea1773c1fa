"""Every command that a page shows can be typed as it stands there: the command exists, and so do its options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from orchestrator.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHOWN = re.compile(r"^(?:\$ +)?(?:[A-Z_]+=\S+ +)*orchestrator +([a-z].*)$", re.MULTILINE)
FENCE = re.compile(r"^ *```\w*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`]+)`")
ENDS = re.compile(r"\s(?:[|>;&]|\d>|…).*$")  # of the command, and what the shell does with it


def shown(text: str) -> list[str]:
    """`status ID --json` and so on, from consoles and code marks."""
    consoles = [line.strip() for block in FENCE.findall(text) for line in block.replace("\\\n", " ").split("\n")]
    marks = [" ".join(span.split()) for span in CODE.findall(FENCE.sub("", text))]
    return [ENDS.sub("", found[1]) for line in (*consoles, *marks) if (found := SHOWN.match(line))]


def wrong(line: str) -> str | None:
    """What the command line would refuse about it. Which values an argument or option has, a page may leave open."""
    words = shlex.split(line.replace("[", "").replace("]", ""), comments=True)
    try:
        name, command, rest = cli.resolve_command(click.Context(cli), words)
        while isinstance(command, click.Group) and rest:
            name, command, rest = command.resolve_command(click.Context(command), rest)
        assert command is not None
        command.make_context(name, rest)
    except (click.BadParameter, click.BadOptionUsage, click.exceptions.Exit):
        return None
    except click.UsageError as error:
        return f"{line}: {error.format_message()}"
    return None


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_command_that_is_shown_can_be_typed(path: Path) -> None:
    assert [problem for line in shown(path.read_text()) if (problem := wrong(line))] == []


def test_the_runbooks_commands_are_found_and_a_wrong_one_is_seen() -> None:
    assert len(shown((ROOT / "docs" / "runbook.md").read_text())) > 20, "the search has gone blind"
    assert wrong("status ID --json") is None
    assert wrong("statuses ID") is not None
    assert wrong("list --stuk") is not None
