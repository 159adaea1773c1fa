"""Effects: those that the definition allows and the history knows of, each once, and none that is only said to be."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.chaos.checker.case import Case
from tests.chaos.checker.definition import Node
from tests.chaos.checker.ledger import Line, kind_of
from tests.chaos.checker.order import says_done
from tests.chaos.checker.report import Violation


def known(case: Case) -> Iterator[Violation]:
    """Whoever called a service had claimed that attempt, of that generation, for that service."""
    for line in case.lines:
        claim = case.claim(line)
        if claim is None:
            text = f"line {line.n}, {line.what} of {line.key.text}: no attempt {line.attempt} was claimed"
            yield case.violation("effect-unknown", text)
        elif claim.generation != line.key.generation:
            text = f"line {line.n}: attempt {line.attempt} is of generation {claim.generation}, its key {line.key.text}"
            yield case.violation("effect-unknown", text)
        elif claim.service != line.service:
            text = f"line {line.n}: {line.key.text} was sent to {line.service}, and claimed for {claim.service}"
            yield case.violation("effect-not-allowed", text)


def allowed(case: Case) -> Iterator[Violation]:
    """By the definition alone."""
    for line in case.lines:
        node = case.node(line.key.step)
        why = "there is no such step" if node is None else _why_not(node, line)
        if why:
            yield case.violation("effect-not-allowed", f"line {line.n}, {line.what} of {line.key.text}: {why}")
    for line in case.effects:
        place = case.place(line.key.step)
        is_now = place is not None and place.generation == line.key.generation
        if (
            line.key.phase == "do"
            and is_now
            and place is not None
            and (place.state, place.reason) == ("SKIPPED", "condition")
        ):
            yield case.violation(
                "effect-not-allowed", f"line {line.n}: {line.key.text} was done, and its condition is false"
            )


def _why_not(node: Node, line: Line) -> str | None:
    if line.key.phase == "undo":
        wanted = {node.compensation} if node.compensation else None
    else:
        wanted = node.services if node.calls else None
    if wanted is None:
        return f"that step has nothing to {line.key.phase}"
    return None if not wanted or any(_is_at(line, one) for one in wanted) else f"it went to {line.service}"


def _is_at(line: Line, service: str) -> bool:
    return line.service == service if "." in service else line.lane == service


def once(case: Case) -> Iterator[Violation]:
    """One effect a key; and one for a step and all its keys, unless it was escalated, or lives again."""
    by_key: dict[str, list[Line]] = defaultdict(list)
    by_step: dict[tuple[str, str, object], set[str]] = defaultdict(set)
    for line in case.effects:
        by_key[line.key.text].append(line)
        claim = case.claim(line)
        if claim is not None:
            what = claim.fall if line.key.phase == "undo" else (claim.life, claim.escalations)
            by_step[line.key.step, line.key.phase, what].add(line.key.text)
    for key, lines in by_key.items():
        if len(lines) > 1 + _ordered_again(case, lines[0]):
            numbers = ", ".join(str(line.n) for line in lines)
            yield case.violation(
                _doubled(lines[0].key.phase), f"{key} had its effect {len(lines)} times (lines {numbers})"
            )
    for (step, phase, _), keys in by_step.items():
        if len(keys) > 1:
            yield case.violation(_doubled(phase), f"{phase} of {step} had its effect by {', '.join(sorted(keys))}")


def _doubled(phase: str) -> str:
    return "undo-doubled" if phase == "undo" else "effect-doubled"


def _ordered_again(case: Case, line: Line) -> int:
    """How often more it may have been done on a lane without keys: a person knew, and ordered it. To tell somebody twice
    who is to decide does no harm."""
    node = case.node(line.key.step)
    if kind_of(line.lane) != "blind" or node is None:
        return 0
    if node.pauses and line.key.phase == "do":
        return len(case.lines)
    key = (line.key.step, line.key.phase)
    return sum(
        event.verb == "redo" and event.key == key and event.entry.generation == line.key.generation
        for event in case.events
    )


def none_skipped(case: Case) -> Iterator[Violation]:
    """What its service is said to have done stands in the service's ledger."""
    for event in case.events:
        entry = event.entry
        generation = (entry.step or "", entry.phase or "", entry.generation)
        if says_done(event) and generation not in case.effects_of:
            kind = "undo-missing" if entry.phase == "undo" else "effect-skipped"
            text = f"entry {entry.seq} says {entry.verb} of {entry.step} {entry.phase}, and {entry.service} has done nothing"
            yield case.violation(kind, text)


def same_body(case: Case) -> Iterator[Violation]:
    bodies: dict[str, set[str]] = defaultdict(set)
    for line in case.lines:
        if line.what == "call" and line.body is not None:
            bodies[line.key.text].add(line.body)
    for key, digests in bodies.items():
        if len(digests) > 1:
            yield case.violation("key-body-differs", f"{key} was sent with {len(digests)} bodies")


def counted(case: Case) -> Iterator[Violation]:
    """Raw calls, which a service that remembers its keys would hide."""
    attempts: dict[tuple[str, int | None], int] = defaultdict(int)
    keys: dict[str, int] = defaultdict(int)
    for line in case.lines:
        if line.what == "call":
            attempts[line.key.text, line.attempt] += 1
            keys[line.key.text] += 1
    for (key, attempt), count in attempts.items():
        if count > 1:
            yield case.violation("call-doubled", f"attempt {attempt} of {key} called {count} times")
    for line in {line.key.text: line for line in case.lines}.values():
        count, most = keys[line.key.text], _explained(case, line)
        if count > most:
            yield case.violation("storm", f"{line.key.text} was called {count} times, and {most} are explained")


def _explained(case: Case, line: Line) -> int:
    """Calls for a key: the first and its retries, anew each time that somebody ordered it or its time was up; and one for
    each attempt that was lost, which uses up none."""
    node, key = case.node(line.key.step), (line.key.step, line.key.phase)
    if node is None:
        return case.world.storm
    verbs = Counter(
        event.verb for event in case.events if event.key == key and event.entry.generation == line.key.generation
    )
    rounds = 1 + verbs["redo"] + (verbs["retry"] if node.begins_anew else 0)
    return min(case.world.storm, rounds * (1 + node.retries(line.key.phase)) + verbs["lose"])
