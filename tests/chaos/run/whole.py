"""One run: everything is started, breaks, is put right, has to end, and is judged."""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.run import (
    account,
    ending,
    faults_network,
    faults_processes,
    faults_servers,
    fire,
    floor,
    judge,
    options,
    own_checks,
)
from tests.chaos.run.arena import Arena, arena
from tests.chaos.run.decider import Decider
from tests.chaos.run.fire import Fault, Fire
from tests.chaos.run.floor import Claims
from tests.chaos.run.load import Load
from tests.chaos.run.operators import CLAIMED, Operators
from tests.chaos.run.options import Options
from tests.chaos.run.town import Town

MISBEHAVIOUR = 0.08  # share of the calls that a service answers badly
ONLY_SLOW = 1e-9  # they take their time, so that workers are killed in the midst of calls
KILLS_ALONE = 60.0  # seconds at most


@dataclass(kw_only=True)
class Console:
    """Prints lines and keeps them."""

    began: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append(text)
        print(text, flush=True)

    def timed(self, text: str) -> None:
        self.say(f"{time.monotonic() - self.began:7.1f} s  {text}")


def run(given: Options) -> int:
    console = Console()
    console.say(f"seed {given.seed}: make chaos SEED={given.seed} SECONDS={given.seconds:g} BROKER={given.broker}")
    console.say(f"commit {_commit()}, {platform.machine()}, Python {platform.python_version()}")
    console.say(f"lease {options.LEASE:g} s, sweep every {options.SWEEP_EVERY:g} s, attempt's limit up to {options.LIMIT:g} s, "
                f"republished after {options.REPUBLISH_AFTER:g} s")  # fmt: skip
    with arena(given) as found:
        if found.faraway is None:
            console.say("no network namespace here: no worker is far away")
        console.say(f"started within {found.booted_within:.0f} s")
        console.began = time.monotonic()
        try:
            wrong = _run(found, console)
        except Exception:
            console.say(f"the run itself has failed; evidence in {_keep(found, given.keep)}")
            raise
        console.say(f"{len(wrong)} violations" if wrong else "nothing violated")
        if wrong or given.keep:
            console.say(f"evidence in {_keep(found, given.keep)}")
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text("\n".join(console.lines) + "\n")
    return 1 if wrong else 0


def _run(found: Arena, console: Console) -> list[str]:
    load, decider, town, operators = Load(found), Decider(found), Town(found), Operators(found)
    for part in (town, decider, load, operators):
        part.start()
    burning = fire.fire(found, console.timed)
    kills_since = _burn(found, burning, console)
    load.stop()
    operators.stop()
    _put_right(found, burning, 0.0)
    ended = ending.wait_for_all(found, console.timed, load.is_done)
    decider.stop()
    town.stop()
    operators.finish()
    if not load.is_done():
        load.starts.wrong.append("a start was not answered")
    if ended.took is not None:
        console.timed(f"all have ended or are parked, after {ended.took:.1f} s")
    ended.tell(console.say)
    url = found.settings.database_url or ""
    wrong = own_checks.violations(own_checks.read(url), load.starts, decider.answers, operators.orders, ended)
    account.statuses(url, console.say)
    its = account.of(found, burning, load.starts, town, operators.orders, kills_since)
    account.tell(its, load.starts, decider.answers, console.say)
    operators.orders.tell(console.say)
    wrong += floor.missing(its, _claims(found))
    wrong += judge.violations(url, found.ledger, console.say)
    for one in wrong:
        console.say(one)
    return wrong


def _burn(found: Arena, burning: Fire, console: Console) -> float:
    """The safety phase. Returns when its last part began, in which workers are killed and nothing else happens."""
    console.timed("the safety phase begins")
    alone = min(KILLS_ALONE, 0.25 * found.options.seconds)
    found.misbehave(MISBEHAVIOUR)
    faults_servers.watch(burning)
    burning.burn(found.options.seconds - alone, _faults(found))
    _put_right(found, burning, ONLY_SLOW)
    console.timed(f"from here on workers are killed and nothing else happens, for {alone:.0f} s")
    faults_servers.watch(burning)
    since = time.time()
    burning.burn(alone, faults_processes.kills_alone())
    return since


def _faults(found: Arena) -> list[Fault]:
    return [
        *faults_processes.faults(), *faults_servers.faults(found.broker.name),
        *faults_network.faults(is_one_far=found.faraway is not None),
    ]  # fmt: skip


def _claims(found: Arena) -> Claims:
    return Claims(faults=[one.counted for one in _faults(found)], orders=CLAIMED if found.options.orders else ())


def _put_right(found: Arena, burning: Fire, misbehaviour: float) -> None:
    burning.put_out()
    found.misbehave(misbehaviour)
    found.put_right()


def _keep(found: Arena, folder: Path | None) -> Path:
    """Logs, ledger, and all tables, to be looked at afterwards."""
    kept = folder or Path(tempfile.mkdtemp(prefix="chaos-evidence-"))
    kept.mkdir(parents=True, exist_ok=True)
    for file in [*found.folder.glob("*.log"), *found.folder.glob("*.jsonl"), *found.folder.glob("*/*.log")]:
        shutil.copy(file, kept / file.name)
    judge.dump(found.settings.database_url or "", kept)
    return kept


def _commit() -> str:
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"
