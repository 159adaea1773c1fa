"""What an answer over the broker may look like."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from orchestrator import landed
from orchestrator.lanes import body

DATA = {"trace": "t", "step": "s", "token": "k"}


def event(data: Any) -> bytes:
    return json.dumps({"specversion": "1.0", "id": "1", "source": "/them", "type": "x", "data": data}).encode()


def test_an_answer_is_read_with_all_that_it_may_say() -> None:
    said = {"decision": "rejected", "result": [1], "error": "no", "comment": "sorry"}
    assert landed.read(event(DATA | said)) == landed.Answer(
        trace="t", step="s", token="k", by="event /them", decision="rejected", result=[1], error="no", comment="sorry"
    )


def test_the_token_may_be_given_by_the_callback_url() -> None:
    given = {"trace": "t", "step": "s", "callbackUrl": "http://h/callbacks/t/s?token=g1.do.x"}
    assert landed.read(event(given)).token == "g1.do.x"


def test_what_else_the_data_holds_is_nothing_to_us() -> None:
    assert landed.read(event(DATA | {"payload": {}, "input": None})) == landed.read(event(DATA))


@pytest.mark.parametrize("name", ["trace", "step", "token"])
def test_an_answer_without_what_it_needs_says_so(name: str) -> None:
    with pytest.raises(landed.Unfit, match="needs `trace`, `step` and the callback `token`"):
        landed.read(event({key: value for key, value in DATA.items() if key != name}))


def test_a_result_that_celery_can_carry_becomes_json() -> None:
    number = UUID(int=7)
    given = {"at": datetime(2026, 1, 2, tzinfo=UTC), "on": date(2026, 1, 2), "fee": Decimal("7.50"), "id": number}
    assert landed.written(given) == {
        "at": "2026-01-02T00:00:00+00:00", "on": "2026-01-02", "fee": "7.50", "id": str(number)
    }  # fmt: skip


@pytest.mark.parametrize("given", [{1, 2}, float("nan"), b"x", "a\0b", "x" * 1_000_001])
def test_a_result_that_cannot_be_kept_says_why(given: Any) -> None:
    with pytest.raises(body.Unreadable):
        landed.written(given)


def test_a_result_that_holds_itself_says_why() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(body.Unreadable):
        landed.written(ring)
