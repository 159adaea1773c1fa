"""Who waits for whom when everything is told to stop."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer

from orchestrator import consumer, settings, supervisor
from orchestrator.api.serve import options
from orchestrator.errors import SettingsError
from orchestrator.settings import Settings


@pytest.mark.parametrize("within", [1.0, 10.0, 60.0])
def test_up_lets_every_worker_end_by_itself_before_it_kills(within: float) -> None:
    whole = supervisor.stop_after(Settings(stop_within=within))
    assert whole * (1 - supervisor.FOR_NEEDED) >= within + supervisor.TO_END


def test_up_stops_within_fifteen_seconds_by_default() -> None:
    assert supervisor.stop_after(Settings()) < 15


@pytest.mark.parametrize("within", [3.0, 10.0, 60.0])
def test_the_web_server_ends_its_requests_within_the_time(within: float) -> None:
    assert 1 <= options(Settings(stop_within=within))["graceful_timeout"] < within


@pytest.mark.parametrize("text", ["0", "0s", "0.000000s", "0m"])
@pytest.mark.parametrize("name", ["canary", "deaf_after"])
def test_the_canary_and_the_pulse_can_be_switched_off(name: str, text: str) -> None:
    assert getattr(settings.load({f"ORCHESTRATOR_{name.upper()}": text}), name) == 0


def test_nothing_else_can_be_none_at_all() -> None:
    with pytest.raises(SettingsError, match="ORCHESTRATOR_LEASE"):
        settings.load({"ORCHESTRATOR_LEASE": "0"})


def test_what_is_under_way_is_read_again_when_a_thread_changed_it_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    class Requests:
        reads = count()

        def __iter__(self) -> Iterator[str]:
            yield "one"
            if next(self.reads) < 2:
                raise RuntimeError("Set changed size during iteration")
            yield "other"

    monkeypatch.setattr(state, "reserved_requests", Requests())
    monkeypatch.setattr(state, "active_requests", ["third"])
    assert consumer._under_way() == ["one", "other", "third"]


def test_a_consumer_closes_although_threads_change_the_sets_that_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[object] = []

    def stumble_twice(closing: object) -> None:
        tries.append(closing)
        if len(tries) < 3:
            raise RuntimeError("Set changed size during iteration")

    monkeypatch.setattr(CeleryConsumer, "on_close", stumble_twice)
    consumer.Consumer.on_close(consumer.Consumer.__new__(consumer.Consumer))
    assert len(tries) == 3
