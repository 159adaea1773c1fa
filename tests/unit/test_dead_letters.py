"""Dead letters while they wait in the process: none is lost between threads, and none opens anything."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import dead_letters
from orchestrator.store.dead_letters import Letter


@pytest.mark.parametrize(
    "said",
    ['{"token": "%s"}', "{'token': '%s'}", '{"callbackToken": "%s"}', "?token=%s", '\\"token\\": \\"%s\\"',
     "{'X-Callback-Token': '%s'}", "{'Authorization': 'Bearer %s'}", "{'kwargsrepr': \"{'token': '%s'}\"}"],
)  # fmt: skip
def test_a_token_is_not_kept_however_it_is_written(said: str) -> None:
    assert "S3cret" not in dead_letters.sample(said % "S3cret-S3cret.S3cret")


def test_who_write_at_once_write_each_letter_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        @contextmanager
        def transaction(self) -> Iterator[None]:
            time.sleep(0.002)
            yield
            time.sleep(0.002)

    written: list[str] = []
    monkeypatch.setattr("orchestrator.store.dead_letters.put", lambda _, letter: written.append(letter.error))
    letters = [Letter(reason="refused", queue="q", error=str(at), content="", size=0, worker="w") for at in range(20)]
    system: Any = SimpleNamespace(database=Slow(), unkept=deque(letters, maxlen=100), worker="w")
    threads = [threading.Thread(target=dead_letters.flush, args=(system,)) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(written, key=int) == [str(at) for at in range(20)]
