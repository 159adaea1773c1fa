"""The history is numbered without a gap, each entry is one that the table allows, and all of them together give the rows."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.checker import table
from tests.chaos.checker.case import Case
from tests.chaos.checker.replay import Event, Place, Standing
from tests.chaos.checker.report import Violation


def numbered(case: Case) -> Iterator[Violation]:
    numbers = [entry.seq for entry in case.entries]
    if numbers != list(range(1, len(numbers) + 1)):
        at = next((at for at, seq in enumerate(numbers, start=1) if seq != at), len(numbers))
        yield case.violation("history-gap", f"after entry {at - 1} comes entry {numbers[at - 1]}")
    if case.header.history_seq != max(numbers, default=0):
        text = f"the instance counts {case.header.history_seq} entries, and the last one is {max(numbers, default=0)}"
        yield case.violation("history-gap", text)


def allowed(case: Case) -> Iterator[Violation]:
    for event in case.events:
        why = _why_not(event) if event.entry.step is None else _why_not_step(event)
        if why:
            entry = event.entry
            about = f"{entry.step} {entry.phase}" if entry.step else "the instance"
            yield case.violation("history-illegal", f"entry {entry.seq}, {entry.verb} of {about}: {why}")


def _why_not(event: Event) -> str | None:
    standing, verb = event.standing, event.verb
    if verb not in table.INSTANCE:
        return "no such verb"
    if event.entry.status != table.INSTANCE[verb]:
        return f"it leads to {table.INSTANCE[verb]}, not to {event.entry.status}"
    return None if _may(verb, standing) else f"not from {standing.status or 'nothing'}"


def _may(verb: str, standing: Standing) -> bool:
    is_over = standing.status in table.TERMINAL
    lives = not is_over and standing.status != "" and not standing.is_falling
    falls = not is_over and standing.is_falling
    return {
        "start": standing.status == "",
        "suspend": (lives or falls) and not standing.is_suspended,
        "proceed": lives and standing.is_suspended,
        "drop": falls and standing.is_suspended,
        "fall": lives and not standing.is_ending,
        "complete": lives,
        "compensate": falls,
        "fail": falls,
        "cancel": falls,
        "recall": standing.status == "COMPLETED",
        "restart": standing.status in ("FAILED", "COMPENSATED"),
    }[verb]


def _why_not_step(event: Event) -> str | None:
    entry, before = event.entry, event.before
    if entry.verb not in table.STEP:
        return "no such verb"
    sources, target, phases = table.STEP[entry.verb]
    if before.state not in sources:
        return f"not from {before.state or 'nothing'}"
    if entry.status != target:
        return f"it leads to {target}, not to {entry.status}"
    if (entry.phase or "") not in phases.split():
        return f"not in the phase {entry.phase}"
    return _why_not_numbered(event) or _why_not_now(event)


def _why_not_numbered(event: Event) -> str | None:
    """Attempts count the claims, and nothing else raises them; a generation is raised by few verbs."""
    entry, before = event.entry, event.before
    attempt = before.attempt + (1 if entry.verb in table.CLAIMS else 0)
    if entry.attempt != attempt:
        return f"attempt {entry.attempt} after attempt {before.attempt}"
    may_be = _next_generations(event)
    return None if entry.generation in may_be else f"generation {entry.generation} after {before.generation}"


def _next_generations(event: Event) -> tuple[int, ...]:
    """What a step does under a number has not been undone under it before, and is undone under no lower one: a service
    that has undone N refuses all of that step up to N that comes late."""
    now, opposite = event.before.generation, event.opposite.generation
    following = 1 + max(now, opposite) if event.is_do else max(now + 1, opposite)
    match event.verb:
        case "ready" if not event.is_do:
            return (opposite,)
        case "renew":
            return (now, following)
        case "escalate":
            return (now + 1,)
        case _:
            return (now,)


def _why_not_now(event: Event) -> str | None:
    """Nothing moves when all is over; nothing new begins once an instance falls, and only then something is undone."""
    standing, verb = event.standing, event.verb
    if standing.status in table.TERMINAL or standing.status == "":
        return f"the instance is {standing.status or 'not there yet'}"
    if standing.is_suspended and verb in table.CLAIMS:
        return "the instance is suspended"
    is_closing = standing.is_falling or standing.is_ending
    if verb == "end" and not is_closing:
        return "the instance lives"
    if event.is_do and is_closing and (verb in table.BIRTHS or (verb == "open" and event.before.state == "")):
        return "the instance begins nothing any more"
    return None


def replayed(case: Case) -> Iterator[Violation]:
    for (name, phase), row in case.rows.items():
        place = case.place(name, phase)
        if place is None:
            if "+" not in name:  # a group has no history
                yield case.violation("history-differs", f"{name} {phase} is {row.state}, and has no history")
            continue
        told = (place.state, place.generation, place.attempt, place.service)
        held = (row.state, row.generation, row.attempt, row.service)
        if told != held:
            yield case.violation("history-differs", f"{name} {phase} is {held}, and by its history {told}")
        elif row.state not in table.ACTIVE and row.done_seq != place.done_seq:
            text = f"{name} {phase} ended with entry {place.done_seq}, and its row says {row.done_seq}"
            yield case.violation("history-differs", text)
        elif row.reason not in (place.reason, "changed"):
            yield case.violation("history-differs", f"{name} {phase}: {row.reason}, by its history {place.reason}")
    for name, phase in case.replay.places.keys() - case.rows.keys():
        yield case.violation("history-differs", f"{name} {phase} has a history and no row")


def shown(case: Case) -> Iterator[Violation]:
    """The instance's own row."""
    header, standing = case.header, case.replay.standing
    if header.status != (wanted := _status(case)):
        yield case.violation("history-differs", f"it is {header.status}, and by its history {wanted}")
    if header.life != standing.life:
        yield case.violation("history-differs", f"it is in life {header.life}, and by its history in {standing.life}")
    if (header.ended_at is not None) != (header.status in table.TERMINAL):
        yield case.violation("history-differs", f"it is {header.status}, and its end is {header.ended_at}")
    if (header.suspended_at is not None) != standing.is_suspended and header.status not in table.TERMINAL:
        yield case.violation(
            "history-differs", f"it is suspended since {header.suspended_at}, by its history it is not"
        )


def _status(case: Case) -> str:
    """WAITING and STUCK follow from the steps, and are not noted."""
    standing = case.replay.standing
    if standing.status in table.TERMINAL:
        return standing.status
    if standing.is_suspended:
        return "SUSPENDED"
    places = case.replay.places
    if any(place.state == "STUCK" for (_, phase), place in places.items() if phase == "do"):
        return "STUCK"
    can_move = any(_can_move(case, name, place) for (name, _), place in places.items())
    if not can_move and any(place.state == "UNKNOWN" for place in places.values()):
        return "STUCK"
    if standing.is_falling:
        return "COMPENSATING"
    return "RUNNING" if can_move else "WAITING"


def _can_move(case: Case, name: str, place: Place) -> bool:
    if place.state != "RUNNING":
        return place.state in ("READY", "RETRYING")
    node = case.node(name)
    return place.is_held or node is None or not node.is_block
