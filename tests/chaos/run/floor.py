"""What must have happened, or a run has proved nothing: whoever starts nothing and breaks nothing finds nothing wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.ledger_service import ILLS
from tests.chaos.run.account import Account
from tests.chaos.run.entry import HINTS
from tests.chaos.run.town import ANSWER

STARTED = 0.5  # instances a second: a machine with nothing else to do manages 6 to 7, up to a hundred under way at once
OPEN = 100  # under way at once, where that was measured
RECOVERED = 0.02  # recoveries a second, where 0.4 were measured, and 0.1 on a machine with much else to do
MEASURED = 60.0  # seconds: in a longer run recoveries have to have been measured
WHOLE = 240.0  # seconds: in such a run everything that it claims has to have happened


COPIED = (*HINTS, "events", ANSWER, "reports.make", "landed")


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a run says of itself that it does."""

    faults: Sequence[str]
    ills: Sequence[str] = tuple(ILLS)
    copied: Sequence[str] = COPIED
    orders: Sequence[str] = ()


def missing(account: Account, claims: Claims) -> Iterator[str]:
    """As violations."""
    for what in _shortfalls(account, claims):
        yield f"VIOLATION unproved -: {what}"


def _shortfalls(account: Account, claims: Claims) -> Iterator[str]:
    wanted = STARTED * account.seconds * min(1.0, account.most_open / OPEN)
    if account.started < wanted:
        yield f"{account.started} instances were started, and {wanted:.0f} are the least that say anything"
    if not account.faults.get("killed worker"):
        yield "no worker was killed"
    if not _duplicates(account, "leg"):
        yield "no message of a leg was delivered twice"
    if account.seconds > MEASURED:
        yield from _unmeasured(account)
    if account.seconds >= WHOLE:
        yield from _undone(account, claims)


def _unmeasured(account: Account) -> Iterator[str]:
    wanted = max(1.0, RECOVERED * account.seconds / account.rarer)
    found = len(account.under_fire.claimed) + len(account.alone.claimed)
    if found < wanted:
        yield f"{found} recoveries were measured, and {wanted:.0f} are the least that say anything"


def _undone(account: Account, claims: Claims) -> Iterator[str]:
    if not account.alone.claimed:
        yield "no recovery was measured with no other fault"
    yield from (f"there was never one of: {one}" for one in claims.faults if not account.faults.get(one))
    yield from (f"no reply was ever this: {one}" for one in claims.ills if not account.ills.get(one))
    yield from (f"no operator's order was ever obeyed: {one}" for one in claims.orders if not account.obeyed.get(one))
    yield from (f"no message was delivered twice: {one}" for one in claims.copied if not _duplicates(account, one))


def _duplicates(account: Account, kind: str) -> int:
    return sum((times - 1) * count for times, count in account.copies.get(kind, {}).items())
