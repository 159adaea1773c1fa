"""One run: everything is started, breaks, is put right, has to end, and is judged."""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.run import (
    ending,
    faults_network,
    faults_processes,
    faults_servers,
    figures,
    fire,
    judge,
    options,
    own_checks,
)
from tests.chaos.run.arena import Arena, arena
from tests.chaos.run.decider import Decider
from tests.chaos.run.fire import Fault, Fire
from tests.chaos.run.load import Load, Starts
from tests.chaos.run.options import Options

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
    load, decider = Load(found), Decider(found)
    load.start()
    decider.start()
    burning = fire.fire(found, console.timed)
    kills_since = _burn(found, burning, console)
    load.stop()
    _put_right(found, burning, 0.0)
    ended = ending.wait_for_all(found, console.timed, load.is_done)
    decider.stop()
    if not load.is_done():
        load.starts.wrong.append("a start was not answered")
    if ended.took is not None:
        console.timed(f"all have ended or are parked, after {ended.took:.1f} s")
    ended.tell(console.say)
    url = found.settings.database_url or ""
    wrong = own_checks.violations(own_checks.read(url), load.starts, decider.answers, ended)
    _tell(found, burning, load.starts, decider, console.say)
    _tell_recovery(found, kills_since, console.say)
    wrong += _idle(found, burning, load.starts)
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
    since = time.time()
    burning.burn(alone, faults_processes.kills_alone())
    return since


def _faults(found: Arena) -> list[Fault]:
    return [
        *faults_processes.faults(), *faults_servers.faults(found.broker.name),
        *faults_network.faults(is_one_far=found.faraway is not None),
    ]  # fmt: skip


def _put_right(found: Arena, burning: Fire, misbehaviour: float) -> None:
    burning.put_out()
    found.misbehave(misbehaviour)
    found.put_right()


def _tell(found: Arena, burning: Fire, starts: Starts, decider: Decider, say: Callable[[str], None]) -> None:
    url = found.settings.database_url or ""
    counts = figures.statuses(url)
    say(f"instances: {sum(count for _, _, count in counts)}; "
        + ", ".join(f"{count} {status}{f' ({reason})' if reason else ''}" for status, reason, count in counts))  # fmt: skip
    say(
        f"starts: {len(starts.acknowledged)} with a key in {starts.tries} tries, {len(starts.without_key)} without a key"
    )
    say(
        "callbacks: "
        + ", ".join(f"{count} answered {status}" for status, count in sorted(decider.answers.by_status.items()))
    )
    say("faults: " + ", ".join(f"{count} {what}" for what, count in sorted(burning.counts.items())))
    ills = figures.ills(found.ills)
    say(f"ill replies: {ills.total()}; {', '.join(f'{count} {kind}' for kind, count in sorted(ills.items()))}")
    for kind, sent in sorted(figures.copies(found.copies).items()):
        say(f"messages, {kind}: {sent.total()}, delivered {sum(times * count for times, count in sent.items())} times "
            f"({', '.join(f'{count} {times}x' for times, count in sorted(sent.items()))}), duplicates "
            f"{sum((times - 1) * count for times, count in sent.items())}")  # fmt: skip
    called = figures.calls(found.ledger)
    say(f"calls: {called.calls} of {sum(called.per_key.values())} keys, {called.asks} questions, {called.effects} effects; "
        f"calls per key: {', '.join(f'{keys} keys {times}' for times, keys in sorted(called.per_key.items()))}; "
        f"at most {max(called.per_key, default=0)}; repeated calls: {called.repeated}, for whatever reason")  # fmt: skip
    say(f"keys with more than one effect: {len(called.doubled)} {' '.join(called.doubled)}".rstrip())


def _tell_recovery(found: Arena, kills_since: float, say: Callable[[str], None]) -> None:
    url, ever = found.settings.database_url or "", 1e12
    for when, since, until in (("under fire", 0.0, kills_since), ("with no other fault", kills_since, ever)):
        back = figures.recovery(url, found.workers, since=since, until=until)
        say(f"recovery, {when}: from the kill of a worker until a step that it held was claimed again: "
            f"{len(back.claimed)} after {figures.spread(back.claimed)}; "
            f"{len(back.parked)} were parked, {back.settled} settled otherwise")  # fmt: skip

    killed = [life for worker in found.workers for life in worker.deaths if (life.ended or 0.0) >= kills_since]
    again = figures.repeated_since(found.ledger, kills_since)
    rate = f"{1000 * again / len(killed):.0f} per thousand kills" if killed else "no figure without a kill"
    say(f"repeated calls, with no other fault: {again} after {len(killed)} kills of a worker, {rate}")


def _idle(found: Arena, burning: Fire, starts: Starts) -> list[str]:
    """A run in which nothing has happened has shown nothing."""
    happened = {
        "no start was acknowledged": starts.acknowledged,
        "no worker was killed": burning.counts["killed worker"],
        "no message was delivered twice": any(
            times > 1 for sent in figures.copies(found.copies).values() for times in sent
        ),
    }
    return [f"VIOLATION idle -: {what}" for what, is_so in happened.items() if not is_so]


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
