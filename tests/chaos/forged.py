"""Evidence forged in a copy of a healthy database and of its ledger: each forgery is a violation of one kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

Line = dict[str, Any]
Edit = Callable[[list[Line], str], list[Line]]


@dataclass(frozen=True, kw_only=True)
class Forgery:
    kind: str
    shape: str  # whose instance it is done to
    sql: str = ""  # %(trace)s is the instance
    edit: Edit | None = None  # of the ledger's lines; they are numbered anew


def forge(forgery: Forgery, traces: Mapping[str, str], database_url: str, source: Path, target: Path) -> None:
    trace = traces[forgery.shape]
    if forgery.sql:
        with psycopg.connect(database_url) as connection:
            connection.execute(
                "ALTER TABLE instance DROP CONSTRAINT instance_parent_id_fkey"
            )  # or no child is orphaned
            changed = connection.execute(forgery.sql.encode(), {"trace": trace})
            assert changed.rowcount > 0, f"nothing was forged: {forgery.sql}"
    lines = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    before = json.dumps(lines)
    if forgery.edit is not None:
        lines = forgery.edit(lines, trace)
        assert json.dumps(lines) != before, "nothing was forged in the ledger"
    target.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def numbered(lines: list[Line]) -> list[Line]:
    return [{**line, "n": at} for at, line in enumerate(lines, start=1)]


def _is(line: Line, trace: str, what: str, step: str, phase: str) -> bool:
    return (line["trace"], line["what"], line["step"], line["phase"]) == (trace, what, step, phase)


def changed(step: str, what: str, phase: str = "do", **changes: Any) -> Edit:
    """Change such lines."""

    def edit(lines: list[Line], trace: str) -> list[Line]:
        return [{**line, **changes} if _is(line, trace, what, step, phase) else line for line in lines]

    return edit


def dropped(step: str, what: str, phase: str = "do") -> Edit:
    def edit(lines: list[Line], trace: str) -> list[Line]:
        return numbered([line for line in lines if not _is(line, trace, what, step, phase)])

    return edit


def repeated(step: str, what: str, phase: str = "do", times: int = 1, **changes: Any) -> Edit:
    """The first of such lines again, behind itself."""

    def edit(lines: list[Line], trace: str) -> list[Line]:
        at = next(at for at, line in enumerate(lines) if _is(line, trace, what, step, phase))
        more = [{**lines[at], **changes} for _ in range(times)]
        return numbered([*lines[: at + 1], *more, *lines[at + 1 :]])

    return edit


def moved(step: str, what: str, phase: str, *, behind: tuple[str, str, str]) -> Edit:
    """The first of such lines to behind the last of others."""

    def edit(lines: list[Line], trace: str) -> list[Line]:
        at = next(at for at, line in enumerate(lines) if _is(line, trace, what, step, phase))
        others = [*lines[:at], *lines[at + 1 :]]
        to = max(at for at, line in enumerate(others) if _is(line, trace, behind[1], behind[0], behind[2]))
        return numbered([*others[: to + 1], lines[at], *others[to + 1 :]])

    return edit


def foremost(step: str) -> Edit:
    """The first call of such a step, whoever's it is, before all other lines."""

    def edit(lines: list[Line], _: str) -> list[Line]:
        at = next(at for at, line in enumerate(lines) if (line["step"], line["what"]) == (step, "call"))
        return numbered([lines[at], *lines[:at], *lines[at + 1 :]])

    return edit


def added(step: str, what: str, phase: str = "do", *, like: str, **changes: Any) -> Edit:
    """A line of a step that has none, at the end, like one of another step's."""

    def edit(lines: list[Line], trace: str) -> list[Line]:
        one = next(line for line in lines if _is(line, trace, "effect", like, "do"))
        key = f"{trace}:{step}:g1:{phase}"
        return numbered([*lines, {**one, "what": what, "step": step, "phase": phase, "key": key, **changes}])

    return edit


def both(one: Edit, other: Edit) -> Edit:
    return lambda lines, trace: other(one(lines, trace), trace)


def _step(changes: str, step: str, phase: str = "do") -> str:
    return f"UPDATE step SET {changes} WHERE instance_id = %(trace)s AND step = '{step}' AND phase = '{phase}'"


def _entry(changes: str, verb: str, step: str | None, phase: str = "do") -> str:
    where = f"step = '{step}' AND phase = '{phase}'" if step else "step IS NULL"
    return f"UPDATE history SET {changes} WHERE instance_id = %(trace)s AND verb = '{verb}' AND {where}"


def _instance(changes: str) -> str:
    return f"UPDATE instance SET {changes} WHERE id = %(trace)s"


