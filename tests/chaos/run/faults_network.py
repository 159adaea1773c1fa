"""The relays between workers and everything: cut, stalled (half-open), snipped between request and reply; and the cable."""

from __future__ import annotations

from tests.chaos.run import options
from tests.chaos.run.fire import Fault, Fire

SERVERS = ("postgres", "broker", "service")
SHORT, LONG = 0.5, 2 * options.LEASE  # seconds that a fault lasts
SNIPPED = 0.2  # share of the replies that are cut off
CABLE = "the cable"


def faults(*, is_one_far: bool) -> list[Fault]:
    """`is_one_far`: whether there is a worker at the end of a cable."""
    pulled = Fault(name="pull the cable", counted="cables pulled", every=20.0, begin=_pull)
    return [
        Fault(name="cut", counted="cuts", every=6.0, begin=lambda fire: _break(fire, "cut")),
        Fault(name="stall", counted="stalls", every=8.0, begin=lambda fire: _break(fire, "stall")),
        Fault(name="snip", counted="snips", every=8.0, begin=lambda fire: _break(fire, "snip")),
        Fault(name="break the web", counted="breaks of the web", every=10.0, begin=_break_web),
        *([pulled] if is_one_far else []),
    ]


def _break(fire: Fire, how: str) -> str:
    """One worker, and one or all of what it talks to."""
    worker = fire.chance.choice(fire.arena.workers).name
    servers = fire.chance.choice([SERVERS, *((one,) for one in SERVERS), *((one,) for one in SERVERS)])
    seconds = fire.chance.uniform(SHORT, LONG)
    _order(fire, how, seconds, *(f"{worker}.{server}" for server in servers))
    return f"network: {how} {worker} and {', '.join(servers)} for {seconds:.1f} s"


def _break_web(fire: Fire) -> str:
    """Answers to starts and callbacks are lost."""
    how, seconds = fire.chance.choice(["cut", "stall", "snip", "snip"]), fire.chance.uniform(SHORT, 3.0)
    _order(fire, how, seconds, "web")
    return f"network: {how} the web's clients for {seconds:.1f} s"


def _order(fire: Fire, how: str, seconds: float, *links: str) -> None:
    fire.arena.relays.order(how, *links, share=SNIPPED)
    number = fire.broken.begin(*links)
    fire.later(seconds, lambda: fire.arena.relays.order("heal", *fire.broken.end(number)))


def _pull(fire: Fire) -> str | None:
    far = fire.arena.faraway
    if far is None:
        return None
    seconds = fire.chance.uniform(SHORT, LONG)
    far.pull()
    number = fire.broken.begin(CABLE)
    fire.later(seconds, lambda: far.plug() if fire.broken.end(number) else None)
    return f"network: the cable of {fire.arena.workers[-1].name} is out for {seconds:.1f} s"
