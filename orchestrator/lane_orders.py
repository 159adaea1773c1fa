"""What an operator asks of the service lanes, and orders about them. Lanes are the installation's, not a tenant's."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from orchestrator import gates
from orchestrator.admission import LaneState
from orchestrator.errors import BadRequest, NotFound
from orchestrator.lane import Breaker, Lane, Rate
from orchestrator.store import deferred, lanes
from orchestrator.system import System
from orchestrator.views import iso

LONGEST = 500  # characters of a reason
OFF = {"state": "closed"}
UNITS = {1.0: "s", 60.0: "m", 3600.0: "h"}

Shown = dict[str, Any]

log = logging.getLogger(__name__)


def listed(system: System) -> list[Shown]:
    """All lanes, by name: {name, transport, limits, inFlight, deferred, breaker, held}.

    `limits`: {concurrency, rate, breaker}, none where there is none. `inFlight` and `deferred` (how many steps the lane
    keeps waiting) are of all tenants together. `breaker`: {state, failures, openUntil}, none where it is off; `state` is
    closed, open or probing. `held`: {since, by, why}, none where it is not. Moments are ISO 8601.
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
    held = {"since": iso(state.held_at), "by": state.held_by, "why": state.held_why} if state.held_at else None
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
    return {"state": said, "failures": state.failures, "openUntil": iso(state.open_until)}


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


def _order(system: System, lane: str, change: Callable[[LaneState, datetime], LaneState]) -> None:
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
        "# TYPE orchestrator_lane_in_flight gauge",
        *_values("orchestrator_lane_in_flight", found, lambda one: one["inFlight"]),
        "# TYPE orchestrator_lane_deferred_steps gauge",
        *_values("orchestrator_lane_deferred_steps", found, lambda one: one["deferred"]),
        "# TYPE orchestrator_lane_held gauge",
        *_values("orchestrator_lane_held", found, lambda one: one["held"] is not None),
        "# TYPE orchestrator_lane_breaker_open gauge",
        *_values("orchestrator_lane_breaker_open", found, lambda one: (one["breaker"] or OFF)["state"] != "closed"),
    ]


def _values(name: str, found: list[Shown], value_of: Callable[[Shown], int]) -> list[str]:
    return [f'{name}{{lane="{one["name"]}"}} {int(value_of(one))}' for one in found]
