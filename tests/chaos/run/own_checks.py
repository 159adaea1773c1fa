"""What only the run itself can know: what was acknowledged to who started, decided and ordered. The rest is the checker's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg

from tests.chaos.run.decider import Answers
from tests.chaos.run.ending import Ending
from tests.chaos.run.load import Starts
from tests.chaos.run.operators import Orders

IDS = "SELECT replace(id::text, '-', ''), tenant FROM instance"
DECISIONS = """
SELECT replace(instance_id::text, '-', ''), step, output->>'decision' FROM history
WHERE verb IN ('resolve', 'reject') AND jsonb_typeof(output) = 'object'
"""
ORDERED = """
SELECT CASE verb WHEN 'suspend' THEN 'suspend' WHEN 'restart' THEN 'retry' ELSE 'resume' END,
       replace(instance_id::text, '-', ''), count(*)
FROM history WHERE verb IN ('suspend', 'proceed', 'drop', 'restart') GROUP BY 1, 2
"""
CANCELLED = "SELECT replace(id::text, '-', '') FROM instance WHERE cancel_requested_at IS NOT NULL"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What Postgres has of it."""

    tenants: Mapping[str, str]  # by instance
    decisions: frozenset[tuple[str, str, str]]  # (instance, step, decision)
    cancelled: frozenset[str]
    ordered: Mapping[tuple[str, str], int] = field(default_factory=dict)  # how often, by (order, instance)


def read(database_url: str) -> Kept:
    with psycopg.connect(database_url) as connection:
        return Kept(
            tenants=dict(connection.execute(IDS).fetchall()),
            decisions=frozenset(connection.execute(DECISIONS).fetchall()),
            cancelled=frozenset(row[0] for row in connection.execute(CANCELLED)),
            ordered={(order, instance): count for order, instance, count in connection.execute(ORDERED)},
        )


def violations(kept: Kept, starts: Starts, answers: Answers, orders: Orders, ending: Ending) -> list[str]:
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
        *(
            f"VIOLATION order {instance}: {order} was acknowledged {count} times, and {kept.ordered.get((order, instance), 0)} "
            "entries say so"
            for (order, instance), count in sorted(orders.acknowledged.items())
            if kept.ordered.get((order, instance), 0) < count
        ),
        *(f"VIOLATION liveness -: {text}" for text in ending.left),
        *(f"VIOLATION idle {text}" for text in ending.idle),
    ]
