"""kill -9 and SIGSTOP: of workers, beats, web servers, and what these have started."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from tests.chaos.run import options
from tests.chaos.run.fire import Fault, Fire
from tests.chaos.run.members import Member

AWAY = 3.0  # seconds at most until what was killed is started again
ZOMBIE = 2 * options.LEASE


def faults() -> list[Fault]:
    return [
        Fault(
            name="kill a worker",
            costs_start=True,
            every=4.0,
            begin=lambda fire: _kill(fire, fire.arena.workers, "worker"),
        ),
        Fault(name="kill beat", costs_start=True, every=15.0, begin=lambda fire: _kill(fire, fire.arena.beats, "beat")),
        Fault(name="kill web", costs_start=True, every=15.0, begin=lambda fire: _kill(fire, fire.arena.webs, "web")),
        Fault(name="kill a child of web", costs_start=True, every=20.0, begin=_kill_child),
        Fault(name="stop a worker", every=8.0, begin=lambda fire: _stop(fire, fire.arena.workers, "worker")),
        Fault(name="stop web or beat", every=20.0, begin=lambda fire: _stop(fire, _others(fire), "other")),
        Fault(name="stop a worker gracefully", costs_start=True, every=20.0, begin=_end),
    ]


def kills_alone() -> list[Fault]:
    """Of workers, and nothing else: how soon what they held is taken up again."""
    return [
        Fault(
            name="kill a worker",
            costs_start=True,
            every=3.0,
            begin=lambda fire: _kill(fire, fire.arena.workers, "worker"),
        )
    ]


def _others(fire: Fire) -> list[Member]:
    return [*fire.arena.beats, *fire.arena.webs]


def _kill(fire: Fire, members: list[Member], kind: str) -> None:
    if not (alive := [one for one in members if one.is_alive]):
        return
    member = fire.chance.choice(alive)
    state = " while it is stopped" if member.is_stopped else ""
    member.kill()
    fire.happened(f"killed {kind}", f"kill -9 {member.name}{state}")
    fire.later(fire.chance.uniform(0, AWAY), member.start)


def _kill_child(fire: Fire) -> None:
    """gunicorn's worker: its master starts another."""
    children = [child for web in fire.arena.webs for child in web.children()]
    if children:
        child = fire.chance.choice(children)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        fire.happened("killed child", f"kill -9 {child}, a child of a web server")


def _stop(fire: Fire, members: list[Member], kind: str) -> None:
    if not (alive := [one for one in members if one.is_alive and not one.is_stopped]):
        return
    member = fire.chance.choice(alive)
    pid = member.pid
    member.stop()
    fire.happened(f"stopped {kind}", f"SIGSTOP {member.name} for {ZOMBIE:g} s")

    def go_on() -> None:
        if member.is_alive and member.pid == pid:
            member.go_on()
            fire.say(f"SIGCONT {member.name}")

    fire.later(ZOMBIE, go_on)


def _end(fire: Fire) -> None:
    if not (alive := [one for one in fire.arena.workers if one.is_alive and not one.is_stopped]):
        return
    member = fire.chance.choice(alive)
    member.end()
    fire.happened("ended worker", f"SIGTERM {member.name}")

    def replace() -> None:
        member.kill()  # what has not drained by now has to be taken over
        member.start()

    fire.later(6.0, replace)
