"""What the API answers with: rows of the store as the JSON that DESIGN's interface names. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from orchestrator import states
from orchestrator.definition import BranchesStep, ForEachStep, RepeatStep, ServiceStep
from orchestrator.iterations import in_order
from orchestrator.lane import result_of
from orchestrator.lines import level, line
from orchestrator.plan import Plan

UrlOf = Callable[[Mapping[str, Any]], str]

Shown = dict[str, Any]


def iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None


def summary(row: Mapping[str, Any], active: list[str]) -> Shown:
    """One line of a list."""
    return {
        "instanceId": row["id"].hex, "traceId": row["id"].hex, "workflowId": row["workflow_id"],
        "version": row["version"], "status": row["status"], "reason": row["reason"],
        "businessKey": row["business_key"], "currentStep": active[0] if active else None,
        "started": iso(row["started_at"]), "ended": iso(row["ended_at"]),
    }  # fmt: skip


def status(row: Mapping[str, Any], plan: Plan | None, steps: list[dict[str, Any]], history: list[dict[str, Any]],
           url_of: UrlOf) -> Shown:  # fmt: skip
    """The whole of one instance. Without a plan, because its definition cannot be read any more, titles are missing."""
    active = _active(steps) if row["ended_at"] is None else []
    return summary(row, active) | {
        "title": plan.definition.title if plan else None, "currentSteps": active, "payload": row["payload"],
        "deadline": iso(row["deadline_at"]), "cancelRequested": iso(row["cancel_requested_at"]),
        "parent": {"instanceId": row["parent_id"].hex, "step": row["parent_step"]} if row["parent_id"] else None,
        "completion": _completion(row), "history": [entry(one) for one in history],
        "compensations": [_compensation(one) for one in _undone(plan, steps)],
        "steps": [_step(one, plan, url_of) for one in _ordered(steps) if one["phase"] == "do" and _is_written(plan, one["step"])],
    }  # fmt: skip


def _completion(row: Mapping[str, Any]) -> Shown | None:
    """Who is told of the end, and what became of it."""
    if row["completion_url"] is None:
        return None
    is_over = row["completion_life"] >= row["life"]
    status = "told" if row["completion_error"] is None else "given up"
    return {
        "url": row["completion_url"], "status": status if is_over else "due" if row["ended_at"] else "awaited",
        "tries": row["completion_tries"], "error": row["completion_error"],
        "next": iso(row["completion_due_at"]) if row["ended_at"] and not is_over else None,
    }  # fmt: skip


def _active(steps: list[dict[str, Any]]) -> list[str]:
    live = states.ACTIVE | {states.COMPENSATING, states.STUCK}
    found = [one for one in steps if one["state"] in live and not one["branches_left"]]
    return list(dict.fromkeys(one["step"] for one in _ordered(found)))


def _ordered(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(steps, key=lambda one: in_order(one["order"], one["step"]))


def _is_written(plan: Plan | None, step: str) -> bool:
    found = plan.place(step).step if plan else None
    return not isinstance(found, BranchesStep) or found.written


def _undone(plan: Plan | None, steps: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Steps that are on the undo list, or were, in the order in which they are undone; with their undo row."""
    undo_rows = {one["step"]: one for one in steps if one["phase"] == "undo"}
    listed = [one for one in steps if one["phase"] == "do" and _is_on_list(one, undo_rows)]
    for one in sorted(listed, key=lambda one: -(one["done_seq"] or 0)):
        service = plan.place(one["step"]).step if plan else None
        planned = service.compensation if isinstance(service, ServiceStep) else None
        yield {"service": str(planned.operation) if planned else None, **undo_rows.get(one["step"], {}), "done": one}


def _is_on_list(one: Mapping[str, Any], undo_rows: Mapping[str, Any]) -> bool:
    return one["state"] in (states.COMPENSATING, states.COMPENSATED, states.STUCK) or one["step"] in undo_rows


def _compensation(one: Mapping[str, Any]) -> Shown:
    return {
        "step": one["done"]["step"], "service": one["service"], "status": one["done"]["state"],
        "generation": one.get("generation"), "attempt": one.get("attempt", 0), "state": one.get("state"), "error": one.get("error"),
        "result": result_of(one.get("output")), "started": iso(one.get("started_at")), "ended": iso(one.get("ended_at")),
    }  # fmt: skip


def _step(one: Mapping[str, Any], plan: Plan | None, url_of: UrlOf) -> Shown:
    waits = one["state"] == states.WAITING
    shown = {
        "step": one["step"], "title": plan.place(one["step"]).step.title if plan else None, "status": one["state"],
        "reason": one["deferred"] or one["reason"], "service": one["service"], "attempt": one["attempt"],
        "generation": one["generation"], "result": result_of(one["output"]), "error": one["error"],
        "decision": one["decision"], "comment": one["comment"], "decidedBy": one["decided_by"],
        "deadline": iso(one["due_at"]) if waits else None, "retryAt": iso(one["due_at"]) if one["state"] == states.RETRYING else None,
        "escalated": one["escalated"], "started": iso(one["started_at"]), "ended": iso(one["ended_at"]),
        "ready": iso(one["ready_at"]), "worker": one["worker"] if one["state"] == states.RUNNING else None,
    }  # fmt: skip
    return shown | _turns(one, plan) | ({"callbackUrl": url_of(one)} if waits else {})


def _turns(one: Mapping[str, Any], plan: Plan | None) -> Shown:
    """Of a loop: how many iterations there are (of a `repeat`: may be), and how many have begun."""
    is_loop = plan is not None and isinstance(plan.place(one["step"]).step, ForEachStep | RepeatStep)
    return {"items": one["items"], "begun": one["begun"]} if is_loop else {}


def child(one: Mapping[str, Any]) -> Shown:
    """An instance that a step of this one has started."""
    return {"instanceId": one["id"].hex, "workflowId": one["workflow_id"], "step": one["parent_step"],
            "status": one["status"]}  # fmt: skip


def entry(one: Mapping[str, Any], callback_url: str | None = None) -> Shown:
    """One transition."""
    return {
        "instanceId": one["instance_id"].hex, "workflowId": one["workflow_id"],
        "seq": one["seq"], "step": one["step"], "phase": one["phase"], "verb": one["verb"], "status": one["status"],
        "reason": one["reason"], "attempt": one["attempt"], "generation": one["generation"],
        "service": one["service"], "result": result_of(one["output"]), "error": one["error"],
        "time": iso(one["time"]), "worker": one["worker"], "line": line(one, callback_url),
    }  # fmt: skip


def log_line(one: Mapping[str, Any]) -> Shown | None:
    """One line of an instance's log: the console form of a transition; None where nobody has to read about it."""
    said, trace = line(one), one["instance_id"].hex
    if said is None:
        return None
    return {"instanceId": trace, "workflowId": one["workflow_id"], "time": iso(one["time"]), "level": level(one).lower(),
            "step": one["step"], "line": f"[{trace}] {said}", "seq": one["seq"],
            "fields": {"verb": one["verb"], "attempt": one["attempt"], "worker": one["worker"]}}  # fmt: skip
