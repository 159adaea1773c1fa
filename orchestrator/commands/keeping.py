"""What is kept of ended instances, and who is told of an end."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.commands import output
from orchestrator.commands.connection import connect, data_dir_option


@click.command()
@click.option("--older-than", required=True, metavar="DURATION", help="Ended longer ago than this: 90d.")
@click.option("--status", help="Only those that ended so: COMPLETED, or several with commas.")
@click.option("--workflow", help="Only this workflow's.")
@click.option("--dry-run", is_flag=True, help="Only count them.")
@data_dir_option
def purge(*, older_than: str, status: str | None, workflow: str | None, dry_run: bool, data_dir: Path | None) -> None:
    """Delete ended instances with their history and their children."""
    from orchestrator import retention
    from orchestrator.store.retention import Old

    age, statuses = _age(older_than), _statuses(status)
    system = connect(data_dir)
    old = Old(older_than=age, tenant=system.settings.tenant, workflow_id=workflow, statuses=statuses)
    if dry_run:
        click.echo(f"{retention.count(system, old)} would be deleted")
    else:
        click.echo(f"{retention.purge(system, old)} deleted")


def _age(text: str) -> float:
    from orchestrator.durations import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--older-than") from error


def _statuses(text: str | None) -> list[str] | None:
    from orchestrator.states import INSTANCE_STATES, is_terminal

    if text is None:
        return None
    names = [name.strip().upper() for name in text.split(",")]
    ends = [name for name in INSTANCE_STATES if is_terminal(name)]
    if unknown := [name for name in names if name not in ends]:
        raise click.BadParameter(f"no instance ends as {unknown[0]}, but as {', '.join(ends)}", param_hint="--status")
    return names


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@data_dir_option
def webhook(as_json: bool, data_dir: Path | None) -> None:
    """What a receiver of completions needs to know: which hosts may be told, and the key of the signature."""
    from orchestrator import completions

    system = connect(data_dir)
    shown = {
        "hosts": system.settings.webhook_hosts or "none; see ORCHESTRATOR_WEBHOOK_HOSTS",
        "header": completions.SIGNATURE, "key": system.tokens.completion_key(system.settings.tenant),
    }  # fmt: skip
    if as_json:
        output.as_json(shown)
    else:
        output.facts(shown)
