"""`orchestrator dead-letters`: messages that no task could take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from orchestrator.commands import output
from orchestrator.commands.connection import connect, data_dir_option

if TYPE_CHECKING:
    from orchestrator.store.dead_letters import Kept

COLUMNS = ("id", "time", "reason", "queue", "bytes", "error")
SHOWN = 100  # characters of an error in a column


def _known(_context: click.Context, _parameter: click.Parameter, reason: str | None) -> str | None:
    """Asked for only when one is given: what knows the reasons takes half a second to import."""
    if reason is None:
        return None
    from orchestrator.dead_letters import Reason

    if reason not in (known := get_args(Reason)):
        raise click.BadParameter(f"there is no reason {reason!r}; there are {', '.join(known)}")
    return reason


@click.command("dead-letters")
@click.option("--reason", callback=_known, help="Only those of this reason.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="The newest so many.")
@click.option("--clear", is_flag=True, help="Delete what is kept, once it is understood; the counters stay.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the beginning of each message.")
@data_dir_option
def dead_letters(*, reason: str | None, limit: int, clear: bool, as_json: bool, data_dir: Path | None) -> None:
    """List messages that no task could take, the newest first."""
    from orchestrator.store import dead_letters as store

    with connect(data_dir).database.transaction() as connection:
        if clear:
            click.echo(f"{store.clear(connection, reason)} deleted")
            return
        found = [_told(one) for one in store.listed(connection, reason, limit)]
    if as_json:
        output.as_json(found)
    else:
        output.columns([{**one, "error": _line(one["error"])} for one in found], COLUMNS)


def _line(error: str) -> str:
    """It was written by whoever sent the message: nothing in it commands a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in error[:SHOWN])


def _told(one: Kept) -> Mapping[str, Any]:
    letter = one.letter
    return {"id": one.id, "time": one.time.isoformat(), "reason": letter.reason, "queue": letter.queue,
            "bytes": letter.size, "error": letter.error, "content": letter.content, "worker": letter.worker}  # fmt: skip
