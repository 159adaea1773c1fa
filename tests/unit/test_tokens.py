from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.tokens import Tokens, Wait
from tests.unit.flying import TRACE

TOKENS = Tokens("secret")
WAIT = Wait(trace=TRACE, step="approve", phase="do", generation=1)


@pytest.mark.parametrize(
    "wait", [WAIT, replace(WAIT, phase="undo"), replace(WAIT, generation=12), replace(WAIT, step="doc[3]")]
)
def test_a_token_opens_the_wait_that_it_was_made_for(wait: Wait) -> None:
    assert TOKENS.read(wait.trace, wait.step, TOKENS.make(wait)) == wait


def test_a_token_is_the_same_at_every_attempt() -> None:
    assert TOKENS.make(WAIT) == Tokens("secret").make(replace(WAIT))


@pytest.mark.parametrize("other", [{"step": "other"}, {"trace": "f" * 32}])
def test_a_token_opens_nothing_else(other: dict[str, Any]) -> None:
    asked = replace(WAIT, **other)
    assert TOKENS.read(asked.trace, asked.step, TOKENS.make(WAIT)) is None


def test_another_secret_makes_other_tokens() -> None:
    assert Tokens("other").read(TRACE, "approve", TOKENS.make(WAIT)) is None


def test_generation_and_phase_cannot_be_changed_by_whoever_holds_a_token() -> None:
    generation, phase, signature = TOKENS.make(WAIT).split(".", 2)
    assert (generation, phase) == ("g1", "do")
    for forged in (f"g2.do.{signature}", f"g1.undo.{signature}", f"g1.do.{signature[:-1]}", "g1.do", signature, ""):
        assert TOKENS.read(TRACE, "approve", forged) is None


@settings(deadline=None)
@given(st.text(st.characters()))
def test_whatever_is_sent_as_a_token_is_read_or_refused(token: str) -> None:
    assert TOKENS.read(TRACE, "approve", token) is None


def test_the_url_carries_the_token_whole() -> None:
    url = urlsplit(TOKENS.url("http://127.0.0.1:8080", WAIT))
    assert url.path == f"/callbacks/{TRACE}/approve"
    assert TOKENS.read(TRACE, "approve", parse_qs(url.query)["token"][0]) == WAIT
