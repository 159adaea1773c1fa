"""A chaos run in which nothing has happened has proved nothing, and says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.ledger_service import ILLS, SUFFERED, Service
from tests.chaos.run import faults_network, faults_processes, faults_servers, figures, floor
from tests.chaos.run.account import Account
from tests.chaos.run.figures import Calls, Recovery
from tests.chaos.run.floor import COPIED, Claims
from tests.chaos.run.operators import CLAIMED as ORDERS
from tests.chaos.run.operators import Orders

pytestmark = [pytest.mark.chaos]

FAULTS = [
    *faults_processes.faults(), *faults_servers.faults("valkey"), *faults_network.faults(is_one_far=True),
]  # fmt: skip
CLAIMS = Claims(faults=[fault.counted for fault in FAULTS], orders=ORDERS)
NOTHING = Recovery(lost=(), claimed=(), parked=(), settled=0)
FOUR_MINUTES = Account(
    seconds=240.0, rarer=1.0, most_open=100, started=1500, faults=dict.fromkeys(CLAIMS.faults, 3),
    ills=dict.fromkeys(ILLS, 3), copies={kind: Counter({1: 3, 4: 2}) for kind in COPIED},
    calls=Calls(effects=0, asks=0, per_key=Counter(), doubled=()),
    under_fire=replace(NOTHING, claimed=(1.0,) * 60), alone=replace(NOTHING, claimed=(1.0,) * 30),
    heard=Counter({"one": 1}), obeyed=dict.fromkeys(ORDERS, 3), killed_alone=17, repeated_alone=40,
)  # fmt: skip


def missing(account: Account) -> list[str]:
    return [text.removeprefix("VIOLATION unproved -: ") for text in floor.missing(account, CLAIMS)]


def without(counts: Mapping[str, int], one: str) -> dict[str, int]:
    return {name: count for name, count in counts.items() if name != one}


def test_a_run_in_which_enough_has_happened_has_shown_something() -> None:
    assert missing(FOUR_MINUTES) == []


def test_a_run_that_starts_hardly_anything_fails() -> None:
    assert missing(replace(FOUR_MINUTES, started=119)) == [
        "119 instances were started, and 120 are the least that say anything"
    ]
    assert missing(replace(FOUR_MINUTES, started=13, most_open=10)) == [], "so few were wanted"


def test_a_run_of_more_than_a_minute_that_has_measured_no_recovery_fails() -> None:
    rested = replace(FOUR_MINUTES, seconds=200.0, under_fire=replace(NOTHING, claimed=(1.0,) * 3), alone=NOTHING)
    assert missing(rested) == ["3 recoveries were measured, and 4 are the least that say anything"]
    assert missing(replace(rested, rarer=2.0)) == []
    assert missing(replace(rested, seconds=60.0)) == []


def test_four_minutes_without_a_recovery_from_kills_alone_fail() -> None:
    assert missing(replace(FOUR_MINUTES, alone=NOTHING)) == ["no recovery was measured with no other fault"]


@pytest.mark.parametrize("fault", CLAIMS.faults)
def test_a_fault_that_four_minutes_claim_and_that_never_was_fails_them(fault: str) -> None:
    rested = replace(FOUR_MINUTES, faults=without(FOUR_MINUTES.faults, fault))
    assert f"there was never one of: {fault}" in missing(rested)


@pytest.mark.parametrize("ill", CLAIMS.ills)
def test_an_ill_reply_that_was_never_given_fails_four_minutes(ill: str) -> None:
    rested = replace(FOUR_MINUTES, ills=without(FOUR_MINUTES.ills, ill))
    assert missing(rested) == [f"no reply was ever this: {ill}"]
    assert missing(replace(rested, seconds=239.0)) == []


@pytest.mark.parametrize("kind", COPIED)
def test_messages_that_were_only_ever_delivered_once_fail_four_minutes(kind: str) -> None:
    rested = replace(FOUR_MINUTES, copies={**FOUR_MINUTES.copies, kind: Counter({1: 1000})})
    assert f"no message was delivered twice: {kind}" in missing(rested)


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_that_was_never_obeyed_fails_four_minutes_that_claim_it(order: str) -> None:
    refused = Orders(answered=Counter({(one, 409 if one == order else 202): 3 for one in ORDERS}))
    assert missing(replace(FOUR_MINUTES, obeyed=refused.obeyed)) == [f"no operator's order was ever obeyed: {order}"]
    assert list(floor.missing(replace(FOUR_MINUTES, obeyed={}), replace(CLAIMS, orders=()))) == []


def test_a_short_run_that_kills_nobody_or_repeats_nothing_fails() -> None:
    short = replace(FOUR_MINUTES, seconds=30.0)
    assert missing(replace(short, faults={})) == ["no worker was killed"]
    assert missing(replace(short, copies={})) == ["no message of a leg was delivered twice"]


def test_no_cable_is_claimed_where_nobody_is_far_away() -> None:
    assert "cables pulled" in CLAIMS.faults
    assert "cables pulled" not in [one.counted for one in faults_network.faults(is_one_far=False)]


def test_however_few_ill_replies_there_are_each_kind_is_among_them(tmp_path: Path) -> None:
    served = Service(tmp_path, 0, seed=1)
    served.misbehave = 1.0
    for _ in ILLS:
        served.ledger.suffered(served.ill())
    served.server_close()
    assert figures.ills(tmp_path / SUFFERED) == Counter(ILLS.keys())
