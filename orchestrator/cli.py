"""`orchestrator`: the command line. Commands are shells around the use cases; this file says how errors end."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import click
from click.exceptions import NoArgsIsHelpError

from orchestrator.commands import (
    database,
    dead_letters,
    definitions,
    doctor,
    failures,
    instances,
    keeping,
    lanes,
    orders,
    run,
    servers,
    tokens,
)

COMMANDS = (
    run.run, servers.up,
    instances.start, instances.status, instances.list_, instances.history, instances.logs,
    instances.approve, instances.resolve, orders.cancel, orders.suspend, orders.resume, orders.retry,
    lanes.lanes, lanes.hold, lanes.release,
    definitions.validate, definitions.graph, definitions.compile_, definitions.schema,
    servers.worker, servers.beat, servers.web, database.db, doctor.doctor, dead_letters.dead_letters, keeping.purge, keeping.webhook, tokens.token,
)  # fmt: skip
ABORTED = 130  # 128 and the number of SIGINT, as shells have it


class InOrder(click.Group):
    """Lists its commands as they stand above: what a newcomer needs first comes first."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="flight-orchestrator")
@click.option("--traceback", is_flag=True, help="Show where an unexpected error came from.")
def cli(traceback: bool) -> None:  # read by `invoke`, for which the command's end is too late
    """Run workflows that survive crashes: every step once, and undone in order when a later one fails."""


for command in COMMANDS:
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Ends the process: 0 well, 1 not, 2 wrong use or input, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.path.append(str(os.getcwd()))  # noqa: PTH109  # lanes' modules may stand beside services.yaml
    sys.exit(invoke(given))


def invoke(arguments: list[str]) -> int:
    try:
        ended = cli.main(arguments, prog_name="orchestrator", standalone_mode=False)
        sys.stdout.flush()
        return ended or 0
    except click.Abort:
        return ABORTED
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's last flush would fail
        return 1
    except Exception as error:  # noqa: BLE001  # nobody is shown a traceback who has not asked for one
        if "--traceback" in arguments:
            traceback.print_exc()
        failure = failures.explain(error)
        click.echo(failure.text, err=True)
        return failure.code


def _show(error: click.ClickException) -> None:
    """As click does it, but errors look alike whoever found them."""
    if isinstance(error, NoArgsIsHelpError):
        error.show()
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        click.echo(context.get_usage(), err=True)
        click.echo(f"Try `{context.command_path} --help`.", err=True)
    click.echo(f"error: {error.format_message()}", err=True)
