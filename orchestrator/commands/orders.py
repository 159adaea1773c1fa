"""Orders about instances: one by its id, or all that a filter chooses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.commands import output
from orchestrator.commands.choosing import chosen_by, filter_options
from orchestrator.commands.connection import connect, data_dir_option

if TYPE_CHECKING:
    from orchestrator.orders import Outcome
    from orchestrator.store.filters import Filter
    from orchestrator.system import System

FilterOf = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class How:
    """What an order by filter is told beside the filter."""

    dry_run: bool
    yes: bool
    as_json: bool
    limit: int


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        data_dir_option,
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Only list which it would be."),
        click.option("--limit", type=click.IntRange(1, 1000), default=1000, show_default=True, help="At most so many."),
        filter_options,
        click.argument("instance_id", metavar="[ID]", required=False),
    ):
        command = option(command)
    return command


@click.command()
@_options
def cancel(instance_id: str | None, **given: Any) -> int:
    """End an instance; what was done is undone. Without ID: all that the options choose."""
    return _order("cancel", instance_id, **given)


@click.command()
@_options
def suspend(instance_id: str | None, **given: Any) -> int:
    """Hold an instance back from its next steps. Without ID: all that the options choose."""
    return _order("suspend", instance_id, **given)


@click.command()
@_options
def resume(instance_id: str | None, **given: Any) -> int:
    """Let a suspended instance go on. Without ID: all that the options choose."""
    return _order("resume", instance_id, **given)


@click.command()
@_options
def retry(instance_id: str | None, **given: Any) -> int:
    """Try again: a stuck undo, a quarantined step, or a failed instance from its failed step.

    Without ID: all that the options choose.
    """
    return _order("retry", instance_id, **given)


def _order(action: str, instance_id: str | None, *, data_dir: Path | None, dry_run: bool, yes: bool, as_json: bool,
           limit: int, **chosen: Any) -> int:  # fmt: skip
    wanted = chosen_by(**chosen)
    how = How(dry_run=dry_run, yes=yes, as_json=as_json, limit=limit)
    if instance_id is None:
        return _order_all(action, wanted, how, data_dir)
    if wanted or dry_run:
        raise click.UsageError("say ID, or options that choose instances")
    from orchestrator.orders import ORDERS

    system = connect(data_dir)
    status = ORDERS[action](system, tenant=system.settings.tenant, instance_id=instance_id)
    if as_json:
        output.as_json({"instanceId": instance_id, "status": status})
    else:
        click.echo(status)
    return 0


def _order_all(action: str, chosen: FilterOf, how: How, data_dir: Path | None) -> int:
    if not chosen:
        raise click.UsageError("say ID, or at least one option that chooses instances, such as --lane or --status")
    from orchestrator import orders
    from orchestrator.store.filters import Filter

    system = connect(data_dir)
    wanted = Filter(tenant=system.settings.tenant, limit=how.limit, **chosen)
    if not (how.dry_run or how.yes):
        _ask(action, system, wanted)
    found = orders.order(system, action, wanted, dry_run=how.dry_run)
    _tell(action, found, how)
    return 1 if found.refused else 0


def _ask(action: str, system: System, wanted: Filter) -> None:
    """A person is asked; a program has to have said so."""
    if not sys.stdin.isatty():
        raise click.UsageError("say --yes, or look first with --dry-run")
    from orchestrator import orders

    found = orders.order(system, action, wanted, dry_run=True)
    more = " and more" if found.cursor else ""
    click.confirm(f"{action} {found.matched}{more}?", abort=True, err=True)


def _tell(action: str, found: Outcome, how: How) -> None:
    refused = {one["instanceId"]: one["message"] for one in found.refused}
    if how.as_json:
        output.as_json({"matched": found.matched, "done": 0 if how.dry_run else found.done, "items": found.items,
                        "refused": found.refused, "more": found.cursor is not None})  # fmt: skip
        return
    for one in found.items:
        click.echo(f"{one['instanceId']} {one['workflowId']} {refused.get(one['instanceId'], one['status'])}")
    if how.dry_run:
        click.echo(f"{found.matched} would be ordered to {action}", err=True)
    else:
        click.echo(f"{action}: {found.done} done, {len(refused)} refused", err=True)
    if found.cursor:
        click.echo(f"more than {how.limit} match: repeat the command for the rest", err=True)
