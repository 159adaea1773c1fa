"""What an exploration has to have reached, so that it cannot become shallow unseen."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator import states
from tests.unit.simulation.explore import Reached

OF_CHILDREN = frozenset({"recall"})  # a child is little more than its status here
FAULTS = (
    "message lost", "broker wiped", "message delivered twice", "messages out of order", "message republished",
    "message delivered again after a death", "forged message", "dispatcher dies between commit and publish",
    "killed when claimed", "killed when sent", "killed when performed", "killed when recorded", "killed when unanswered",
    "the answer to a commit was lost", "a commit failed", "the lease could not be looked up", "lease lost", "request lands late",
    "wait past its deadline", "instance past its deadline", "callback lost", "callback repeated, or late",
    "callback that does not say whether it was done", "parent told, and the mark lost",
)  # fmt: skip
ENDERS = ("leg", "callback", "deadline", "child", "operator")  # what may end the last branch of a join


def edges_of(reached: Reached, kind: str) -> set[tuple[str, str]]:
    return {(source, verb) for source, verb, found in reached.edges if found == kind}


def verbs(reached: Reached) -> set[str]:
    """Of steps."""
    return {verb for _, verb in edges_of(reached, "step")}


def instance_verbs(reached: Reached) -> set[str]:
    """A status that merely follows from the rows has no entry of its own: it is seen by what stood there before."""
    noted = {verb for _, verb in edges_of(reached, "instance")}
    shown = edges_of(reached, "shown")
    return noted | {
        verb for verb, edge in states.INSTANCE.items() if any((source, edge.target) in shown for source in edge.sources)
    }


def missing(reached: Reached, *, least: int) -> Iterator[str]:
    """What was not reached, or a fault that has come fewer than `least` times."""
    yield from (f"step verb {verb}" for verb in states.STEP.keys() - verbs(reached))
    yield from (f"instance verb {verb}" for verb in states.INSTANCE.keys() - instance_verbs(reached) - OF_CHILDREN)
    yield from (f"{fault}: {reached.faults[fault]}" for fault in FAULTS if reached.faults[fault] < least)
    yield from (
        f"a join ended by a {ender}: {reached.joins[ender]}" for ender in ENDERS if reached.joins[ender] < least
    )


def told(reached: Reached) -> str:
    """For people."""
    all_edges = {(source, verb) for source, verb, _ in states.edges(states.STEP)}
    taken = edges_of(reached, "step") & all_edges
    left = ", ".join(f"{source or 'unborn'}-{verb}" for source, verb in sorted(all_edges - taken)) or "none"
    speed = reached.schedules / max(reached.seconds, 1e-9)
    joins = ", ".join(f"{name} {count:,}" for name, count in reached.joins.most_common())
    ends = ", ".join(f"{name} {count:,}" for name, count in reached.ends.most_common())
    lines = [
        f"schedules: {reached.schedules:,}; history entries: {reached.transitions:,}",
        f"speed: {reached.seconds:,.1f} s of one core, {speed:,.0f} schedules/s",
        f"step verbs reached: {len(verbs(reached))} of {len(states.STEP)}",
        f"edges (state, verb) taken: {len(taken)} of {len(all_edges)}; not taken: {left}",
        f"instance verbs reached: {len(instance_verbs(reached))} of {len(states.INSTANCE)}; `recall` is a child's",
        f"ends: {ends}",
        f"the last branch of a join was ended by: {joins}",
        *(f"fault: {name}: {reached.faults[name]:,}" for name in FAULTS),
    ]
    return "\n".join(lines)
