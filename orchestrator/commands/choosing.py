"""The options that choose among instances, for lists and for orders alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

OPTIONS = (
    click.option("--status", help="Only those: RUNNING, WAITING, STUCK, COMPLETED, …"),
    click.option("--reason", help="Only those with this reason."),
    click.option("--workflow", "workflow_id", help="Only this workflow's."),
    click.option("--business-key", help="Only those with this key."),
    click.option("--lane", help="Only those with a step on this lane that failed, is stuck, or waits to go on."),
    click.option("--since", help="Only those to which something has happened since: 2h, or 2026-01-31T08:00."),
    click.option("--until", help="Only those to which nothing has happened since."),
    click.option("--late", is_flag=True, help="Only those past a deadline, or ready and not taken."),
    click.option("--stuck", is_flag=True, help="Only those that need a person."),
)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def chosen_by(*, status: str | None, stuck: bool, **others: Any) -> dict[str, Any]:
    """The fields of `filters.Filter` that were asked for. Raises UsageError, BadParameter."""
    if stuck and status:
        raise click.UsageError("say one of --stuck, --status")
    asked = {"status": _state(status), "stuck": stuck, **others}
    return {name: value for name, value in asked.items() if value not in (None, False)}


def _state(name: str | None) -> str | None:
    from orchestrator.states import INSTANCE_STATES

    if name is not None and name.upper() not in INSTANCE_STATES:
        raise click.BadParameter(f"{name} is none of {', '.join(INSTANCE_STATES)}", param_hint="--status")
    return name.upper() if name else None
