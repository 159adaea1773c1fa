"""What has happened in a run: gathered once, when it is over, and told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.chaos.run import figures
from tests.chaos.run.arena import Arena
from tests.chaos.run.decider import Answers
from tests.chaos.run.figures import Calls, Recovery
from tests.chaos.run.fire import Fire, rarer
from tests.chaos.run.load import Starts
from tests.chaos.run.operators import Orders
from tests.chaos.run.town import Town

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Account:
    seconds: float  # of the safety phase
    rarer: float  # by this the faults were, for this machine is slow, or has other things to do
    most_open: int
    started: int  # instances whose start was acknowledged
    faults: Mapping[str, int]
    ills: Mapping[str, int]  # replies that were spoiled, by kind
    copies: Mapping[str, Counter[int]]  # by kind of message: how many were delivered so many times
    obeyed: Mapping[str, int]  # operators' orders
    heard: Counter[str]  # how often each event came to the bus
    calls: Calls
    under_fire: Recovery
    alone: Recovery  # while nothing happened but kills of workers
    killed_alone: int
    repeated_alone: int


def of(found: Arena, burning: Fire, starts: Starts, town: Town, orders: Orders, kills_since: float) -> Account:
    url, ever = found.settings.database_url or "", 1e12
    lives = [life for worker in found.workers for life in worker.deaths]
    return Account(
        seconds=found.options.seconds, rarer=rarer(found), most_open=found.options.most_open,
        started=len(starts.acknowledged) + len(starts.without_key), faults=burning.counts,
        ills=figures.ills(found.ills), copies=figures.copies(found.copies), calls=figures.calls(found.ledger),
        heard=town.heard, obeyed=orders.obeyed,
        under_fire=figures.recovery(url, found.workers, since=0.0, until=kills_since),
        alone=figures.recovery(url, found.workers, since=kills_since, until=ever),
        killed_alone=sum((life.ended or 0.0) >= kills_since for life in lives),
        repeated_alone=figures.repeated_since(found.ledger, kills_since),
    )  # fmt: skip


def tell(account: Account, starts: Starts, answers: Answers, say: Say) -> None:
    say(
        f"starts: {len(starts.acknowledged)} with a key in {starts.tries} tries, {len(starts.without_key)} without a key"
    )
    say(f"callbacks: {_counted({f'answered {status}': count for status, count in answers.by_status.items()})}")
    say(f"faults: {_counted(account.faults)}")
    say(f"ill replies: {sum(account.ills.values())}; {_counted(account.ills)}")
    for kind, sent in sorted(account.copies.items()):
        say(f"messages, {kind}: {sent.total()}, delivered {sum(times * count for times, count in sent.items())} times "
            f"({', '.join(f'{count} {times}x' for times, count in sorted(sent.items()))}), duplicates "
            f"{sum((times - 1) * count for times, count in sent.items())}")  # fmt: skip
    say(f"events heard: {len(account.heard)}, {account.heard.total()} times")
    _tell_calls(account.calls, say)
    _tell_recovery(account, say)


def statuses(url: str, say: Say) -> None:
    counts = figures.statuses(url)
    told = {f"{status}{f' ({reason})' if reason else ''}": count for status, reason, count in counts}
    say(f"instances: {sum(told.values())}; " + ", ".join(f"{count} {what}" for what, count in told.items()))


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "none"


def _tell_calls(called: Calls, say: Say) -> None:
    say(f"calls: {called.calls} of {sum(called.per_key.values())} keys, {called.asks} questions, {called.effects} effects; "
        f"calls per key: {', '.join(f'{keys} keys {times}' for times, keys in sorted(called.per_key.items()))}; "
        f"at most {max(called.per_key, default=0)}; repeated calls: {called.repeated}, for whatever reason")  # fmt: skip
    say(f"keys with more than one effect: {len(called.doubled)} {' '.join(called.doubled)}".rstrip())


def _tell_recovery(account: Account, say: Say) -> None:
    for when, back in (("under fire", account.under_fire), ("with no other fault", account.alone)):
        say(f"recovery, {when}: from the kill of a worker until a step that it held was known to be lost: "
            f"{len(back.lost)} after {figures.spread(back.lost)}; until it was claimed again: "
            f"{len(back.claimed)} after {figures.spread(back.claimed)}; "
            f"{len(back.parked)} were parked, {back.settled} settled otherwise")  # fmt: skip
    again, killed = account.repeated_alone, account.killed_alone
    rate = f"{1000 * again / killed:.0f} per thousand kills" if killed else "no figure without a kill"
    say(f"repeated calls, with no other fault: {again} after {killed} kills of a worker, {rate}")
