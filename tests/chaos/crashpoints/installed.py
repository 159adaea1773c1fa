"""How the processes of a shape's installation differ: what else would need a crowd, or a machine that has much to do."""

from __future__ import annotations

from orchestrator import calls, dispatch, legs, sweep
from orchestrator.lane import Lane
from orchestrator.system import System
from tests.chaos.crashpoints.planting import plant


def in_waves() -> None:
    """Instances that are ready at once go in one message, however few they are."""
    dispatch.MESSAGES = 1


def in_a_hurry() -> None:
    """A leg has no time left for the last of its wave."""
    in_waves()
    legs.IN_FLIGHT = 1
    plant(legs._Flight, "_should_stop", lambda flight: not flight.alone and len(flight.waiting) == 1)


def slowly() -> None:
    """So much time passes after each claim that the lease is extended, and looked up again before the send."""
    calls.TRUST_LEASE = -1.0
    still_holds = calls._still_holds

    def late(system: System, lane: Lane, held: calls.Held) -> bool:
        sweep.extend_leases(system, system.database)
        return still_holds(system, lane, held)

    plant(calls, "_still_holds", late)


def cut_off() -> None:
    """The process is told to stop, and its time is up in the midst of its first call."""
    still_holds = calls._still_holds

    def late(system: System, lane: Lane, held: calls.Held) -> bool:
        holds = still_holds(system, lane, held)
        if held.attempt.attempt == 1 and held.attempt.step == "a":
            sweep.hand_over(system, within=0.0)
        return holds

    plant(calls, "_still_holds", late)
