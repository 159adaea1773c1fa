"""Text → definition. All that is wrong with a text is reported at once, with its place and a mend.

What an expression may name: a step that has ended by then for certain: one earlier in its own
sequence, one before a block that encloses it, and all inside earlier blocks; not another branch or
case of its own block. A step that may be skipped (it, or a block around it, has `when`; it stands in
a `switch`; or it is skipped at its timeout) may be named only in an expression that also asks
`has(steps.<id>…)`. Inside a block the block's own `when` is certain to have been true. In the body of
a loop its steps are those of the same iteration; after the loop they are lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.definition import Definition
from orchestrator.errors import Invalid
from orchestrator.lane import Lane
from orchestrator.language import input_schema, shape
from orchestrator.language.cycles import cycles
from orchestrator.language.reading import Reading
from orchestrator.language.schema import WrittenDefinition
from orchestrator.language.scope import Scope
from orchestrator.language.steps import sequence
from orchestrator.language.text import LIMIT, Composed, compose

__all__ = ["cycles", "load", "read_document"]


def load(
    text: str,
    *,
    file: str | None = None,
    lanes: Mapping[str, Lane] | None = None,
    limit: int = LIMIT,
    strict: bool = True,
) -> Definition:
    """Read a definition. Raises Invalid with every problem of the text; `limit` is in bytes.

    `lanes` says what a bare `service: lane` calls, and who a step is escalated to. A worker that reads
    a stored version again passes `strict=False`: a lane that has been removed since is then no error,
    unless an escalation has no target without it. Without `lanes` no lane is checked.
    """
    composed = compose(text, file=file, limit=limit)
    reading = Reading(composed=composed, lanes=lanes or {}, strict=strict and lanes is not None)
    definition = _definition(reading, composed.data)
    if definition is None or reading.problems:
        unique = dict.fromkeys(reading.problems)
        raise Invalid(sorted(unique, key=lambda problem: (problem.line or 0, problem.column or 0)))
    return definition


def read_document(text: str, file: str | None = None) -> Composed:
    """YAML or JSON as data with positions, whatever it describes. Raises Invalid."""
    return compose(text, file=file)


def _definition(reading: Reading, data: Any) -> Definition | None:
    written = _head(reading, data)
    if written is None:
        return None
    items = data.get("steps")
    reading.check_size(items, ("steps",))
    reading.collect_ids(items, ("steps",))
    steps, _ = sequence(reading, items, ("steps",), Scope(), 0)
    key = written.business_key
    return Definition(
        id=written.id,
        steps=steps,
        title=written.title,
        input=written.input,
        deadline=written.deadline,
        business_key=reading.expression(key, ("businessKey",), Scope()) if key is not None else None,
        compensate_on=written.compensate_on,
    )


def _head(reading: Reading, data: Any) -> WrittenDefinition | None:
    """What stands above the steps."""
    has_steps = isinstance(data, dict) and isinstance(data.get("steps"), list)
    head = {**data, "steps": []} if has_steps else data
    stand_in = {"id": "unnamed", "steps": []}
    written, problems = shape.read(WrittenDefinition, head, (), reading.composed, stand_in)
    reading.problems += problems
    if written is None:
        return None
    reading.workflow, reading.compensate_on = written.id, written.compensate_on
    for path, message in input_schema.problems(written.input or {}):
        reading.report(("input", *path), f"`input` is not a valid JSON Schema: {message}")
    return written
