"""An independent checker of what an orchestrator has done: it believes neither the engine nor its tables alone.

It reads the ledger that the services kept, and Postgres by SQL of its own; it imports nothing of `orchestrator`. What
a definition allows, and what a verb of the history does, it has written down for itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import UUID

from tests.chaos.checker import (
    decisions,
    effects,
    endings,
    family,
    fences,
    history,
    ledger,
    order,
    tenants,
    undo,
)
from tests.chaos.checker import definition as definitions
from tests.chaos.checker.case import Case, Law, World
from tests.chaos.checker.database import Header, Snapshot, snapshot
from tests.chaos.checker.definition import Definition
from tests.chaos.checker.figures import Figures
from tests.chaos.checker.ledger import Ledger
from tests.chaos.checker.replay import replay
from tests.chaos.checker.report import KINDS, Report, Violation

STORM = 30  # calls for one key that are still sane, whatever explains them

LAWS: tuple[Law, ...] = (
    history.numbered, history.allowed, history.replayed, history.shown, fences.fenced, endings.ended, endings.doubted,
    order.begun, order.iterated, order.ordered,
    effects.known, effects.allowed, effects.once, effects.none_skipped, effects.same_body, effects.counted,
    undo.listed, undo.deserved, undo.in_turn, undo.by_ledger, undo.living, undo.refused, undo.caused,
    decisions.decided, tenants.kept_apart, family.parented, family.agreed, family.in_turn,
)  # fmt: skip


def check(database_url: str, ledger_path: str | Path, *, storm: int = STORM) -> Report:
    """What is wrong with what the instances in a database and the services' ledger say."""
    told = ledger.read(Path(ledger_path))
    figures = Figures()
    with snapshot(database_url) as found:
        read, broken = _definitions(found)
        violations = [*told.violations, *broken, *_crossed(found), *_strange(found, told)]
        for case in _cases(found, told, read, storm):
            figures.count(case)
            violations += [one for law in LAWS for one in law(case)]
    return Report(violations=tuple(violations), figures=figures.told(Counter(one.kind for one in violations)))


def _definitions(found: Snapshot) -> tuple[dict[UUID, Definition], list[Violation]]:
    read: dict[UUID, Definition] = {}
    broken: list[Violation] = []
    for version, one in found.versions.items():
        try:
            read[version] = definitions.read(one.text)
        except definitions.Unreadable as error:
            broken.append(Violation(kind="definition-broken", trace="-", text=f"version {version}: {error}"))
    return read, broken


def _cases(found: Snapshot, told: Ledger, read: Mapping[UUID, Definition], storm: int) -> Iterator[Case]:
    world = World(
        now=found.now, headers=found.headers, children=_children(found.headers), lines=told.by_trace, storm=storm,
        tenants={one: version.tenant for one, version in found.versions.items()},
    )  # fmt: skip
    for header, steps, entries in found.instances():
        definition = read.get(header.version_id)
        if definition is None:
            continue
        yield Case(
            header=header, definition=definition, rows={(row.step, row.phase): row for row in steps}, entries=entries,
            lines=told.by_trace.get(header.trace, ()), replay=replay(entries, definition), world=world,
        )  # fmt: skip


def _children(headers: Mapping[UUID, Header]) -> dict[UUID, list[Header]]:
    found: dict[UUID, list[Header]] = defaultdict(list)
    for header in headers.values():
        if header.parent_id is not None:
            found[header.parent_id].append(header)
    return found


def _strange(found: Snapshot, told: Ledger) -> Iterator[Violation]:
    """Calls for instances that do not exist."""
    known = {header.trace for header in found.headers.values()}
    for trace, lines in told.by_trace.items():
        if trace not in known:
            text = f"line {lines[0].n}, {lines[0].what} of {lines[0].key.text}: there is no such instance"
            yield Violation(kind="effect-unknown", trace=trace, text=text)


def _crossed(found: Snapshot) -> Iterator[Violation]:
    for trace, other, mine in found.crossed:
        text = f"it belongs to {mine}, and an event of it in the outbox to {other}"
        yield Violation(kind="tenant-crossed", trace=trace.hex, text=text)


__all__ = ["KINDS", "Report", "Violation", "check"]
