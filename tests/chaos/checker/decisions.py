"""One decision a wait, and the row holds the one that was made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.chaos.checker.case import Case
from tests.chaos.checker.report import Violation


def decided(case: Case) -> Iterator[Violation]:
    made: dict[tuple[str, str, int], list[str]] = defaultdict(list)
    for event in case.events:
        entry = event.entry
        if entry.step is not None and entry.decision is not None:
            made[entry.step, entry.phase or "", entry.generation or 0].append(entry.decision)
    for (step, phase, generation), decisions in made.items():
        row = case.rows.get((step, phase))
        if len(decisions) > 1:
            text = (
                f"{step} {phase} of generation {generation} was decided {len(decisions)} times: {', '.join(decisions)}"
            )
            yield case.violation("decision-doubled", text)
        elif row is not None and row.generation == generation and row.decision not in (None, decisions[0]):
            text = f"{step} {phase} was {decisions[0]} by its history, and is {row.decision} by its row"
            yield case.violation("decision-doubled", text)