def _swapped(one: str, other: str) -> str:
    """Two steps of a history change places, entry by entry: who is who is all that differs."""
    return f"""
UPDATE history SET step = CASE step WHEN '{one}' THEN '{other}' ELSE '{one}' END,
  service = CASE step WHEN '{one}' THEN replace(service, 'u{one}', 'u{other}') ELSE replace(service, 'u{other}', 'u{one}') END
WHERE instance_id = %(trace)s AND phase = 'undo' AND step IN ('{one}', '{other}')
"""


def _appended(verb: str, status: str, step: str | None, phase: str | None = "do", **columns: str) -> str:
    """One more entry, like the last one of the same step."""
    of = f"step = '{step}' AND phase = '{phase}'" if step else "step IS NULL"
    more = {"reason": "reason", "attempt": "attempt", "generation": "generation", "output": "output", **columns}
    return f"""
WITH last AS (UPDATE instance SET history_seq = history_seq + 1 WHERE id = %(trace)s RETURNING history_seq)
INSERT INTO history (instance_id, seq, tenant, verb, status, step, phase, service, time, worker, {", ".join(more)})
SELECT instance_id, last.history_seq, tenant, '{verb}', '{status}', step, phase, service, time, worker, {", ".join(more.values())}
FROM history, last WHERE instance_id = %(trace)s AND {of} ORDER BY seq DESC LIMIT 1
"""


