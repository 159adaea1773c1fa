"""What an operator asks of the service lanes, and orders about them. Lanes are the installation's, not a tenant's."""

from __future__ import annotations

import difflib
import logging
from dataclasses import replace
from datetime import datetime
from typing import Any

from orchestrator import gates
from orchestrator.admission import LaneState
from orchestrator.errors import BadRequest, NotFound
from orchestrator.lane import Breaker, Lane, Rate
from orchestrator.store import deferred, lanes
from orchestrator.system import System

LONGEST = 500  # characters of a reason
UNITS = {1.0: "s", 60.0: "m", 3600.0: "h"}

Shown = dict[str, Any]

log = logging.getLogger(__name__)


def listed(system: System) -> list[Shown]:
    """All lanes, by name: {name, transport, limits, inFlight, deferred, breaker, held}.

    `limits`: {concurrency, rate, breaker}, none where there is none. `inFlight` and `deferred` (how many steps the lane
    keeps waiting) are of all tenants together. `breaker`: {state, failures, openUntil}, none where it is off; `state` is
    closed, open or probing. `held`: {since, by, why}, none where it is not. Moments are datetimes.
    """
    with system.database.across_tenants() as connection:
        states, now = lanes.states(connection)
        flying, waiting = lanes.in_flight(connection), deferred.counts(connection)
    return [
        _shown(lane, states.get(name) or LaneState(name=name), now)
        | {"inFlight": flying.get(name, 0), "deferred": waiting.get(name, 0)}
        for name, lane in sorted(system.lanes.items())
    ]


def _shown(lane: Lane, state: LaneState, now: datetime) -> Shown:
    held = {"since": state.held_at, "by": state.held_by, "why": state.held_why} if state.held_at else None
    limits = {"concurrency": lane.concurrency, "rate": _rate(lane.rate), "breaker": _breaker(lane.breaker)}
    return {"name": lane.name, "transport": lane.transport, "limits": limits, "held": held,
            "breaker": _standing(lane, state, now)}  # fmt: skip


def _rate(rate: Rate | None) -> str | None:
    return f"{rate.count}/{UNITS[rate.period]}" if rate else None


def _breaker(breaker: Breaker | None) -> Shown | None:
    return {"failures": breaker.failures, "pause": breaker.pause} if breaker else None


def _standing(lane: Lane, state: LaneState, now: datetime) -> Shown | None:
    if lane.breaker is None and state.open_until is None:
        return None
    is_open = state.open_until is not None
    said = "closed" if not is_open else "open" if state.shut(now) == "breaker" or state.held_at else "probing"
    return {"state": said, "failures": state.failures, "openUntil": state.open_until}


def hold(system: System, lane: str, *, by: str, why: str | None = None) -> Shown:
    """Let nothing more begin on a lane. Returns it as `listed` shows it. Raises NotFound, BadRequest.

    Calls in flight go on. Who holds it and why is told anew when it was held already.
    """
    if why is not None and (len(why) > LONGEST or "\0" in why):
        raise BadRequest(f"the reason may have {LONGEST} characters")
    _order(system, lane, lambda state, now: replace(state, held_at=state.held_at or now, held_by=by, held_why=why))
    log.warning("lane %s is held by %s: %s", lane, by, why or "no reason given")
    return _one(system, lane)


def release(system: System, lane: str, *, by: str) -> Shown:
    """Let a lane take steps again; its breaker is closed as well. Raises NotFound."""
    _order(system, lane, lambda state, _: LaneState(name=state.name, next_at=state.next_at))
    log.warning("lane %s is released by %s", lane, by)
    return _one(system, lane)


def _order(system: System, lane: str, change: Any) -> None:
    _check(system, lane)
    with system.database.across_tenants() as connection:
        states, now = lanes.lock(connection, [lane])
        lanes.write(connection, [change(states[lane], now)])
        connection.execute(gates.NOTIFY)
    system.watch.forget()


def _check(system: System, lane: str) -> None:
    if lane not in system.lanes:
        near = difflib.get_close_matches(lane, system.lanes, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the services file has {', '.join(sorted(system.lanes))}"
        raise NotFound(f"there is no lane {lane!r}; {hint}")


def _one(system: System, lane: str) -> Shown:
    return next(one for one in listed(system) if one["name"] == lane)


def metrics(system: System) -> list[str]:
    """Lines in Prometheus' text form."""
    found = listed(system)
    return [
        *_gauge("in_flight", {one["name"]: one["inFlight"] for one in found}),
        *_gauge("deferred_steps", {one["name"]: one["deferred"] for one in found}),
        *_gauge("held", {one["name"]: int(one["held"] is not None) for one in found}),
        *_gauge("breaker_open", {one["name"]: int((one["breaker"] or {}).get("state") in ("open", "probing")) for one in found}),
    ]  # fmt: skip


def _gauge(name: str, values: dict[str, int]) -> list[str]:
    lines = [f'orchestrator_lane_{name}{{lane="{lane}"}} {value}' for lane, value in values.items()]
    return [f"# TYPE orchestrator_lane_{name} gauge", *lines]
