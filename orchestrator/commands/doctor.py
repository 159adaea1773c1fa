"""`orchestrator doctor`: is everything there that flights need, and does anything need a person?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from orchestrator.commands import output
from orchestrator.commands.connection import data_dir_option


@click.command()
@click.option(
    "--servers", "servers_only", is_flag=True, help="Only whether the servers can be used: for health checks."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@data_dir_option
def doctor(servers_only: bool, as_json: bool, data_dir: Path | None) -> int:
    """Check settings, servers, queues and what is stuck. Exit 1 when anything is bad."""
    from orchestrator.commands import checks

    findings = list(checks.examine(data_dir, servers_only=servers_only))
    if as_json:
        output.as_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(str(finding))
    return 1 if any(finding.state == "bad" for finding in findings) else 0
