"""`orchestrator run`: one instance to its end, its steps printed as they happen."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator import settings
from orchestrator.commands import reading
from orchestrator.commands.approving import approve_all
from orchestrator.commands.connection import composed, joined
from orchestrator.servers import running_stack
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from orchestrator.system import System

COMPLETED, ENDED_OTHERWISE, PARKED = 0, 1, 3
SILENT_FOR = 10.0  # seconds without any transition before a configured system is suspected to have no worker
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Serve = Callable[[], None]


@click.command()
@click.argument("workflow")
@click.argument("payload", metavar="PAYLOAD.json")
@click.option("--no-wait", is_flag=True, help="Exit with 3 when all that is left waits for somebody.")
@click.option("--approve", is_flag=True, help="Decide every wait as approved, to try a workflow.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where data is kept.  [default: .data]")
def run(*, workflow: str, payload: str, no_wait: bool, approve: bool, data_dir: Path | None) -> int:
    """Run one instance of WORKFLOW (an id, or a file) to its end and print its steps.

    Without ORCHESTRATOR_DATABASE_URL and ORCHESTRATOR_BROKER_URL it joins the stack that runs in the data
    directory, or brings servers of its own and stops them again.

    \b
    Exit: 0 completed, 1 ended otherwise, 2 wrong use or input, 3 parked (with --no-wait).
    """
    if no_wait and approve:
        raise click.UsageError("say one of --no-wait, --approve")
    given = settings.load()
    folder = data_dir or Path(given.data_dir)
    body = reading.payload(payload)
    if reading.is_definition_file(workflow):  # what is wrong with it is better said before servers start
        reading.definition(Path(workflow), reading.lanes(given), limit=given.max_definition)
    flight = Flight(workflow=workflow, payload=body, no_wait=no_wait, approve=approve, data_dir=data_dir)
    with stopped_by_signals():
        if given.database_url and given.broker_url:
            return flight.on_configured(given)
        if there := _joined(given, folder):
            return flight.on_joined(there)
        return flight.on_own_stack(given, folder)


def _joined(given: Settings, folder: Path) -> Settings | None:
    """With the addresses of a stack that `up` keeps in the data directory. Another `run`'s would go away with it."""
    if given.database_url or given.broker_url:
        return None
    stack = running_stack.find(folder)
    if stack is None or stack.web_url is None:
        return None
    note(f"{folder} has a running stack, which runs this too: {stack.web_url}/ui")
    return joined(replace(given, data_dir=str(folder)), stack)


class Flight:
    """One instance on its way."""

    def __init__(self, *, workflow: str, payload: Any, no_wait: bool, approve: bool, data_dir: Path | None) -> None:
        self._workflow, self._payload = workflow, payload
        self._no_wait, self._approve = no_wait, approve
        self._there = f" --data-dir {shlex.quote(str(data_dir))}" if data_dir else ""  # for commands that are told
        self._goes_on = "goes on with the workers that run"
        self._began = self._moved = time.monotonic()
        self._hinted = False

    def on_configured(self, given: Settings) -> int:
        return self._follow(composed(given), self._suspect_no_worker, lambda: None)

    def on_joined(self, given: Settings) -> int:
        system = composed(given)
        _load(system)
        return self._follow(system, self._suspect_no_worker, lambda: None)

    def on_own_stack(self, given: Settings, folder: Path) -> int:
        from orchestrator.servers import small_stack

        self._goes_on = f"goes on with `orchestrator up{self._there}`"
        with small_stack.running(given, folder, note) as stack:
            system = composed(stack.settings)
            try:
                _load(system)
                return self._follow(system, stack.check, stack.serve)
            finally:
                system.database.close()  # before its server stops

    def _follow(self, system: System, check: Callable[[], None], serve: Serve) -> int:
        from orchestrator.commands import following, starting

        name = starting.named(system, self._workflow)
        if starting.calls_over_http(system, name):
            serve()
        trace = starting.start(system, name, self._payload).instance_id
        self._began = self._moved = time.monotonic()
        last = ""
        for entry in following.follow(system, tenant=system.settings.tenant, trace=trace, until=self._is_end,
                                      check=lambda: self._look_after(system, trace, check)):  # fmt: skip
            last = self._say(system, trace, entry, serve) or last
        return self._end(system, trace, last)

    def _look_after(self, system: System, trace: str, check: Callable[[], None]) -> None:
        check()
        if self._approve:
            approve_all(system, trace)

    def _is_end(self, status: str) -> bool:
        from orchestrator.commands import following

        return following.is_over(status) or (self._no_wait and following.is_parked(status))

    def _say(self, system: System, trace: str, entry: Any, serve: Serve) -> str | None:
        from orchestrator.commands import following

        self._moved = time.monotonic()
        if said := following.step_line(system, entry):
            if entry["verb"] == "park" and not (self._no_wait or self._approve):
                serve()  # before its address is printed
            click.echo(said)
            self._hint(entry)
        return entry["status"] if entry["step"] is None and entry["instanceId"] == trace else None

    def _hint(self, entry: Any) -> None:
        trace = entry["instanceId"]
        step, there = f"{trace} {entry['step']}", self._there
        if entry["verb"] == "park" and not self._approve:
            note(f"decide with a POST there, or `orchestrator approve {step}{there}` (or with --reject)")
        if entry["verb"] == "doubt":
            note(f"settle it with `orchestrator resolve {step} --succeeded JSON|--failed|--retry{there}`")
        if entry["verb"] == "stick":
            note(f"mend its cause, then `orchestrator retry {trace}{there}`")

    def _end(self, system: System, trace: str, last: str) -> int:
        from orchestrator import queries
        from orchestrator.commands import following

        shown = queries.status(system, tenant=system.settings.tenant, instance_id=trace)
        status, reason = shown["status"], f" ({shown['reason']})" if shown["reason"] else ""
        if not following.is_over(status):
            note(f"{status}{reason}: {trace} {self._goes_on}")
            return PARKED
        note(f"{status}{reason} in {time.monotonic() - self._began:.1f} s")
        return COMPLETED if last == "COMPLETED" else ENDED_OTHERWISE

    def _suspect_no_worker(self) -> None:
        if not self._hinted and time.monotonic() - self._moved > SILENT_FOR:
            self._hinted = True
            note("nothing has happened for a while: does a worker run? `orchestrator worker` starts one")


def _load(system: System) -> None:
    from orchestrator.bootstrap import load_workflows
    from orchestrator.commands.database import tell_refused

    tell_refused(load_workflows(system))


def note(text: str) -> None:
    click.echo(text, err=True)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """A signal ends the block by an exception, so that what was started in it is stopped. The first one counts."""

    def stop(number: int, _: object) -> None:
        for one in STOP_SIGNALS:
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
