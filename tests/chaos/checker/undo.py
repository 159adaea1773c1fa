"""What was done is undone when an instance has failed, in reverse, once each; and nothing of one that lives is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

from tests.chaos.checker import table
from tests.chaos.checker.case import Case
from tests.chaos.checker.definition import Node
from tests.chaos.checker.falls import Fall
from tests.chaos.checker.family import lines_of
from tests.chaos.checker.ledger import Line
from tests.chaos.checker.order import says_done
from tests.chaos.checker.replay import Event, Place
from tests.chaos.checker.report import Violation


def listed(case: Case) -> Iterator[Violation]:
    """The undo list: all that has to be undone, and nothing else; gone through from the latest on."""
    for number, fall in case.falls.items():
        if number == 0 and fall.turns:
            yield case.violation("refund-of-what-lives", f"{', '.join(fall.turns)} undone, and it had not fallen")
            continue
        order = [name for name, _ in sorted(fall.listed, key=lambda one: -(one[1].done_seq or 0))]
        if unlisted := [name for name in fall.turns if name not in order]:
            yield case.violation("undo-of-nothing", f"{', '.join(unlisted)} was undone, and had not to be")
        elif fall.turns != order[: len(fall.turns)]:
            text = f"undone were {', '.join(fall.turns)}, and the reverse of what was done is {', '.join(order)}"
            yield case.violation("undo-out-of-order", text)
        if fall.ended is not None:
            yield from _complete(case, fall, fall.ended)


def _complete(case: Case, fall: Fall, ended: dict[str, Place]) -> Iterator[Violation]:
    names = {name for name, _ in fall.listed}
    for name in names:
        if ended[name].state != "COMPENSATED":
            yield case.violation("undo-missing", f"{name} was to be undone, and is {ended[name].state}")
    for name, place in ended.items():
        node = case.node(name)
        if node is not None and name not in names and (why := _why_undo(case, node, name, place)):
            yield case.violation("undo-missing", f"{name} was not undone, and {why}")


def _why_undo(case: Case, node: Node, name: str, place: Place) -> str | None:
    if node.kind == "workflow":
        return "its sub-workflow has succeeded" if place.state == "SUCCEEDED" else None
    if node.compensation is None or place.attempt == 0:
        return None
    if place.state == "SUCCEEDED":
        return "it has succeeded"
    if place.state == "FAILED" and case.definition.undoes_failed:
        return "it has failed, and `compensateOn: attempted` stands"
    effects = case.effects_of.get((name, "do", place.generation))
    if place.state in ("FAILED", "SKIPPED") and effects and place.ended_by != "reject":
        return f"its service has done it (line {effects[0].n})"
    return None


def deserved(case: Case) -> Iterator[Violation]:
    """What is undone was done, or may have been: by the ledger, by the history, or as its row says."""
    for fall in case.falls.values():
        for name, place in fall.listed:
            node = case.node(name)
            if node is not None and (why := _why_not(case, node, name, place, fall)):
                yield case.violation("undo-of-nothing", f"{name} was undone, and {why}")


def _why_not(case: Case, node: Node, name: str, place: Place, fall: Fall) -> str | None:
    if node.kind == "workflow" or place.state == "SUCCEEDED":
        return None
    if place.attempt == 0:
        return "it had never begun"
    if case.definition.undoes_failed and place.state == "FAILED":
        return None
    row = case.rows.get((name, "do"))
    may_have = row is None or row.uncertain or fall.life < case.header.life
    was_done = any(case.effects_of.get((name, "do", one)) for one in range(1, place.generation + 1))
    return None if may_have or was_done else f"it was {place.state} for certain"


def in_turn(case: Case) -> Iterator[Violation]:
    """By the history: one after the other, each when the one before it is undone."""
    places: dict[str, Place] = {}
    for event in case.events:
        if event.key is None or event.entry.phase != "undo":
            continue
        name = event.key[0]
        if event.verb in ("ready", "renew"):
            for other, place in places.items():
                if other != name and place.state in (*table.ACTIVE, "FAILED"):
                    text = f"entry {event.entry.seq}: {name} is undone, and the undo of {other} is {place.state}"
                    yield case.violation("undo-out-of-order", text)
        places[name] = event.after


def by_ledger(case: Case) -> Iterator[Violation]:
    """The services' own order: each undo is called after the one before it was done, and after all that it undoes."""
    calls, effects = _by_fall(case, "call"), _by_fall(case, "effect")
    for at, lines in _by_child(case).items():
        calls[at], effects[at] = lines[0], lines[-1]
    for number, fall in case.falls.items():
        last, last_name = _last_done(case, fall.life)
        for name in fall.turns:
            first = calls.get((number, name))
            if first is None:
                continue
            if first.n < last:
                kind = "undo-out-of-order" if (number, last_name) in effects else "refund-of-what-lives"
                text = f"the undo of {name} was called (line {first.n}) before line {last}, the latest of {last_name}"
                yield case.violation(kind, text)
            done = effects.get((number, name))
            if done is not None:
                last, last_name = done.n, name


