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
from tests.chaos.run.ending import Ending
from tests.chaos.run.fire import Fire
from tests.chaos.run.load import Load, Starts
from tests.chaos.run.options import Options

MISBEHAVIOUR = 0.08  # share of the calls that a service answers badly


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
        console.began = time.monotonic()
        wrong = _run(found, console)
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
    console.timed("the safety phase begins")
    burning = fire.fire(found, console.timed)
    found.misbehave(MISBEHAVIOUR)
    faults_servers.watch(burning)
    burning.burn(found.options.seconds, [
        *faults_processes.faults(), *faults_servers.faults(found.broker.name), *faults_network.faults(),
    ])  # fmt: skip
    load.stop()
    _put_right(found, burning)
    assert found.settings.database_url is not None
    ended = ending.wait_for_all(found, console.timed, load.is_done)
    if not load.is_done():
        load.starts.wrong.append("a start was not answered")
    decider.stop()
    if ended.took is not None:
        console.timed(f"all have ended or are parked, after {ended.took:.1f} s")
    wrong = own_checks.violations(found.settings.database_url, load.starts, decider.answers, ended)
    _tell(found, burning, load.starts, decider, ended, console.say)
    wrong += judge.violations(found.settings.database_url, found.ledger, console.say)
    for one in wrong:
        console.say(one)
    return wrong


def _put_right(found: Arena, burning: Fire) -> None:
    burning.put_out()
    found.misbehave(0.0)
    for member in found.ours:
        if member.is_stopped:
            member.go_on()
        member.start()


def _tell(found: Arena, burning: Fire, starts: Starts, decider: Decider, ended: Ending,
          say: Callable[[str], None]) -> None:  # fmt: skip
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
    sent = figures.copies(found.copies)
    say(f"messages of legs: {sum(sent.values())}, delivered {sum(times * count for times, count in sent.items())} times "
        f"({', '.join(f'{count} {times}x' for times, count in sorted(sent.items()))}), duplicates "
        f"{sum((times - 1) * count for times, count in sent.items())}")  # fmt: skip
    called = figures.calls(found.ledger)
    kills = sum(count for what, count in burning.counts.items() if what.startswith("killed"))
    say(f"calls: {called.calls} of {sum(called.per_key.values())} keys, {called.asks} questions, {called.effects} effects; "
        f"calls per key: {', '.join(f'{keys} keys {times}' for times, keys in sorted(called.per_key.items()))}; "
        f"at most {max(called.per_key, default=0)}; repeated calls: {called.repeated}, "
        f"{1000 * called.repeated / max(1, kills):.0f} per thousand kills")  # fmt: skip
    say(f"keys with more than one effect: {len(called.doubled)} {' '.join(called.doubled)}".rstrip())
    back = figures.recovery(url, found.workers)
    if back.claimed:
        p50, p99, most = figures.percentile(back.claimed, 0.5), figures.percentile(back.claimed, 0.99), back.claimed[-1]
        say(f"recovery after the kill of a worker: {len(back.claimed)} steps that it held were claimed again after "
            f"p50 {p50:.1f} s, p99 {p99:.1f} s, max {most:.1f} s; {len(back.parked)} were parked, {back.settled} settled otherwise")  # fmt: skip


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