FORGERIES = {
    # endings
    "an instance that still runs": Forgery(kind="not-ended", shape="sequence", sql=_instance("status = 'RUNNING', ended_at = NULL")),
    "one that is STUCK for no reason": Forgery(kind="not-ended", shape="unsettled", sql=_instance("reason = NULL")),
    "one that is STUCK with nothing that is": Forgery(kind="not-ended", shape="unsettled", sql=_step("state = 'FAILED'", "pay")),
    "a wait that is past due": Forgery(kind="not-ended", shape="waiting", sql=_step("due_at = clock_now() - interval '1 minute'", "bare")),
    "one that waits for nothing": Forgery(kind="not-ended", shape="waiting", sql=_step("state = 'SUCCEEDED'", "bare")),
    "one that nobody has suspended": Forgery(kind="not-ended", shape="suspended", sql=_instance("suspended_at = NULL")),
    "a step that runs on in what has ended": Forgery(kind="not-ended", shape="sequence", sql=_step("state = 'RUNNING'", "e")),
    "a doubt of what may be repeated": Forgery(kind="doubt-needless", shape="unsettled", sql=_entry("service = 'keyed.lost'", "doubt", "pay")),
    # effects
    "an effect twice by one key": Forgery(kind="effect-doubled", shape="sequence", edit=repeated("a", "effect")),
    "an effect twice on a lane without keys": Forgery(kind="effect-doubled", shape="sequence", edit=repeated("c", "effect")),
    "one that nobody has ordered twice": Forgery(kind="effect-doubled", shape="unknown-succeeded", edit=repeated("pay", "effect")),
    "an effect at another service": Forgery(kind="effect-not-allowed", shape="sequence", edit=changed("a", "effect", operation="z")),
    "an effect on another lane": Forgery(kind="effect-not-allowed", shape="sequence", edit=changed("a", "effect", lane="asked")),
    "an effect of a step that is not there": Forgery(kind="effect-not-allowed", shape="sequence", edit=added("zz", "effect", like="a")),
    "an effect of a step that calls nobody": Forgery(kind="effect-not-allowed", shape="timer", edit=added("rest", "effect", like="a")),
    "an undo of what has none": Forgery(kind="effect-not-allowed", shape="undone", edit=added("plain", "effect", "undo", like="plain")),
    "an effect whose condition is false": Forgery(kind="effect-not-allowed", shape="branches", edit=added("again", "effect", like="readDeed", operation="again")),
    "both ways of a switch": Forgery(kind="effect-not-allowed", shape="switch", sql="""
        INSERT INTO history (instance_id, seq, tenant, verb, status, step, phase, attempt, generation, service, time)
        SELECT instance_id, seq + 1000, tenant, verb, status, 'never', phase, attempt, generation, 'keyed.never', time
        FROM history WHERE instance_id = %(trace)s AND step = 'one'"""),
    "a call before what stands before it was done": Forgery(kind="effect-out-of-order", shape="sequence", edit=moved("a", "effect", "do", behind=("b", "call", "do"))),
    "an iteration's own steps out of order": Forgery(kind="effect-out-of-order", shape="forEach", edit=moved("scan", "effect", "do", behind=("store", "call", "do"))),
    "what follows a join before its branch": Forgery(kind="effect-out-of-order", shape="branches", edit=moved("sign", "effect", "do", behind=("last", "call", "do"))),
    "what follows a group before a member": Forgery(kind="effect-out-of-order", shape="parallel", edit=moved("y", "effect", "do", behind=("b", "call", "do"))),
    "a step said to be done that was not": Forgery(kind="effect-skipped", shape="sequence", edit=dropped("a", "effect")),
    "a service said to be told that was not": Forgery(kind="effect-skipped", shape="pause", edit=dropped("approve", "effect")),
    "a step passed over": Forgery(kind="effect-skipped", shape="sequence", sql="DELETE FROM history WHERE instance_id = %(trace)s AND step = 'b'"),
    "the last step passed over": Forgery(kind="effect-skipped", shape="sequence", sql="DELETE FROM history WHERE instance_id = %(trace)s AND step = 'e'"),
    "an item without an iteration": Forgery(kind="effect-skipped", shape="forEach", sql=_step("items = 4", "each")),
    "a step skipped that has no condition": Forgery(kind="effect-skipped", shape="branches", sql=_entry("step = 'inspect'", "skip", "again")),
    "an effect of nobody's": Forgery(kind="effect-unknown", shape="sequence", edit=changed("a", "effect", trace="0" * 32, key=f"{'0' * 32}:a:g1:do")),
    "an attempt that nobody has claimed": Forgery(kind="effect-unknown", shape="sequence", edit=changed("a", "call", attempt=7)),
    "a key of another generation": Forgery(kind="effect-unknown", shape="again", edit=added("plain", "effect", like="plain", key="?")),
    # undo
    "an undo that was not had": Forgery(kind="undo-missing", shape="undone", edit=dropped("a", "effect", "undo")),
    "a step that was not undone": Forgery(kind="undo-missing", shape="undone", sql="DELETE FROM history WHERE instance_id = %(trace)s AND step = 'a' AND (phase = 'undo' OR verb IN ('undo', 'compensate'))"),
    "an undo that did not end": Forgery(kind="undo-missing", shape="undone", sql=_entry("verb = 'stick', status = 'STUCK'", "compensate", "a")),
    "a failed step that had its effect": Forgery(kind="undo-missing", shape="stopped", sql="DELETE FROM history WHERE instance_id = %(trace)s AND step = 'a' AND (phase = 'undo' OR verb IN ('undo', 'compensate'))"),
    "a sub-workflow that was not undone": Forgery(kind="undo-missing", shape="wholly", sql="DELETE FROM history WHERE instance_id = %(trace)s AND step = 'inspection' AND (phase = 'undo' OR verb IN ('undo', 'compensate'))"),
    "an undo twice by one key": Forgery(kind="undo-doubled", shape="undone", edit=repeated("a", "effect", "undo")),
    "an undo out of its turn": Forgery(kind="undo-out-of-order", shape="undone", sql=_swapped("x", "y")),
    "an undo called before the one before it was done": Forgery(kind="undo-out-of-order", shape="undone", edit=moved("x", "effect", "undo", behind=("a", "call", "undo"))),
    "an undo of what was not on the list": Forgery(kind="undo-of-nothing", shape="undone", sql="DELETE FROM history WHERE instance_id = %(trace)s AND step = 'a' AND phase = 'do' AND verb IN ('undo', 'compensate')"),
    "an undo of what had failed for certain": Forgery(kind="undo-of-nothing", shape="uncertain", sql=_step("uncertain = false", "b")),
    "an undo of what has completed": Forgery(kind="refund-of-what-lives", shape="sequence", edit=added("a", "effect", "undo", like="a", operation="ua")),
    "an undo before its effect": Forgery(kind="refund-of-what-lives", shape="undone", edit=moved("a", "effect", "do", behind=("a", "call", "undo"))),
    "an effect behind an undo that had none": Forgery(kind="refund-of-what-lives", shape="uncertain", edit=both(added("b", "effect", like="a", operation="broken"), dropped("b", "effect", "undo"))),
    "an effect behind its own undo": Forgery(kind="effect-after-undo", shape="undone", edit=moved("a", "effect", "do", behind=("a", "effect", "undo"))),
    "a fall without a failure": Forgery(kind="refund-of-what-lives", shape="undone", sql=_entry("verb = 'succeed', status = 'SUCCEEDED'", "fail", "boom")),
    "a fall by nobody's order": Forgery(kind="refund-of-what-lives", shape="cancelled", sql=_instance("cancel_requested_at = NULL")),
    "a fall by a deadline that is none": Forgery(kind="refund-of-what-lives", shape="undone", sql=_entry("reason = 'deadline'", "fall", None)),
    # history
    "a number that is missing": Forgery(kind="history-gap", shape="sequence", sql="DELETE FROM history WHERE instance_id = %(trace)s AND seq = 5"),
    "a number too many": Forgery(kind="history-gap", shape="sequence", sql=_instance("history_seq = history_seq + 1")),
    "a verb that is none": Forgery(kind="history-illegal", shape="sequence", sql=_entry("verb = 'wish'", "succeed", "a")),
    "a verb that is none of an instance's": Forgery(kind="history-illegal", shape="sequence", sql=_entry("verb = 'halt'", "complete", None)),
    "a verb from a state that it does not leave": Forgery(kind="history-illegal", shape="sequence", sql=_entry("verb = 'park', status = 'WAITING'", "claim", "a")),
    "a verb that leads elsewhere": Forgery(kind="history-illegal", shape="sequence", sql=_entry("status = 'SKIPPED'", "succeed", "a")),
    "an instance's verb that leads elsewhere": Forgery(kind="history-illegal", shape="sequence", sql=_entry("status = 'FAILED'", "complete", None)),
    "an attempt that counts two": Forgery(kind="history-illegal", shape="sequence", sql=_entry("attempt = 2", "claim", "a")),
    "a generation out of nothing": Forgery(kind="history-illegal", shape="sequence", sql=_entry("generation = 2", "claim", "a")),
    "an entry after the end": Forgery(kind="history-illegal", shape="sequence", sql=_appended("renew", "READY", "a")),
    "an end after the end": Forgery(kind="history-illegal", shape="sequence", sql=_appended("complete", "COMPLETED", None)),
    "a state that no entry gives": Forgery(kind="history-differs", shape="sequence", sql=_step("state = 'SKIPPED'", "a")),
    "an undo under another number than what it undoes": Forgery(kind="history-illegal", shape="undone", sql="UPDATE history SET generation = 2 WHERE instance_id = %(trace)s AND phase = 'undo' AND step = 'a'"),
    "a generation that no entry gives": Forgery(kind="history-differs", shape="sequence", sql=_step("generation = 2", "a")),
    "a reason that no entry gives": Forgery(kind="history-differs", shape="sequence", sql=_step("reason = 'timeout'", "a")),
    "an order that no entry gives": Forgery(kind="history-differs", shape="sequence", sql=_step("done_seq = 99", "a")),
    "a status that no entry gives": Forgery(kind="history-differs", shape="sequence", sql=_instance("status = 'FAILED'")),
    "a life that no entry gives": Forgery(kind="history-differs", shape="sequence", sql=_instance("life = 2")),
    "an end without a time": Forgery(kind="history-differs", shape="sequence", sql=_instance("ended_at = NULL")),
    "a row without a history": Forgery(kind="history-differs", shape="sequence", sql="DELETE FROM history WHERE instance_id = %(trace)s AND step = 'e'"),
    "a history without a row": Forgery(kind="history-differs", shape="sequence", sql="DELETE FROM step WHERE instance_id = %(trace)s AND step = 'e'"),
    "steps of another version": Forgery(kind="history-differs", shape="sequence", sql=_step("version_id = gen_random_uuid()", "a")),
    "a result by who had not claimed it": Forgery(kind="stale-write", shape="sequence", sql=_entry("worker = 'a zombie'", "succeed", "a")),
    "a result by the attempt before": Forgery(kind="stale-write", shape="retry", sql="UPDATE history SET attempt = 1 WHERE instance_id = %(trace)s AND verb = 'succeed' AND step = 'a'"),
    # decisions, tenants, calls
    "a decision after the decision": Forgery(kind="decision-doubled", shape="pause", sql=_appended("reject", "FAILED", "approve", output="""'{"decision": "rejected"}'""")),
    "a decision that was not made": Forgery(kind="decision-doubled", shape="pause", sql=_step("decision = 'rejected'", "approve")),
    "a step of another tenant": Forgery(kind="tenant-crossed", shape="sequence", sql=_step("tenant = 'city-b'", "a")),
    "an entry of another tenant": Forgery(kind="tenant-crossed", shape="sequence", sql=_entry("tenant = 'city-b'", "succeed", "a")),
    "a call for another tenant": Forgery(kind="tenant-crossed", shape="sequence", edit=changed("a", "call", agency="city-b")),
    "a definition of another tenant": Forgery(kind="tenant-crossed", shape="sequence", sql="UPDATE definition_version SET tenant = 'city-b' WHERE id = (SELECT version_id FROM instance WHERE id = %(trace)s)"),
    "a child of another tenant": Forgery(kind="tenant-crossed", shape="parent", sql="UPDATE instance SET tenant = 'city-b' WHERE parent_id = %(trace)s"),
    "an event of another tenant": Forgery(kind="tenant-crossed", shape="sequence", sql="INSERT INTO outbox (key, tenant, trace, topic, event) VALUES ('k', 'city-b', %(trace)s, 't', '{}')"),
    "another body": Forgery(kind="key-body-differs", shape="sequence", edit=repeated("a", "call", body="0" * 64)),
    "a call twice by one attempt": Forgery(kind="call-doubled", shape="sequence", edit=repeated("a", "call")),
    "a storm of calls": Forgery(kind="storm", shape="sequence", edit=repeated("a", "call", times=40)),
    "a call more than its retries": Forgery(kind="storm", shape="sequence", edit=repeated("a", "call", times=4)),
    "a definition that cannot be read": Forgery(
        kind="definition-broken", shape="sequence",
        sql="UPDATE definition_version SET text = 'steps: [' WHERE id = (SELECT version_id FROM instance WHERE id = %(trace)s)",
    ),
    "a ledger with a line missing": Forgery(kind="ledger-broken", shape="sequence", edit=lambda lines, _: lines[:3] + lines[4:]),
    # joins and families
    "a step that begins twice after a join": Forgery(kind="join-doubled", shape="branches", sql=_appended("renew", "READY", "last", generation="generation + 1")),
    "a step that begins twice after a group": Forgery(kind="join-doubled", shape="parallel", sql=_appended("renew", "READY", "b", generation="generation + 1")),
    "a join before its branch has ended": Forgery(kind="join-early", shape="branches", sql="DELETE FROM history WHERE instance_id = %(trace)s AND step = 'sign' AND verb = 'succeed'"),
    "a group's join before a member has ended": Forgery(kind="join-early", shape="parallel", sql="DELETE FROM history WHERE instance_id = %(trace)s AND step = 'y' AND verb = 'succeed'"),
    "a child that calls before what stands before it was done": Forgery(kind="effect-out-of-order", shape="parent", edit=foremost("visit")),
    "what follows a child before it was done": Forgery(kind="effect-out-of-order", shape="parent", edit=moved("b", "call", "do", behind=("a", "effect", "do"))),
    "an undo while a child is undone": Forgery(kind="undo-out-of-order", shape="wholly", edit=moved("a", "call", "undo", behind=("boom", "call", "do"))),
    "a child without its parent": Forgery(kind="child-orphaned", shape="parent", sql="UPDATE instance SET parent_id = gen_random_uuid() WHERE parent_id = %(trace)s"),
    "a child that outlives its parent": Forgery(kind="child-orphaned", shape="parent", sql="UPDATE instance SET status = 'RUNNING', ended_at = NULL WHERE parent_id = %(trace)s"),
    "a child that has not completed": Forgery(kind="child-differs", shape="parent", sql="UPDATE instance SET status = 'FAILED' WHERE parent_id = %(trace)s"),
    "a child that was not undone": Forgery(kind="child-differs", shape="wholly", sql="UPDATE instance SET status = 'COMPLETED' WHERE parent_id = %(trace)s"),
    "a child of a generation that was not": Forgery(kind="child-differs", shape="parent", sql="UPDATE instance SET parent_generation = 3 WHERE parent_id = %(trace)s"),
    # one law each, where another one sees the like
    "a call claimed for another service": Forgery(kind="effect-not-allowed", shape="sequence", sql=_entry("service = 'keyed.z'", "claim", "a")),
    "a child too many": Forgery(kind="child-differs", shape="parent", sql="""
        UPDATE instance SET parent_id = %(trace)s, parent_step = 'inspection', parent_generation = 3
        WHERE workflow_id = 'sequence'"""),
    "a step that begins again": Forgery(kind="begun-twice", shape="tolerant", sql="""
        UPDATE history SET step = 'a', verb = 'renew', generation = 2, attempt = 1
        WHERE instance_id = %(trace)s AND step = 'b' AND verb = 'ready'"""),
    "an order of what was done that is another": Forgery(kind="undo-out-of-order", shape="undone", sql="""
        UPDATE history SET step = CASE step WHEN 'x' THEN 'y' ELSE 'x' END
        WHERE instance_id = %(trace)s AND step IN ('x', 'y') AND verb = 'succeed' AND phase = 'do'"""),
    "an undo while the one before it goes on": Forgery(kind="undo-out-of-order", shape="undone", sql="""
        DELETE FROM history WHERE instance_id = %(trace)s AND step = 'x' AND phase = 'undo' AND verb = 'succeed'"""),
}  # fmt: skip