def _by_fall(case: Case, what: str) -> dict[tuple[int, str], Line]:
    """The first call, or effect, of each undo."""
    found: dict[tuple[int, str], Line] = {}
    for line in case.lines:
        claim = case.claim(line)
        if line.what == what and line.key.phase == "undo" and claim is not None:
            found.setdefault((claim.fall, line.key.step), line)
    return found


def _by_child(case: Case) -> dict[tuple[int, str], Sequence[Line]]:
    """What the undo of each sub-workflow called and did, in the last fall that it was undone in."""
    found: dict[UUID, tuple[tuple[int, str], Sequence[Line]]] = {}
    for number, fall in case.falls.items():
        listed = {(name, place.generation) for name, place in fall.listed}
        for child in case.world.children.get(case.header.id, ()):
            lines = [line for line in lines_of(case, child) if line.key.phase == "undo"]
            if lines and (child.parent_step, child.parent_generation) in listed:
                found[child.id] = (number, child.parent_step or ""), lines
    return dict(found.values())


def _last_done(case: Case, life: int) -> tuple[int, str]:
    """The last effect of what its service has said to be done until then."""
    done = [
        (case.effects_of[name, "do", event.entry.generation][0].n, name)
        for event in case.events
        if event.is_do and says_done(event) and event.standing.life <= life
        and ((name := event.entry.step or ""), "do", event.entry.generation) in case.effects_of
    ]  # fmt: skip
    return max(done, default=(0, ""))


def living(case: Case) -> Iterator[Violation]:
    """Nothing is undone of what lives, or lives on: by the ledger."""
    undone: dict[str, int] = {}
    for line in case.lines:
        claim = case.claim(line)
        if line.key.phase == "undo" and line.what != "ask":
            is_closed = claim is not None and claim.standing.is_falling
            if not is_closed or (
                case.header.status == "COMPLETED" and claim is not None and claim.life == case.header.life
            ):
                text = f"line {line.n}: {line.key.text} was undone, and it is {case.header.status}"
                yield case.violation("refund-of-what-lives", text)
            if claim is not None:
                undone.setdefault(line.key.step, line.n)
        elif line.what == "effect" and claim is not None:
            before = undone.get(line.key.step)
            is_of_this_life = before is not None and _life_of_undo(case, line.key.step, before) == claim.life
            if is_of_this_life and _is_left(case, line):
                text = f"line {line.n}: {line.key.text} was done after its undo had been called (line {before})"
                yield case.violation("refund-of-what-lives", text)
            if before is not None:
                undone.pop(line.key.step)


def _is_left(case: Case, line: Line) -> bool:
    """Whether an effect was had between the call of its undo and that one's effect, and its service had said before that
    it was: else nobody could know, and it was undone all the same. Behind the effect of its undo `refused` sees it."""
    step, generation = line.key.step, line.key.generation or 0
    if not any(one.key.step == step and _undoes(one, generation) for one in case.effects):
        return True
    mine = (event for event in case.events if event.key == (step, "do") and event.entry.generation == generation)
    return any(says_done(event) for event in mine)


def refused(case: Case) -> Iterator[Violation]:
    """What arrives behind its own undo is refused: so all lanes promise whose services keep the ledger."""
    undone: dict[str, Line] = {}
    for line in case.effects:
        last = undone.get(line.key.step)
        if line.key.phase == "undo":
            undone[line.key.step] = line
        elif last is not None and _undoes(last, line.key.generation or 0):
            text = f"line {line.n}: {line.key.text} was done behind its own undo (line {last.n})"
            yield case.violation("effect-after-undo", text)


def _undoes(line: Line, generation: int) -> bool:
    """An undo is of all that its step did up to its own generation."""
    return line.key.phase == "undo" and generation <= (line.key.generation or 0)


def _life_of_undo(case: Case, step: str, n: int) -> int | None:
    line = next(line for line in case.lines if line.n == n)
    claim = case.claim(line)
    return None if claim is None else claim.life


def caused(case: Case) -> Iterator[Violation]:
    """An instance falls because a step has failed, somebody has cancelled it, or its time is up."""
    for at, event in enumerate(case.events):
        if event.entry.step is None and event.verb == "fall" and (why := _why_uncaused(case, at, event)):
            yield case.violation(
                "refund-of-what-lives", f"entry {event.entry.seq}: it fell ({event.entry.reason}), and {why}"
            )


def _why_uncaused(case: Case, at: int, event: Event) -> str | None:
    reason, is_last = event.entry.reason, event.standing.life == case.header.life
    if reason in ("cancelled", "parent"):
        return "nobody has asked for it" if is_last and case.header.cancel_requested_at is None else None
    if reason == "deadline":
        return None if "deadline" in case.definition.spec else "the definition has no deadline"
    before = case.events[at - 1] if at else None
    if before is None or not before.is_do or before.entry.status != "FAILED" or before.verb not in ("fail", "reject"):
        return "no step had failed just then"
    node = case.node(before.entry.step or "")
    return f"{before.entry.step} may fail (`onError: continue`)" if node is not None and node.goes_on else None
