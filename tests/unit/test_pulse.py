"""What the silence of a worker's own pulse means: with no time, no thread and no broker."""

from __future__ import annotations

import pytest

from orchestrator.pulse import BEATS, LOOKS, Ear

PATIENCE = 10.0
LOOK = PATIENCE / (BEATS * LOOKS)


@pytest.fixture
def ear() -> Ear:
    return Ear(patience=PATIENCE)


def listen(ear: Ear, seconds: float, *, by: object | None = "a connection", is_full: bool = False) -> list[str]:
    """What it did in so many seconds of looks, but for waiting."""
    acts = [ear.listen(LOOK, by=by, is_full=is_full) for _ in range(round(seconds / LOOK))]
    return [act for act in acts if act != "wait"]


def test_who_is_heard_is_left_alone(ear: Ear) -> None:
    for _ in range(20):
        assert listen(ear, PATIENCE - LOOK) == []
        ear.hear()


def test_silence_makes_it_begin_anew_once_and_then_give_up(ear: Ear) -> None:
    assert listen(ear, PATIENCE - LOOK) == []
    assert listen(ear, LOOK) == ["begin anew"]
    assert listen(ear, PATIENCE) == ["give up"]


def test_a_new_connection_that_helped_is_forgotten(ear: Ear) -> None:
    assert listen(ear, PATIENCE) == ["begin anew"]
    ear.hear()
    assert listen(ear, PATIENCE) == ["begin anew"]


def test_a_worker_without_room_for_another_message_is_not_deaf_however_long(ear: Ear) -> None:
    assert listen(ear, 100 * PATIENCE, is_full=True) == []
    assert listen(ear, PATIENCE - LOOK) == []


def test_a_broker_that_takes_nothing_excuses_the_silence(ear: Ear) -> None:
    for _ in range(20):
        assert listen(ear, PATIENCE - LOOK) == []
        ear.excuse()


def test_each_connection_is_given_the_time_anew(ear: Ear) -> None:
    for number in range(20):
        assert listen(ear, PATIENCE - LOOK, by=f"connection {number}") == []
        assert listen(ear, PATIENCE - LOOK, by=None) == []
        ear.hear()


def test_connections_that_come_and_go_and_by_none_of_which_anything_is_heard_are_no_excuse(ear: Ear) -> None:
    acts = [act for number in range(20) for act in listen(ear, PATIENCE - LOOK, by=f"connection {number}")]
    assert acts[:2] == ["begin anew", "give up"]


def test_who_does_not_connect_says_so_once_and_then_gives_up(ear: Ear) -> None:
    assert listen(ear, PATIENCE, by=None) == ["say so"]
    assert listen(ear, PATIENCE, by=None) == ["give up"]


def test_who_connected_late_and_hears_nothing_gives_up(ear: Ear) -> None:
    assert listen(ear, PATIENCE, by=None) == ["say so"]
    assert listen(ear, PATIENCE - LOOK) == []
    assert listen(ear, LOOK) == ["give up"]


def test_a_process_that_was_stopped_and_woken_has_not_been_listening(ear: Ear) -> None:
    assert listen(ear, PATIENCE / 2) == []
    assert ear.listen(3600.0, by="a connection", is_full=False) == "wait"
    assert listen(ear, PATIENCE / 4) == []
