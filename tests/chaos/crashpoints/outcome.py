"""What is left when a schedule is over, judged by the definition's own expectation, the rows and the service's ledger."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import psycopg
from psycopg.rows import dict_row

from orchestrator import states
from tests.chaos.checker import check
from tests.chaos.crashpoints.shapes import Shape

FAMILY = "SELECT id FROM instance WHERE id = ANY(%(roots)s) OR root_id = ANY(%(roots)s)"
ENDED_WELL = ("succeed", "resolve", "elapse")
OF_THE_LEDGER = ("effect-skipped", "undo-missing")  # kinds that the checker reports when its ledger is empty
MENDED = "mended"  # what a person has done about a rejection
FREE = ("safe",)  # lanes on which a repeat has no effect of its own

Line = Mapping[str, Any]


def judge(
    connection: psycopg.Connection[Any], database_url: str, shape: Shape, roots: Sequence[str], ledger: Sequence[Line]
) -> list[str]:
    """What is wrong, one sentence each; nothing when all is as it must be."""
    found = _Rows(connection, roots)
    wrong = [f"{len(roots)} of {shape.instances} were started"] if len(roots) != shape.instances else []
    wrong += _ends(shape, found, roots)
    for at, root in enumerate(roots):
        traces = {root, *found.children.get(root, ())}
        effects = [one for one in ledger if one["what"] == "effect" and one["trace"] in traces]
        wrong += [f"{root}: {what}" for what in _effects(shape.outcome(at)[0], effects)]
    for trace in found.instances:
        wrong += [f"{trace}: {what}" for what in _undo_order(found, trace, ledger)]
    return [*wrong, *_history(database_url, shape), *_outbox(found, ledger)]


class _Rows:
    """Everything that Postgres has of a family."""

    def __init__(self, connection: psycopg.Connection[Any], roots: Sequence[str]) -> None:
        values = {"roots": list(roots)}

        def read(statement: str) -> list[dict[str, Any]]:
            with connection.cursor(row_factory=dict_row) as cursor:
                return cursor.execute(statement.encode(), values).fetchall()

        self.instances = {one["id"].hex: one for one in read(f"SELECT * FROM instance WHERE id IN ({FAMILY})")}
        self.steps = _by_trace(read(f"SELECT * FROM step WHERE instance_id IN ({FAMILY})"))
        self.history = _by_trace(read(f"SELECT * FROM history WHERE instance_id IN ({FAMILY}) ORDER BY seq"))
        self.outbox = read("SELECT * FROM outbox WHERE trace = ANY(%(roots)s)")
        self.children: dict[str, list[str]] = defaultdict(list)
        for trace, one in self.instances.items():
            if one["root_id"] is not None:
                self.children[one["root_id"].hex].append(trace)


def _by_trace(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["instance_id"].hex].append(row)
    return found


# -- ends


def _ends(shape: Shape, found: _Rows, roots: Sequence[str]) -> Iterator[str]:
    if shape.keeps_for is not None:
        yield from (f"{trace} was not purged" for trace in found.instances)
        return
    for trace, one in found.instances.items():
        ends = shape.outcome(roots.index(trace))[1] if trace in roots else one["status"]
        if one["status"] != ends:
            yield f"{trace} is {one['status']} ({one['reason']}), not {ends}"
        if not states.is_terminal(one["status"]) or one["ended_at"] is None:
            yield f"{trace} has not ended: {one['status']}"
        if one["parent_id"] is not None and not one["parent_told"]:
            yield f"{trace} has ended, and its parent was not told"
        if one["completion_url"] is not None and one["completion_life"] < one["life"]:
            yield f"{trace} has ended, and its completion was not told"
        left = [row for row in found.steps[trace] if row["state"] in states.ACTIVE | {states.COMPENSATING}]
        yield from (f"{trace} has ended, and {row['step']} is {row['state']}" for row in left)


# -- effects


def _effects(wanted: str, effects: Sequence[Line]) -> Iterator[str]:
    """Each once, none else, and the groups in their order."""
    groups = [[_expected(word) for word in group.split()] for group in wanted.split("|")]
    expected = {word for group in groups for word in group}
    named = [(_named(_suffix(one), expected), one) for one in effects if one["phase"] != MENDED]
    counts = Counter(name for name, _ in named)
    free = {name for name, one in named if one["lane"] in FREE}
    yield from (f"{key} was had {count} times" for key, count in counts.items() if count > 1 and key not in free)
    yield from (f"{key} was never had" for key in sorted(expected - counts.keys()))
    yield from (f"{key} was had, which no definition asks for" for key in sorted(counts.keys() - expected))
    first = {name: one["n"] for name, one in reversed(named)}
    last = {name: one["n"] for name, one in named}
    for before, after in pairwise(groups):
        for one in before:
            yield from (f"{other} was had before {one}" for other in after
                        if one in last and other in first and first[other] < first[one])  # fmt: skip


def _suffix(line: Line) -> str:
    return str(line["key"]).partition(":")[2]


def _named(suffix: str, expected: set[str]) -> str:
    """As it is expected: in whatever generation, where that is left open."""
    anyhow = re.sub(":g[0-9]+:", ":g?:", suffix)
    return anyhow if anyhow in expected else suffix


def _expected(word: str) -> str:
    """`-a:g2` → a:g2:undo, `a:0` → a:0:g1:do"""
    if word == "completion":
        return "1:completion"
    phase, name = ("undo", word[1:]) if word.startswith("-") else ("do", word)
    return f"{name if re.search(':g[0-9?]+$', name) else name + ':g1'}:{phase}"


# -- history


def _history(database_url: str, shape: Shape) -> Iterator[str]:
    """By the checker: numbers, transitions, rows, fences, order, joins, decisions, undo. It reads no ledger here, where lanes
    have other names and not all of them are services: what has to stand in the ledger the shape says (`_effects`)."""
    for one in check(database_url, os.devnull).violations:
        if one.kind not in (*OF_THE_LEDGER, *shape.excused):
            yield str(one)


# -- the undo


def _undo_order(found: _Rows, trace: str, ledger: Sequence[Line]) -> Iterator[str]:
    """In each life: compensations had, in the order of the ledger, are the reverse of the order in which steps ended well."""
    done = {
        f"{_flat(one['step'])}:g{one['generation']}": one["seq"] for one in found.history[trace]
        if one["phase"] == "do" and one["verb"] in ENDED_WELL
    }  # fmt: skip
    undone = list(dict.fromkeys(
        _suffix(one).removesuffix(":undo") for one in ledger
        if one["what"] == "effect" and one["trace"] == trace and one["phase"] == "undo"
    ))  # fmt: skip
    ended = [_last(done, name) for name in undone]
    known = [seq for seq in ended if seq is not None]
    if known != sorted(known, reverse=True) and found.instances[trace]["life"] == 1:
        yield f"undone in the order {undone}, though they were done in the order {sorted(done, key=done.__getitem__)}"
    yield from (f"{name} was undone, and was never done" for name, at in zip(undone, ended, strict=True) if at is None)


def _last(done: Mapping[str, int], undone: str) -> int | None:
    """When a step ended well last, in whatever generation."""
    name = undone.rpartition(":g")[0]
    return max((seq for key, seq in done.items() if key.rpartition(":g")[0] == name), default=None)


def _flat(step: str) -> str:
    return step.replace("[", ":").replace("]", "")


# -- events


def _outbox(found: _Rows, ledger: Sequence[Line]) -> Iterator[str]:
    had = {one["key"] for one in ledger if one["what"] == "effect"}
    for one in found.outbox:
        if one["sent_at"] is None:
            yield f"event {one['key']} is still in the outbox"
        elif one["key"] not in had:
            yield f"event {one['key']} was sent, and nobody has heard it"
