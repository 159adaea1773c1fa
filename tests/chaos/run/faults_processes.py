"""kill -9 and SIGSTOP: of workers, beats, web servers, and what these have started."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from tests.chaos.run import options
from tests.chaos.run.fire import Fault, Fire
from tests.chaos.run.members import Member

AWAY = 3.0  # seconds at most until what was killed is started again
ZOMBIE = 2 * options.LEASE
DRAINED = 6.0  # seconds from SIGTERM to kill -9

Members = Callable[[Fire], list[Member]]


def faults() -> list[Fault]:
    return [
        _kills("worker", every=4.0, members=lambda fire: fire.arena.workers),
        _kills("beat", every=15.0, members=lambda fire: fire.arena.beats),
        _kills("web", every=15.0, members=lambda fire: fire.arena.webs),
        Fault(name="kill a child of web", counted="killed child", costs_start=True, every=20.0, begin=_kill_child),
        _stops("worker", every=8.0, members=lambda fire: fire.arena.workers),
        _stops("other", every=20.0, members=lambda fire: [*fire.arena.beats, *fire.arena.webs]),
        Fault(name="stop a worker gracefully", counted="ended worker", costs_start=True, every=20.0, begin=_end),
    ]


def kills_alone() -> list[Fault]:
    """Of workers, and nothing else: how soon what they held is taken up again."""
    return [_kills("worker", every=3.0, members=lambda fire: fire.arena.workers)]


def _kills(kind: str, *, every: float, members: Members) -> Fault:
    return Fault(
        name=f"kill {kind}", counted=f"killed {kind}", costs_start=True, every=every,
        begin=lambda fire: _kill(fire, members(fire)),
    )  # fmt: skip


def _stops(kind: str, *, every: float, members: Members) -> Fault:
    return Fault(
        name=f"stop {kind}", counted=f"stopped {kind}", every=every, begin=lambda fire: _stop(fire, members(fire))
    )


def _kill(fire: Fire, members: list[Member]) -> str | None:
    if not (alive := [one for one in members if one.is_alive]):
        return None
    member = fire.chance.choice(alive)
    state = " while it is stopped" if member.is_stopped else ""
    member.kill()
    fire.later(fire.chance.uniform(0, AWAY), member.start)
    return f"kill -9 {member.name}{state}"


def _kill_child(fire: Fire) -> str | None:
    """gunicorn's worker: its master starts another."""
    children = [child for web in fire.arena.webs for child in web.children()]
    if not children:
        return None
    child = fire.chance.choice(children)
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return f"kill -9 {child}, a child of a web server"


def _stop(fire: Fire, members: list[Member]) -> str | None:
    if not (alive := [one for one in members if one.is_alive and not one.is_stopped]):
        return None
    member = fire.chance.choice(alive)
    pid = member.pid
    member.stop()

    def go_on() -> None:
        if member.is_alive and member.pid == pid:
            member.go_on()
            fire.counts["woken from SIGSTOP"] += 1
            fire.say(f"SIGCONT {member.name}")

    fire.later(ZOMBIE, go_on)
    return f"SIGSTOP {member.name} for {ZOMBIE:g} s"


def _end(fire: Fire) -> str | None:
    if not (alive := [one for one in fire.arena.workers if one.is_alive and not one.is_stopped]):
        return None
    member = fire.chance.choice(alive)
    pid = member.pid
    member.end()

    def replace() -> None:
        if member.pid == pid:  # else somebody has killed it meanwhile, and it was started anew
            member.kill()  # what has not drained by now has to be taken over
            member.start()

    fire.later(DRAINED, replace)
    return f"SIGTERM {member.name}"
