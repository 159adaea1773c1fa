"""Instances: start one, look at it, decide or settle a step of it. Straight on the database."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.commands import output, reading, starting
from orchestrator.commands.choosing import chosen_by, filter_options
from orchestrator.commands.connection import connect, data_dir_option

if TYPE_CHECKING:
    from orchestrator.queries import Page

PAGE = 500
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
id_argument = click.argument("instance_id", metavar="ID")


@click.command()
@click.argument("workflow")
@click.argument("payload", metavar="PAYLOAD.json|-")
@click.option("--key", help="Idempotency key: the same one again starts nothing and prints the same id.")
@click.option("--completion-url", metavar="URL", help="Where the end is to be told; its host has to be allowed.")
@data_dir_option
def start(workflow: str, payload: str, key: str | None, completion_url: str | None, data_dir: Path | None) -> None:
    """Start an instance of WORKFLOW (an id, or a file) and print its id."""
    body = reading.payload(payload)
    system = connect(data_dir)
    started = starting.start(system, starting.named(system, workflow), body, key=key,
                             completion_url=completion_url)  # fmt: skip
    click.echo(started.instance_id)
    if not started.created:
        click.echo("this key was used before: nothing new was started", err=True)


@click.command()
@id_argument
@json_option
@data_dir_option
def status(instance_id: str, as_json: bool, data_dir: Path | None) -> None:
    """Where an instance stands."""
    from orchestrator import queries

    system = connect(data_dir)
    shown = queries.status(system, tenant=system.settings.tenant, instance_id=instance_id)
    if as_json:
        output.as_json(shown)
    else:
        _show(shown)


def _show(shown: dict[str, Any]) -> None:
    names = ("instanceId", "workflowId", "version", "businessKey", "status", "reason", "started", "ended", "deadline")
    output.facts({name: shown[name] for name in names} | {"current": ", ".join(shown["currentSteps"])})
    if shown["steps"]:
        click.echo()
        output.columns(
            shown["steps"], ("step", "status", "reason", "attempt", "service", "error", "deadline", "callbackUrl")
        )
    if shown["compensations"]:
        click.echo()
        output.columns(shown["compensations"], ("step", "service", "status", "attempt", "error"))


@click.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@json_option
@data_dir_option
def list_(*, limit: int, as_json: bool, data_dir: Path | None, **chosen: Any) -> None:
    """List instances, newest first."""
    wanted = chosen_by(**chosen)
    from orchestrator import queries

    system = connect(data_dir)
    page = queries.list_instances(system, tenant=system.settings.tenant, limit=limit, **wanted)
    if as_json:
        output.as_json(page.items)
    else:
        output.columns(page.items, ("instanceId", "workflowId", "status", "reason", "currentStep", "started"))


@click.command()
@id_argument
@json_option
@data_dir_option
def history(instance_id: str, as_json: bool, data_dir: Path | None) -> None:
    """Every transition of an instance, in order."""
    from orchestrator import queries

    system = connect(data_dir)
    items = _all(lambda cursor: queries.history(
        system, tenant=system.settings.tenant, instance_id=instance_id, limit=PAGE, cursor=cursor))  # fmt: skip
    if as_json:
        output.as_json(items)
    else:
        output.columns(items, ("seq", "time", "step", "verb", "status", "attempt", "reason", "error"))


def _all(page_at: Callable[[str | None], Page]) -> list[dict[str, Any]]:
    page = page_at(None)
    items = list(page.items)
    while page.cursor is not None:
        page = page_at(page.cursor)
        items += page.items
    return items


@click.command()
@id_argument
@click.option("--follow", is_flag=True, help="Go on until the instance has ended.")
@json_option
@data_dir_option
def logs(instance_id: str, follow: bool, as_json: bool, data_dir: Path | None) -> None:
    """The log of an instance."""
    if follow and as_json:
        raise click.UsageError("say one of --follow, --json")
    from orchestrator import queries
    from orchestrator.commands import following

    system = connect(data_dir)
    tenant = system.settings.tenant
    if follow:
        trace = queries.status(system, tenant=tenant, instance_id=instance_id)["instanceId"]
        for entry in following.follow(system, tenant=tenant, trace=trace, until=following.is_over):
            if entry["line"]:
                click.echo(f"{entry['time']} [{entry['instanceId']}] {entry['line']}")
        return
    items = _all(lambda cursor: queries.logs(
        system, tenant=tenant, instance_id=instance_id, limit=PAGE, cursor=cursor))  # fmt: skip
    if as_json:
        output.as_json(items)
    else:
        for item in items:
            click.echo(f"{item['time']} {item['line']}")


@click.command()
@id_argument
@click.argument("step")
@click.option("--reject", is_flag=True, help="Reject instead.")
@click.option("--comment", help="Why.")
@click.option("--result", metavar="JSON", help="What the step's result shall be.")
@data_dir_option
def approve(*, instance_id: str, step: str, reject: bool, comment: str | None, result: str | None,
            data_dir: Path | None) -> None:  # fmt: skip
    """Decide a step that waits."""
    from orchestrator import callbacks

    value = reading.option(result, "--result") if result is not None else None
    system = connect(data_dir)
    decided = callbacks.decide(
        system, trace=instance_id, step=step, token=None, tenant=system.settings.tenant,
        decision="rejected" if reject else "approved", result=value, comment=comment, by=getpass.getuser(),
    )  # fmt: skip
    click.echo(f"{decided.step} {decided.decision}" + (" (it was already)" if decided.repeated else ""))


@click.command()
@id_argument
@click.argument("step")
@click.option("--succeeded", metavar="JSON", help="It was done; this is its result.")
@click.option("--failed", is_flag=True, help="It was not done.")
@click.option("--retry", "again", is_flag=True, help="Try it again, with the same key.")
@data_dir_option
def resolve(*, instance_id: str, step: str, succeeded: str | None, failed: bool, again: bool,
            data_dir: Path | None) -> None:  # fmt: skip
    """Settle an UNKNOWN step: what became of it?"""
    if (succeeded is not None) + failed + again != 1:
        raise click.UsageError("say one of --succeeded JSON, --failed, --retry")
    from orchestrator import engine

    value = reading.option(succeeded, "--succeeded") if succeeded is not None else None
    system = connect(data_dir)
    click.echo(engine.resolve(
        system, tenant=system.settings.tenant, instance_id=instance_id, step=step, result=value,
        verdict="succeeded" if succeeded is not None else "failed" if failed else "retry", by=getpass.getuser()))  # fmt: skip
