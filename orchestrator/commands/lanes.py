"""Commands about service lanes: look, hold, release."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from orchestrator.commands import output
from orchestrator.commands.connection import connect, data_dir_option

COLUMNS = ("lane", "transport", "concurrency", "rate", "in flight", "waiting", "state")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@data_dir_option
def lanes(as_json: bool, data_dir: Path | None) -> None:
    """List the service lanes: limits, what is in flight and waits, and which are shut."""
    from orchestrator import lane_orders

    found = lane_orders.listed(connect(data_dir))
    if as_json:
        output.as_json(found)
    else:
        output.columns([_line(one) for one in found], COLUMNS)


@click.command()
@click.argument("lane")
@click.option("--why", help="Told to whoever looks at the lane.")
@data_dir_option
def hold(lane: str, why: str | None, data_dir: Path | None) -> None:
    """Let nothing more begin on a lane; calls in flight go on."""
    from orchestrator import lane_orders

    click.echo(state_of(lane_orders.hold(connect(data_dir), lane, by=getpass.getuser(), why=why)))


@click.command()
@click.argument("lane")
@data_dir_option
def release(lane: str, data_dir: Path | None) -> None:
    """Let a lane take steps again, whether it is held or its breaker is open."""
    from orchestrator import lane_orders

    click.echo(state_of(lane_orders.release(connect(data_dir), lane, by=getpass.getuser())))


def _line(one: Mapping[str, Any]) -> dict[str, Any]:
    return {"lane": one["name"], "transport": one["transport"], "concurrency": one["limits"]["concurrency"],
            "rate": one["limits"]["rate"], "in flight": one["inFlight"], "waiting": one["deferred"],
            "state": state_of(one)}  # fmt: skip


def state_of(one: Mapping[str, Any]) -> str:
    """`in service`, `held by ada: migration`, or what its breaker does."""
    if one["held"]:
        why = one["held"]["why"]
        return f"held by {one['held']['by']}" + (f": {why}" if why else "")
    breaker = one["breaker"]
    if breaker and breaker["state"] != "closed":
        return f"breaker {breaker['state']} until {breaker['openUntil']}"
    return "in service"
