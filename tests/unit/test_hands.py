from __future__ import annotations

import faulthandler
import os
import threading
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state

from orchestrator.hands import Hands
from orchestrator.hung import LOST_HANDS, Watch, where
from orchestrator.settings import Settings


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


def test_a_call_that_was_given_more_time_before_the_send_is_not_hung() -> None:
    time = Time()
    hands = Hands(clock=time)
    with hands.at("a", leg=1, limit=10):
        assert hands.may_take("a", limit=10)
        time.now = 8
        hands.renew(10)
        time.now = 15
        assert hands.hung() == []
        assert not hands.may_take("b", limit=10), "it is in flight for as long"
        time.now = 19
        assert [call.key for call in hands.hung()] == ["a"]


def test_all_is_lost_when_nothing_but_hung_calls_is_under_way() -> None:
    time = Time()
    hands = Hands(clock=time)
    assert not hands.are_lost()
    with hands.leg(1), hands.at("a", leg=1, limit=1):
        assert not hands.are_lost()
        time.now = 2
        assert hands.are_lost()
        with hands.at("b", leg=1, limit=1):
            assert not hands.are_lost(), "another call of the same leg may still end"


def test_a_leg_between_two_calls_is_under_way() -> None:
    time = Time()
    hands = Hands(clock=time)
    with hands.leg(1), hands.at("a", leg=1, limit=1):
        time.now = 2
        with hands.leg(2):
            with hands.at("b", leg=2, limit=1):
                pass
            assert not hands.are_lost(), "it is recorded"
        assert hands.are_lost()
        hands.hold(1, 2)
        assert not hands.are_lost(), "a result of its wave is recorded, or a call is about to begin"


def system_of(hands: Hands) -> Any:
    return SimpleNamespace(
        hands=hands, stopping=threading.Event(), resigned=threading.Event(), told=threading.Event(),
        settings=Settings(lease=1.0, stop_within=1.0),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "should_stop", None)


def test_a_process_resigns_when_half_of_its_threads_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("that would be the first signal"))
    time = Time()
    hands = Hands(clock=time)
    system = system_of(hands)
    one = Watch(system, hands=4)
    with hands.at("a", leg=1, limit=1), hands.at("b", leg=1, limit=1):
        time.now = 2
        one.look()
        assert not system.stopping.is_set(), "two calls of one leg have one thread"
        with hands.at("c", leg=2, limit=1):
            time.now = 4
            one.look()
    assert system.stopping.is_set()
    assert system.resigned.is_set()
    assert state.should_stop == LOST_HANDS


def test_a_process_that_is_stopping_already_does_not_resign() -> None:
    time = Time()
    hands = Hands(clock=time)
    system = system_of(hands)
    system.stopping.set()
    with hands.at("a", leg=1, limit=10):
        time.now = 11
        Watch(system, hands=2).look()
    assert not system.resigned.is_set()
    assert state.should_stop is None


def test_a_watch_that_could_not_look_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: None)
    system, looks, twice = system_of(Hands()), count(), threading.Event()
    system.settings = Settings(lease=0.01)

    def hung() -> list[Any]:
        if next(looks):
            twice.set()
        raise RuntimeError("no thread can be told")

    system.hands = SimpleNamespace(hung=hung)
    watch = Watch(system, hands=2)
    watch.start()
    assert twice.wait(timeout=20)
    watch.stop()


def test_where_a_thread_is_can_be_told() -> None:
    assert "test_where_a_thread_is_can_be_told" in where(threading.get_ident())
    assert where(-1) == "(it has just ended)"
