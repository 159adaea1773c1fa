"""What no service's ledger may say. It knows nothing of the engine's history, and so it judges that, too.

- **Once**: one effect for a key, on lanes of every kind: the people of this simulation order no repeat of what was done.
- **Mirrored**: at the end of an instance that was undone, whatever was done and can be undone is undone, after it was done;
  and it is undone once, unless it was tried again in between.
- **In order**: of two steps, one of which the definition places before the other, the later is undone first.
- **Patient**: a step gives up only when it was sent as often as its `retry` says: what was handed back or lost uses up none.
- **Kept**: in an instance that completed, a step that is shown as done was done, and stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestrator import attempts, states
from orchestrator.attempts import idempotency_key
from orchestrator.definition import ServiceStep, WorkflowStep
from orchestrator.iterations import numbers_of
from orchestrator.plan import Plan
from orchestrator.rows import Entry, Row
from tests.unit.simulation.service import Effect

if TYPE_CHECKING:
    from tests.unit.simulation.world import World


def once(ledger: Iterable[Effect]) -> None:
    counts = Counter(one.key for one in ledger if one.kind == "effect")
    assert all(count == 1 for count in counts.values()), f"ONCE: {counts.most_common(1)}"


def mirrored(world: World) -> None:
    last: dict[str, Effect] = {}
    asked: dict[str, bool] = {}  # whether it was tried since it was last undone
    for one in world.service.ledger:
        if one.kind == "attempt":
            asked[one.step] = asked.get(one.step, False) or one.phase == "do"
            continue
        if one.phase == "undo":
            is_again = one.step in last and last[one.step].phase == "undo" and not asked.get(one.step)
            assert not is_again, f"MIRRORED: {one.step} is undone twice"
            asked[one.step] = False
        last[one.step] = one
    if world.header.status in (states.COMPENSATED, states.FAILED, states.CANCELLED):
        for step, effect in last.items():
            assert effect.phase == "undo" or not _can_be_undone(world.plan, step), f"MIRRORED: {step} was not undone"


def _can_be_undone(plan: Plan, step: str) -> bool:
    found = plan.place(step).step
    return isinstance(found, WorkflowStep) or (isinstance(found, ServiceStep) and found.compensation is not None)


def in_order(world: World, since: int) -> None:
    """Of the undoing that began with the ledger's line `since`."""
    done = {one.step for one in world.service.ledger if one.phase == "do" and one.kind == "effect"}
    undone = [one.step for one in world.service.ledger[since:] if one.phase == "undo" and one.kind == "effect"]
    undone = [step for step in undone if step in done]
    for at, first in enumerate(undone):
        for second in undone[at + 1 :]:
            assert not precedes(world.plan, first, second), f"IN ORDER: {first} is undone before {second}"


def precedes(plan: Plan, one: str, other: str) -> bool:
    """Whether the definition lets `other` begin only when `one` has ended."""
    if one == other:
        return False
    mine, theirs = [one, *_blocks(plan, one)], [other, *_blocks(plan, other)]
    for a in mine:
        for b in theirs:
            if a != b and plan.around(a) == plan.around(b) and numbers_of(a) == numbers_of(b):
                return _is_sibling_before(plan, a, b)
    return False


def _blocks(plan: Plan, step: str) -> list[str]:
    found, around = [], plan.around(step)
    while around is not None:
        found.append(around)
        around = plan.around(around)
    return found


def _is_sibling_before(plan: Plan, one: str, other: str) -> bool:
    after = plan.after(one)
    while after is not None:
        if after == other:
            return True
        after = plan.after(after)
    return False


def patient(world: World, entry: Entry) -> None:
    """A step gives up only when it was sent as often as its `retry` says."""
    if (
        entry.step is None
        or entry.phase is None
        or entry.verb != "fail"
        or entry.reason not in ("exhausted", "uncertain")
    ):
        return
    if entry.service is None:
        return  # a loop whose rounds are used up
    key = idempotency_key(world.header.id, entry.step, entry.generation or 1, entry.phase)
    wanted = 1 + attempts.retry_of(world.plan.place(entry.step).step, entry.phase).max
    if key not in world.service.hopeless:
        assert world.service.sent[key] >= wanted, f"PATIENT: {key} gives up before it was sent {wanted} times"


def kept(world: World, settled: frozenset[tuple[str, int]]) -> None:
    """`settled`: what people or deadlines have decided; the ledger need not know of it."""
    if world.header.status != states.COMPLETED:
        return
    standing: dict[str, set[str]] = {}
    for one in world.service.ledger:
        if one.kind != "attempt":
            keys = standing.setdefault(one.step, set())
            keys.clear() if one.phase == "undo" else keys.add(one.key)
    for row in world.rows.values():
        if row.phase == "do" and row.state == states.SUCCEEDED and _is_kept(world, row, settled):
            key = idempotency_key(world.header.id, row.step, row.generation, "do")
            assert key in standing.get(row.step, ()), f"KEPT: {key} is shown as done, and is not"


def _is_kept(world: World, row: Row, settled: frozenset[tuple[str, int]]) -> bool:
    step = world.plan.place(row.step).step
    if not isinstance(step, ServiceStep) or row.service is None or row.reason is not None:
        return False
    is_effect = world.plan.lane(row.service).idempotency != "safe"
    return is_effect and row.decision is None and (row.step, row.generation) not in settled
