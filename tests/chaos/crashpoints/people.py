"""The people of a flight: each looks at what there is, and acts when it is time. Whoever was killed looks again.

A person never knows whether an order of theirs has arrived; they see it in what they look at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from orchestrator import callbacks, engine, lane_orders, restoring
from orchestrator.errors import Conflict, Gone
from orchestrator.operators import Verdict
from orchestrator.tokens import Wait

if TYPE_CHECKING:
    from tests.chaos.crashpoints.flight import Flight

Person = Callable[["Flight"], int]  # how much was done

STEPS = text("""
SELECT s.instance_id, s.step, s.phase, s.generation, s.lost_until, s.lost_until > clock_now() AS may_run, i.life, i.status,
  s.service, i.suspended_at, i.outcome,
  i.doubted_since
FROM step s JOIN instance i ON i.id = s.instance_id WHERE s.step LIKE :step AND s.state = :state ORDER BY s.instance_id
""")
INSTANCES = text(
    "SELECT id, status, life, suspended_at, ended_at FROM instance WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id"
)
SUSPENDED = text("SELECT count(*) FROM history WHERE instance_id = :id AND verb = 'suspend'")
HELD = text("SELECT held_at IS NOT NULL FROM lane WHERE name = :name")


def approves(step: str, decision: str = "approved", generation: int = 1, once: str | None = None) -> Person:
    """A person who is signed in. `once`: they act when that step waits, too."""

    def person(flight: Flight) -> int:
        if once is not None and not _at(flight, once, "WAITING"):
            return 0
        found = [one for one in _at(flight, step, "WAITING") if one["generation"] == generation]
        return sum(_decided(flight, one, token=None, tenant="local", decision=decision, by="ann") for one in found)

    return person


def calls_back(step: str, phase: Any = "do") -> Person:
    """A service that answers later, with the token that it was given."""

    def person(flight: Flight) -> int:
        found = [one for one in _at(flight, step, "WAITING") if one["phase"] == phase]
        return sum(
            _decided(flight, one, token=_token(flight, one), tenant=None, result={"late": True}) for one in found
        )

    return person


def _decided(flight: Flight, one: Any, **answer: Any) -> int:
    return _order(lambda: callbacks.decide(flight.system, trace=one["instance_id"].hex, step=one["step"], **answer))


def _token(flight: Flight, one: Any) -> str:
    wait = Wait(trace=one["instance_id"].hex, step=one["step"], phase=one["phase"], generation=one["generation"])
    return flight.system.tokens.url("", wait).partition("token=")[2]


def cancels_at(step: str, state: str = "WAITING") -> Person:
    def person(flight: Flight) -> int:
        found = [one for one in _at(flight, step, state) if one["outcome"] is None]
        return sum(_ordered(flight, engine.cancel, one["instance_id"]) for one in found)

    return person


def retries_when(status: str) -> Person:
    """They mend what the service has rejected, and order it again: once, or as often as something is stuck."""

    def person(flight: Flight) -> int:
        found = [one for one in flight.others.rows(INSTANCES, ids=flight.roots) if one["status"] == status]
        return sum(_mended(flight, one["id"]) for one in found if one["life"] == 1)

    return person


def _mended(flight: Flight, instance: Any) -> int:
    flight.others.do("mend", f"{instance.hex}:mended", {})
    return _ordered(flight, engine.retry, instance)


def suspends_at(step: str) -> Person:
    """And lets it go on at the next look."""

    def person(flight: Flight) -> int:
        instances = flight.others.rows(INSTANCES, ids=flight.roots)
        resumed = sum(
            _ordered(flight, engine.resume, one["id"]) for one in instances if one["suspended_at"] is not None
        )
        fresh = [one["instance_id"] for one in _at(flight, step, "WAITING")]
        fresh = [one for one in fresh if not flight.others.look(SUSPENDED, id=one)]
        return resumed + sum(_ordered(flight, engine.suspend, one) for one in fresh)

    return person


def restores_at(step: str) -> Person:
    """Takes the database for one that was restored to an earlier point, and says so."""

    def person(flight: Flight) -> int:
        if not any(one["doubted_since"] is None for one in _at(flight, step, "WAITING")):
            return 0
        restoring.doubt_open_instances(flight.system)
        return 1

    return person


def settles(step: str, otherwise: Verdict = "retry") -> Person:
    """Looks into the service's own books, once nothing can be under way any more, and says what they say; `otherwise` what
    is to be done when they know nothing."""

    def person(flight: Flight) -> int:
        found = [one for one in _at(flight, step, "UNKNOWN") if not one["may_run"]]
        return sum(_settled(flight, one, otherwise) for one in found)

    return person


def _settled(flight: Flight, one: Any, otherwise: Verdict) -> int:
    key = f"{one['instance_id'].hex}:{one['step']}:g{one['generation']}:{one['phase']}"
    verdict: Verdict = "succeeded" if flight.others.was_done(key) else otherwise
    return _order(lambda: engine.resolve(
        flight.system, tenant="local", instance_id=one["instance_id"].hex, step=one["step"], verdict=verdict, by="ann"
    ))  # fmt: skip


def holds(lane: str) -> Person:
    """Holds a lane when the first flight meets it, and lets it go at the next look."""

    def person(flight: Flight) -> int:
        is_held = flight.others.look(HELD, name=lane)
        waits = flight.others.look(text("SELECT count(*) FROM step WHERE deferred = 'held'"))
        if is_held is None:
            return _order(lambda: lane_orders.hold(flight.system, lane, by="ann"))
        return _order(lambda: lane_orders.release(flight.system, lane, by="ann")) if is_held and waits else 0

    return person


def _at(flight: Flight, step: str, state: str) -> list[Any]:
    return flight.others.rows(STEPS, step=step, state=state)


def _ordered(flight: Flight, order: Any, instance: Any) -> int:
    return _order(lambda: order(flight.system, tenant="local", instance_id=instance.hex))


def _order(order: Callable[[], object]) -> int:
    """Told that it is too late, a person believes it. Told nothing, they look again at the next turn."""
    try:
        order()
    except (Conflict, Gone):
        return 0
    return 1
