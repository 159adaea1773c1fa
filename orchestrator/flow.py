"""Who comes next: a step has its turn, a block opens, an iteration begins, branches arrive at their join. Pure.

In a later life, when an operator retries an ended instance, all this is gone through again from the first step on: what
has ended well stands, and everything else runs in a new generation. Conditions and lists are asked again, and what a way
that is not taken, or another item, has left does not stand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from orchestrator import lives, states
from orchestrator.definition import Block, BranchesStep, ForEachStep, RepeatStep, ServiceStep, Step, sequences, walk
from orchestrator.instance import CHANGED, CONDITION, ENDED, Instance
from orchestrator.iterations import Numbers, id_of, numbers_of
from orchestrator.rows import Row

Turn = Callable[[Instance, str], None]


def begin(instance: Instance) -> None:
    instance.note("start", states.RUNNING, started_at=instance.now)
    enter(instance, instance.plan.first)


def enter(instance: Instance, step: str) -> None:
    """The step's turn has come. In a later life, what has ended well stays as it is."""
    _in_turn(instance, _enter, step)


def leave(instance: Instance, step: str) -> None:
    """The step is over and its sequence goes on: with its successor, or by arriving at the end of its block."""
    _in_turn(instance, _leave, step)


def _in_turn(instance: Instance, verb: Turn, step: str) -> None:
    """One after the other, not one within the other: in a later life thousands that stand are passed at once."""
    instance.turns.append((verb, step))
    if len(instance.turns) > 1:
        return
    while instance.turns:
        verb, step = instance.turns[0]
        verb(instance, step)
        instance.turns.popleft()


def _enter(instance: Instance, step: str) -> None:
    row, block = instance.row(step), instance.plan.block(step)
    if row is not None and _stands(instance, row):
        leave(instance, step)
    elif isinstance(block, BranchesStep | RepeatStep) and block.when is None:
        open_block(instance, step)  # there is nothing to evaluate first
    else:
        _ready(instance, step, row)


def _stands(instance: Instance, row: Row) -> bool:
    """Ended well in an earlier life, and not undone since. A block is gone through again, for what is inside it, and a
    condition is asked again."""
    if isinstance(instance.plan.place(row.step).step, Block) or row.reason in (ENDED, CHANGED, CONDITION):
        return False
    return row.state in (states.SUCCEEDED, states.SKIPPED) or (row.state == states.FAILED and goes_on(instance, row))


def goes_on(instance: Instance, row: Row) -> bool:
    """Whether what follows has its turn although this step has failed."""
    return getattr(instance.plan.place(row.step).step, "on_error", "fail") == "continue"


def _ready(instance: Instance, step: str, row: Row | None) -> None:
    published = instance.now if step in instance.covered else None
    if row is None:
        instance.move(_new(instance, step), "ready", published_at=published)
    elif lives.keeps_its_key(instance, row):
        _repeat(instance, row, {"published_at": published})
    else:
        changes = next_generation(instance, row, _new(instance, step)) | {"published_at": published}
        if isinstance(instance.plan.place(step).step, ForEachStep):
            changes["clears"] = False  # its items are kept, to be compared with those that it will have
        instance.move(row, "renew", **changes)


def _repeat(instance: Instance, row: Row, published: dict[str, Any]) -> None:
    """What may have been done keeps its key; where no key helps, a person has to tell first. To tell somebody twice
    who is to decide (`pause`) does no harm."""
    if lives.is_blind(instance, row):
        instance.move(row, "doubt", reason="uncertain", error="it may have been done in an earlier life", ended_at=None,
                      done_seq=None)  # fmt: skip
        return
    due = row.lost_until if instance.plan.lane(row.service).idempotency == "query" else None
    instance.move(row, "renew", **same_generation(row) | published | {"due_at": due})


def _new(instance: Instance, step: str) -> Row:
    place = instance.plan.place(step)
    operation = place.step.operation if isinstance(place.step, ServiceStep) else None
    return Row(
        step=step, phase="do", order=place.order, queue=instance.plan.queue(step),
        service=str(operation) if operation else None,
    )  # fmt: skip


# -- blocks


def open_block(instance: Instance, block: str) -> None:
    """Open branches, or the first round of a `repeat`."""
    found = instance.plan.block(block)
    if isinstance(found, RepeatStep):
        _open_repeat(instance, block, found)
    else:
        _open(instance, block, heads := instance.plan.heads(block))
        for head in heads:
            enter(instance, head)


def choose(instance: Instance, switch: str, case: int) -> None:
    """Go one of a switch's ways."""
    heads = instance.plan.heads(switch)
    _open(instance, switch, (heads[case],))
    for at, way in enumerate(sequences(instance.plan.place(switch).step)):
        if at != case:
            _give_up(instance, way, numbers_of(switch))
    enter(instance, heads[case])


def pass_by(instance: Instance, step: str) -> None:
    """What is inside a block that is skipped is not done in this life."""
    for inside in sequences(instance.plan.place(step).step):
        _give_up(instance, inside, numbers_of(step))


