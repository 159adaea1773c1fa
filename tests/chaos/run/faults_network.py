"""The relays between workers and everything: cut, stalled (half-open), snipped between request and reply; and the cable."""

from __future__ import annotations

from tests.chaos.run import options
from tests.chaos.run.fire import Fault, Fire

SERVERS = ("postgres", "broker", "service")
SHORT, LONG = 0.5, 2 * options.LEASE  # seconds that a fault lasts
SNIPPED = 0.2  # share of the replies that are cut off


def faults() -> list[Fault]:
    return [
        Fault(name="cut", every=6.0, begin=lambda fire: _break(fire, "cut", "cuts")),
        Fault(name="stall", every=8.0, begin=lambda fire: _break(fire, "stall", "stalls")),
        Fault(name="snip", every=8.0, begin=lambda fire: _break(fire, "snip", "snips")),
        Fault(name="cut the web", every=10.0, begin=_break_web),
        Fault(name="pull the cable", every=20.0, begin=_pull),
    ]


def _break(fire: Fire, how: str, counted: str) -> None:
    """One worker, and one or all of what it talks to."""
    worker = fire.chance.choice(fire.arena.workers).name
    servers = fire.chance.choice([SERVERS, *((one,) for one in SERVERS), *((one,) for one in SERVERS)])
    seconds = fire.chance.uniform(SHORT, LONG)
    links = [f"{worker}.{server}" for server in servers]
    fire.arena.relays.order(how, *links, share=SNIPPED)
    fire.happened(counted, f"network: {how} {worker} and {', '.join(servers)} for {seconds:.1f} s")
    fire.later(seconds, lambda: fire.arena.relays.order("heal", *links))


def _break_web(fire: Fire) -> None:
    """Answers to starts and callbacks are lost."""
    how, seconds = fire.chance.choice(["cut", "stall", "snip", "snip"]), fire.chance.uniform(SHORT, 3.0)
    fire.arena.relays.order(how, "web", share=SNIPPED)
    fire.happened(f"{how}s", f"network: {how} the web's clients for {seconds:.1f} s")
    fire.later(seconds, lambda: fire.arena.relays.order("heal", "web"))


def _pull(fire: Fire) -> None:
    far = fire.arena.faraway
    if far is None:
        return
    seconds = fire.chance.uniform(SHORT, LONG)
    far.pull()
    fire.happened("cables pulled", f"network: the cable of {fire.arena.workers[-1].name} is out for {seconds:.1f} s")
    fire.later(seconds, far.plug)
