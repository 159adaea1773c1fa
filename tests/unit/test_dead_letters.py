"""Dead letters while they wait in the process: none is lost between threads, and none opens anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import dead_letters
from orchestrator.letterbox import Letterbox
from orchestrator.store.dead_letters import Letter
from orchestrator.sweep import Timer


@pytest.mark.parametrize(
    "said",
    ['{"token": "%s"}', "{'token': '%s'}", '{"callbackToken": "%s"}', "?token=%s", '\\"token\\": \\"%s\\"',
     "{'X-Callback-Token': '%s'}", "{'Authorization': 'Bearer %s'}", "{'kwargsrepr': \"{'token': '%s'}\"}"],
)  # fmt: skip
def test_a_token_is_not_kept_however_it_is_written(said: str) -> None:
    assert "S3cret" not in dead_letters.sample(said % "S3cret-S3cret.S3cret")


def letters(count: int) -> list[Letter]:
    return [Letter(reason="refused", queue="q", error=str(at), content="", size=0, worker="w") for at in range(count)]


def errors(found: Iterable[Letter]) -> list[int]:
    return [int(one.error) for one in found]


def test_who_write_at_once_write_each_letter_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        @contextmanager
        def transaction(self) -> Iterator[None]:
            time.sleep(0.002)
            yield
            time.sleep(0.002)

    written: list[Letter] = []
    monkeypatch.setattr("orchestrator.store.dead_letters.put", lambda _, found: written.extend(found))
    system: Any = SimpleNamespace(database=Slow(), letterbox=Letterbox(), worker="w")

    def keep_and_write() -> None:
        for letter in letters(20):
            system.letterbox.drop(letter)
            dead_letters.flush(system)

    threads = [threading.Thread(target=keep_and_write) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(errors(written)) == sorted([*range(20)] * 3)


def test_a_letterbox_holds_the_newest_and_says_how_many_fell_out(caplog: pytest.LogCaptureFixture) -> None:
    box = Letterbox(room=3)
    for letter in letters(5):
        box.drop(letter)
    assert len(box) == 3
    assert errors(box.take()) == [2, 3, 4]
    assert "2 dead letters were not kept" in caplog.text
    assert box.take() == []


def test_what_is_given_back_to_a_letterbox_is_the_oldest_again() -> None:
    box, given = Letterbox(room=4), letters(5)
    for letter in given[:3]:
        box.drop(letter)
    taken = box.take()
    for letter in given[3:]:
        box.drop(letter)
    box.give_back(taken)
    assert errors(box.take()) == [1, 2, 3, 4]


def test_a_timer_acts_once_more_when_it_is_stopped() -> None:
    acted: list[None] = []
    timer = Timer("t", 3600.0, lambda: acted.append(None), at_last=True)
    timer.start()
    timer.stop()
    assert len(acted) == 1
