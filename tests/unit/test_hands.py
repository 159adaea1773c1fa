from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.hands import Hands
from orchestrator.hung import LOST_HANDS, Watch, where


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_call_is_hung_once_its_limit_has_passed_and_no_more_when_it_has_ended() -> None:
    time = Time()
    hands = Hands(clock=time)
    with hands.at("a", leg=1, limit=10), hands.at("b", leg=2, limit=20):
        time.now = 15
        assert [call.key for call in hands.hung()] == ["a"]
    assert hands.calls() == hands.hung() == []


def test_of_suspects_one_is_taken_at_a_time() -> None:
    time = Time()
    hands = Hands(clock=time)
    assert hands.may_take("a", limit=10)
    assert hands.may_take("a", limit=10), "the claim is made again when its commit was lost"
    assert not hands.may_take("b", limit=10)
    with hands.at("a", leg=1, limit=10):
        assert not hands.may_take("b", limit=10)
    assert hands.may_take("b", limit=10)
    time.now = 11
    assert hands.may_take("c", limit=10), "whoever never ended is over by its limit"


def test_a_suspect_that_comes_to_no_call_is_given_back_and_one_that_is_called_is_not() -> None:
    hands = Hands(clock=Time())
    assert hands.may_take("a", limit=10)
    with hands.at("a", leg=1, limit=10):
        hands.give_back("a")  # claimed a second time, by a leg that did not come to call it
        assert not hands.may_take("b", limit=10)
    assert hands.may_take("b", limit=10)
    hands.give_back("c")
    assert not hands.may_take("c", limit=10)
    hands.give_back("b")
    assert hands.may_take("c", limit=10)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    return signals


def watch(hands: Hands, ended: list[int], threads: int) -> Watch:
    system: Any = SimpleNamespace(hands=hands, stopping=threading.Event())
    return Watch(system, hands=threads, end=ended.append)


def test_a_process_ends_when_half_of_its_threads_are_lost_and_the_other_calls_have_ended(
    told: list[tuple[int, int]],
) -> None:
    time, ended = Time(), list[int]()
    hands = Hands(clock=time)
    one = watch(hands, ended, 4)
    with hands.at("a", leg=1, limit=1), hands.at("b", leg=1, limit=1):
        time.now = 2
        one.look()
        assert told == [], "two calls of one leg have one thread"
        with hands.at("c", leg=2, limit=1), hands.at("good", leg=3, limit=50):
            time.now = 4
            one.look()
            one.look()
            assert len(told) == 1
            assert ended == [], "a call that may still end is waited for"
        with hands.at("d", leg=2, limit=-1):
            one.look()
    assert ended == [LOST_HANDS]


def test_where_a_thread_is_can_be_told() -> None:
    assert "test_where_a_thread_is_can_be_told" in where(threading.get_ident())
    assert where(-1) == "(it has just ended)"


def test_a_process_that_is_stopping_already_is_not_told_again(told: list[tuple[int, int]]) -> None:
    time, ended = Time(), list[int]()
    hands = Hands(clock=time)
    one = watch(hands, ended, 2)
    one._system.stopping.set()
    with hands.at("a", leg=1, limit=10), hands.at("b", leg=2, limit=99):
        time.now = 11
        one.look()
    assert (told, ended) == ([], [])