def iterate(instance: Instance, loop: str, items: list[Any], before: list[Any] | None = None) -> None:
    """Begin the iterations of a `forEach`. The items are kept: each iteration reads its own. `before`: those of an
    earlier life; what was done for another item does not stand for this one."""
    row = _open(instance, loop, items, items=len(items), begun=0)
    (body,) = sequences(instance.plan.place(loop).step)
    for at, item in enumerate(before or ()):
        if at >= len(items) or items[at] != item:
            _give_up(instance, body, (*numbers_of(loop), at))
    if items:  # else nobody reads one, and it is no reply
        instance.amend(row, output={"items": items})
        _fill(instance, loop)
    else:
        _succeed(instance, loop)


def _give_up(instance: Instance, steps: tuple[Step, ...], numbers: Numbers) -> None:
    """What an earlier life has left of these steps neither stands nor is seen in this one."""
    if instance.header.life == 1:
        return
    ids = {step.id for step in walk(steps)}
    for row in list(instance.rows("do")):
        if id_of(row.step) in ids and numbers_of(row.step)[: len(numbers)] == numbers:
            instance.amend(row, reason=CHANGED)


def next_round(instance: Instance, loop: str) -> None:
    """Begin another round of a `repeat`."""
    _begin_round(instance, _open(instance, loop, (loop,)))


def _begin_round(instance: Instance, row: Row) -> None:
    instance.amend(row, begun=row.begun + 1)
    enter(instance, instance.plan.head(row.step, row.begun))


def _open_repeat(instance: Instance, loop: str, step: RepeatStep) -> None:
    """Rounds that were all used up in an earlier life are followed by as many again, unless that was tolerated."""
    before = instance.row(loop)
    counts = before is not None and before.state in (states.FAILED, states.RUNNING) and step.on_error == "fail"
    kept = before.items if before is not None and counts else 0
    row = instance.amend(_open(instance, loop, (loop,)), items=kept + step.max, begun=0)
    _begin_round(instance, row)


def _open(instance: Instance, block: str, inside: Sequence[Any], **changes: Any) -> Row:
    row = instance.row(block) or _new(instance, block)
    verb = "open" if row.state in states.STEP["open"].sources else "reopen"
    return instance.move(row, verb, branches_left=len(inside), lease_until=None, limit_until=None, **changes)


def _leave(instance: Instance, step: str) -> None:
    after = instance.plan.after(step)
    if after is not None:
        enter(instance, after)
    elif (block := instance.plan.around(step)) is not None:
        _arrive(instance, block)


def _arrive(instance: Instance, block: str) -> None:
    found, row = instance.plan.block(block), instance.row(block)
    assert row is not None, "what is inside a block begins when it has been opened"
    row = instance.amend(row, branches_left=row.branches_left - 1)
    if isinstance(found, RepeatStep):
        instance.move(row, "check", published_at=None, tries=0, losses=0, alone=False)
    elif row.branches_left == 0:
        _succeed(instance, block)
    elif isinstance(found, ForEachStep):
        _fill(instance, block)


def _succeed(instance: Instance, block: str) -> None:
    row = instance.row(block)
    assert row is not None, "it has just been opened, or arrived at"
    instance.move(row, "succeed")
    leave(instance, block)


def _fill(instance: Instance, loop: str) -> None:
    """Begin iterations until enough of them are under way."""
    while (row := _next_iteration(instance, loop)) is not None:
        instance.amend(row, begun=row.begun + 1)
        enter(instance, instance.plan.head(loop, row.begun))


def _next_iteration(instance: Instance, loop: str) -> Row | None:
    """The loop, if another of its iterations may begin."""
    row, step = instance.row(loop), instance.plan.block(loop)
    assert row is not None
    assert isinstance(step, ForEachStep)
    under_way = row.begun - (row.items - row.branches_left)
    return row if row.begun < row.items and under_way < step.concurrency else None


# -- generations


def next_generation(instance: Instance, row: Row, new: Row) -> dict[str, Any]:
    """What `renew` changes when it has not been done, or was undone: a new key, and everything from the beginning."""
    return {"generation": _next_number(instance, row)} | _anew(row, new)


def _next_number(instance: Instance, row: Row) -> int:
    """A step is done by a higher number than it was ever undone by, and undone by none that is lower than it was done by:
    so who has undone it under N knows that all of it up to N is over, and refuses what comes late."""
    if row.phase == "do":
        undo = instance.row(row.step, "undo")
        return 1 + max(row.generation, undo.generation if undo else 0)
    done = instance.row(row.step)
    assert done is not None, "an undo row has a do row"
    return max(row.generation + 1, done.generation)


def _anew(row: Row, new: Row) -> dict[str, Any]:
    return {
        "service": new.service, "queue": new.queue, "tries": 0, "losses": 0,
        "rounds": 0, "alone": False, "escalated": False, "uncertain": False, "uncertain_before": False, "decision": None,
        "published_at": None, "clears": True, "lost_until": None, "started_at": None, "due_at": None, "budget_until": None, "ended_at": None, "done_seq": None,
        "branches_left": 0, "begun": 0, "items": row.items if row.state == states.FAILED else 0,
    }  # fmt: skip


def same_generation(row: Row) -> dict[str, Any]:
    """What `renew` changes when it may have been done: the same key, to whoever had it, and its age still counts."""
    kept = {
        name: getattr(row, name)
        for name in ("generation", "escalated", "uncertain", "uncertain_before", "started_at", "lost_until")
    }
    return _anew(row, row) | kept | {"clears": False}
