"""A step begins when what stands before it is over, and once in a life: by the history, and by the services' ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.chaos.checker import table
from tests.chaos.checker.case import Case
from tests.chaos.checker.definition import Node, id_of, named, numbers_of, path_of, precedes
from tests.chaos.checker.ledger import has_effects
from tests.chaos.checker.replay import Event, Key, Place
from tests.chaos.checker.report import Violation

Found = tuple[str, str]  # kind, text


def begun(case: Case) -> Iterator[Violation]:
    """Gone through entry by entry, for what counts is how things stood then."""
    places: dict[Key, Place] = {}
    for event in case.events:
        if event.is_do:
            for kind, text in _judged(case, event, places):
                yield case.violation(kind, f"entry {event.entry.seq}: {text}")
        if event.key is not None:
            places[event.key] = event.after
    if case.header.status == "COMPLETED" and not case.replay.standing.is_ending:
        for _, text in _unfinished(case.definition.steps[-1], (), places, "effect-skipped"):
            yield case.violation("effect-skipped", f"it is COMPLETED, and {text}")


def _judged(case: Case, event: Event, places: dict[Key, Place]) -> Iterator[Found]:
    name = event.entry.step or ""
    node = case.node(name)
    if node is None:
        yield "effect-not-allowed", f"the definition has no step {name}"
        return
    if _begins(event):
        yield from _once(node, event)
        yield from _in_turn(node, numbers_of(name), places)
        yield from _one_way(node, event, places)
    elif event.verb == "succeed" and node.is_block:
        for inner in _inside(node, numbers_of(name), places):
            for kind, text in _unfinished(*inner, places, "join-early"):
                yield kind, f"{name} has ended, and {text}"
    elif event.verb == "skip" and not _may_skip(node, event):
        yield "effect-skipped", f"{name} is skipped for the reason {event.entry.reason}, which the definition has not"


def _begins(event: Event) -> bool:
    return event.verb in table.BIRTHS or (event.verb == "open" and event.before.state == "")


def _once(node: Node, event: Event) -> Iterator[Found]:
    if event.before.life == event.standing.life and event.before.state:
        follows = _follows_a_join(node)
        kind = "join-doubled" if follows else "begun-twice"
        yield kind, f"{event.entry.step} begins again in the same life"


def _follows_a_join(node: Node) -> bool:
    if node.before is not None:
        return node.before.is_block
    return node.block is not None and node.block.kind == "group" and _follows_a_join(node.block)


def _in_turn(node: Node, numbers: Sequence[int], places: dict[Key, Place]) -> Iterator[Found]:
    """What stands just before it is over; what is before that was when that began."""
    if node.before is not None:
        kind = "join-early" if node.before.is_block else "effect-out-of-order"
        name = named(node.id, numbers)
        yield from (
            (one, f"{name} begins, and {text}") for one, text in _unfinished(node.before, numbers, places, kind)
        )
    elif node.block is not None and node.block.kind == "group":
        yield from _in_turn(node.block, numbers, places)
    elif node.block is not None:
        yield from _within(node, node.block, numbers, places)


def _within(node: Node, block: Node, numbers: Sequence[int], places: dict[Key, Place]) -> Iterator[Found]:
    around = named(block.id, numbers[: len(block.loops)])
    place = places.get((around, "do"))
    if place is None or place.state != "RUNNING":
        yield "effect-out-of-order", f"{named(node.id, numbers)} begins, and {around} around it is not open"
    if block.kind == "repeat" and numbers[-1] > 0:
        before = (*numbers[:-1], numbers[-1] - 1)
        for kind, text in _unfinished(block.inside[0][-1], before, places, "effect-out-of-order"):
            yield kind, f"{named(node.id, numbers)} begins, and {text}"


def _one_way(node: Node, event: Event, places: dict[Key, Place]) -> Iterator[Found]:
    """Of the ways of a switch one is gone in a life."""
    block = node.block
    if block is None or block.kind != "switch" or node.before is not None:
        return
    numbers = numbers_of(event.entry.step or "")
    for way in block.inside:
        place = places.get((named(way[0].id, numbers), "do"))
        if way[0] is not node and place is not None and place.life == event.standing.life:
            yield "effect-not-allowed", f"{event.entry.step} begins, and {block.id} went the way of {way[0].id}"


def _unfinished(node: Node, numbers: Sequence[int], places: dict[Key, Place], kind: str) -> Iterator[Found]:
    """What is not over of a step, which is a violation of that kind; of a group, of each of its members."""
    if node.kind == "group":
        for branch in node.inside:
            yield from _unfinished(branch[-1], numbers, places, kind)
        return
    name = named(node.id, numbers)
    place = places.get((name, "do"))
    if place is None:
        yield "effect-skipped", f"{name} was passed over"
    elif place.state not in table.OVER or (place.state == "FAILED" and not node.goes_on):
        yield kind, f"{name} is {place.state}"


def _inside(node: Node, numbers: Sequence[int], places: dict[Key, Place]) -> Iterator[tuple[Node, Sequence[int]]]:
    """The last steps of all that a block waits for."""
    if node.kind == "branches":
        yield from ((branch[-1], numbers) for branch in node.inside)
    elif node.kind == "switch":
        gone = [way for way in node.inside if _was_gone(way, numbers, places)]
        yield from ((way[-1], numbers) for way in gone or node.inside[:1])
    else:
        yield from ((node.inside[0][-1], one) for one in _iterations(node, numbers, places))


def _was_gone(way: Sequence[Node], numbers: Sequence[int], places: dict[Key, Place]) -> bool:
    """In the life of the switch, or in an earlier one, from which it stands."""
    return any((named(node.id, numbers), "do") in places for node in _members(way[0]))


def _members(node: Node) -> list[Node]:
    return [branch[0] for branch in node.inside] if node.kind == "group" else [node]


def _iterations(node: Node, numbers: Sequence[int], places: dict[Key, Place]) -> Iterator[Sequence[int]]:
    heads = {member.id for member in _members(node.inside[0][0])}
    for name, phase in places:
        of = numbers_of(name)
        if phase == "do" and id_of(name) in heads and of[:-1] == tuple(numbers):
            yield of


def _may_skip(node: Node, event: Event) -> bool:
    if event.entry.reason == "condition":
        return node.may_be_skipped
    return event.entry.reason == "timeout" and node.may_time_out_to_skip


def iterated(case: Case) -> Iterator[Violation]:
    """A `forEach` that has succeeded had an iteration for each of its items."""
    for (name, phase), row in case.rows.items():
        node = case.node(name)
        if phase != "do" or node is None or node.kind != "forEach" or row.state != "SUCCEEDED":
            continue
        found = len(set(_iterations(node, numbers_of(name), case.replay.places)))
        if found < row.items:
            yield case.violation("effect-skipped", f"{name} has {row.items} items, and {found} had their turn")


def ordered(case: Case) -> Iterator[Violation]:
    """By the ledger: what a step did was done before any step after it called its service."""
    done = list(effects_done(case))
    for (name, phase, generation), calls in case.calls_of.items():
        node = case.node(name)
        claim = case.claim(calls[0])
        if phase != "do" or node is None or claim is None:
            continue
        path, first = path_of(node, name), calls[0].n
        for other, its_path, effect, life in done:
            if effect > first and life <= claim.life and precedes(its_path, path):
                text = f"{name} of generation {generation} was called (line {first}) before {other} was done (line {effect})"
                yield case.violation("effect-out-of-order", text)


def effects_done(case: Case) -> Iterator[tuple[str, tuple[tuple[str, int], ...], int, int]]:
    """Of each step that its service has said to be done: its name, where it stands, the line of its effect, its life."""
    for event in case.events:
        entry = event.entry
        if not event.is_do or not says_done(event):
            continue
        node = case.node(entry.step or "")
        effects = case.effects_of.get((entry.step or "", "do", entry.generation), ())
        if node is not None and effects:
            yield entry.step or "", path_of(node, entry.step or ""), effects[0].n, event.before.life


def says_done(event: Event) -> bool:
    """The service has answered that it has done it, or that it will say so later."""
    return event.verb in ("succeed", "park") and event.before.is_held and has_effects(event.entry.service)
