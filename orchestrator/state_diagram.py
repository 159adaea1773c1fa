"""The tables of `states` as the page in the docs shows them: a Mermaid diagram and the meaning of each verb. Pure.

`python -m orchestrator.state_diagram > docs/reference/states.md` writes the page; a test compares them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

from orchestrator import states
from orchestrator.states import Transition

Table = Mapping[str, Transition]

STEP = """A step without a row has not been reached: `[*]`. Its compensation is a row of its own, phase `undo`, which goes the same
way from `READY` on; the step itself is `COMPENSATING` meanwhile. A step can be claimed in {claimable}; what is {pending} ends
at once when its instance fails, what is {unsettled} is awaited before anything is undone."""
INSTANCE = """An instance that is {terminal} has ended; only `restart` leads on from there, and only where it stands below.
`WAITING` and `STUCK` follow from the steps: they are shown, and have no entry in the history."""


def page() -> str:
    """`docs/reference/states.md`."""
    told = {
        "claimable": states.CLAIMABLE,
        "pending": states.PENDING,
        "unsettled": states.UNSETTLED,
        "terminal": states.TERMINAL,
    }
    names = {key: _listed(found) for key, found in told.items()}
    return "\n".join((
        "# States", "",
        "Generated from the one table in `orchestrator/states.py`; `reasons.md` says why a state was reached.", "",
        "## A step", "", STEP.format(**names), "", *_section(states.STEP), "",
        "## An instance", "", INSTANCE.format(**names), "", *_section(states.INSTANCE), "",
    ))  # fmt: skip


def _listed(found: frozenset[str]) -> str:
    first, *rest = sorted(found)
    return ", ".join(f"`{name}`" for name in (first, *rest[:-1])) + f" or `{rest[-1]}`"


def _section(table: Table) -> Iterator[str]:
    yield from ("```mermaid", *diagram(table), "```", "", "| verb | from | to | why |", "|---|---|---|---|")
    for one in table.values():
        sources = " ".join(f"`{source or '[*]'}`" for source in sorted(one.sources))
        yield f"| `{one.verb}` | {sources} | `{one.target}` | {one.why} |"


def diagram(table: Table) -> Iterator[str]:
    """The lines of a Mermaid `stateDiagram-v2`; verbs that lead the same way share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for source, verb, target in states.edges(table):
        arrows.setdefault((source or "[*]", target), []).append(verb)
    yield "stateDiagram-v2"
    for (source, target), verbs in arrows.items():
        yield f"  {source} --> {target}: {', '.join(verbs)}"


if __name__ == "__main__":
    sys.stdout.write(page())
