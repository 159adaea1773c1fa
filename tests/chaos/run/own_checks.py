"""What only the run itself can know: what was acknowledged to whoever started and decided. The rest is the checker's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from tests.chaos.run.decider import Answers
from tests.chaos.run.ending import Ending
from tests.chaos.run.load import Starts

IDS = "SELECT replace(id::text, '-', ''), tenant FROM instance"
DECISIONS = """
SELECT replace(instance_id::text, '-', ''), step, output->>'decision' FROM history
WHERE verb IN ('resolve', 'reject') AND jsonb_typeof(output) = 'object'
"""
CANCELLED = "SELECT replace(id::text, '-', '') FROM instance WHERE cancel_requested_at IS NOT NULL"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What Postgres has of it."""

    tenants: Mapping[str, str]  # by instance
    decisions: frozenset[tuple[str, str, str]]  # (instance, step, decision)
    cancelled: frozenset[str]


def read(database_url: str) -> Kept:
    with psycopg.connect(database_url) as connection:
        return Kept(
            tenants=dict(connection.execute(IDS).fetchall()),
            decisions=frozenset(connection.execute(DECISIONS).fetchall()),
            cancelled=frozenset(row[0] for row in connection.execute(CANCELLED)),
        )


def violations(kept: Kept, starts: Starts, answers: Answers, ending: Ending) -> list[str]:
    promised = [*starts.acknowledged.values(), *starts.without_key]
    return [
        *(f"VIOLATION lost {one}: its start was acknowledged" for one in promised if one not in kept.tenants),
        *(
            f"VIOLATION tenant {one}: started by {tenant}, but it is {kept.tenants[one]}'s"
            for one, tenant in starts.tenants.items()
            if kept.tenants.get(one, tenant) != tenant
        ),
        *(f"VIOLATION start -: {text}" for text in starts.wrong),
        *(f"VIOLATION decision -: {text}" for text in answers.wrong),
        *(
            f"VIOLATION decision {trace}: {step} was confirmed to be {decision}, and no entry says so"
            for trace, step, decision in sorted(answers.promised - kept.decisions)
        ),
        *(f"VIOLATION cancel {one}: it was acknowledged" for one in starts.cancelled if one not in kept.cancelled),
        *(f"VIOLATION liveness -: {text}" for text in ending.left),
        *(f"VIOLATION idle {text}" for text in ending.idle),
    ]
