"""One instance: where it stands, its picture, its timeline, and the forms that an operator or a reviewer sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from flask import Response, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from orchestrator import boards, engine, graph_style, queries, states
from orchestrator.api.auth import caller
from orchestrator.api.bodies import parse_json
from orchestrator.api.context import system
from orchestrator.errors import BadRequest, Conflict, Invalid, OrchestratorError, TooLarge
from orchestrator.operators import Verdict
from orchestrator.ui import picture, shown_steps, timeline, words
from orchestrator.ui.blueprint import ROWS, instance_page, routes
from orchestrator.ui.flash import Told, leads_to

ORDERS: dict[str, tuple[Callable[..., str], str]] = {
    "suspend": (engine.suspend, "Suspended: no further step begins"),
    "resume": (engine.resume, "Resumed"),
    "retry": (engine.retry, "It is being tried again"),
}
ENTRIES = 400  # of the history: enough for the newest attempts
VERDICTS = {
    "succeeded": "recorded as done",
    "failed": "recorded as not done",
    "retry": "being tried again",
}


@routes.get("/ui/instances/<instance_id>")
def instance(instance_id: str) -> str:
    tenant = caller("workflows:read").tenant
    whole = boards.whole(system(), tenant=tenant, instance_id=instance_id, newest=ENTRIES)
    log = queries.logs(
        system(), tenant=tenant, instance_id=instance_id, limit=ROWS, cursor=request.args.get("log") or None
    )
    return render_template(
        "instance.html",
        instance=whole,
        log=log,
        names=boards.titles(whole["definition"]),
        title=boards.title,
        current=boards.gathered(boards.titles(whole["definition"]), whole["currentSteps"]),
        picture=picture.of_instance(whole["definition"], whole),
        bars=timeline.bars(whole["history"], now=whole["now"]),
        decisions=[one for one in whole["steps"] if awaits_decision(one, whole)],
        callbacks=[one for one in whole["steps"] if awaits_callback(one, whole)],
        anchors=anchors(whole["steps"]),
        unsettled=list(unsettled(whole)),
        steps=shown_steps.outer(whole["steps"]),
        rounds=shown_steps.rounds(whole["definition"], whole["steps"]),
        tallies=picture.counted(whole),
        is_wide=picture.is_wide,
        orders=words.possible_orders(whole),
        outlook=boards.outlook,
    )


def awaits_decision(step: dict[str, Any], whole: dict[str, Any]) -> bool:
    """A step that waits for a service, for a time, or for a sub-workflow is no person's to decide."""
    return step["status"] == states.WAITING and boards.awaits_a_person(whole["definition"], step["step"])


def awaits_callback(step: dict[str, Any], whole: dict[str, Any]) -> bool:
    """A timer and a sub-workflow wait too, and nobody calls them back."""
    calls = whole["definition"] is None or boards.service(whole["definition"], step["step"]) is not None
    return calls and bool(step.get("callbackUrl"))


def anchors(steps: list[dict[str, Any]]) -> dict[str, str]:
    """Step name → the id of its row: what the picture links to is the first of the iterations."""
    first: dict[str, str] = {}
    for one in steps:
        first.setdefault(boards.base(one["step"]), one["step"])
    return {name: step for step, name in first.items()}


def unsettled(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """What only a person can settle: {step, status, error, undo}."""
    steps = [
        {"step": one["step"], "status": one["status"], "error": one["error"], "undo": one["status"] == states.STUCK}
        for one in whole["steps"]
        if one["status"] in (states.UNKNOWN, states.STUCK)
    ]
    undone = [one for one in whole["compensations"] if one["state"] == states.UNKNOWN]
    errors = {one["step"]: one["error"] for one in whole["compensations"]}
    for one in steps:
        one["error"] = errors.get(one["step"]) or one["error"]
    return steps + [
        {"step": one["step"], "status": one["state"], "error": one["error"], "undo": True} for one in undone
    ]


@routes.post("/ui/instances/<instance_id>/<any(suspend, resume, retry):order>")
def order(instance_id: str, order: str) -> BaseResponse:
    person = caller("workflows:operate")
    use_case, said = ORDERS[order]
    try:
        after = use_case(system(), tenant=person.tenant, instance_id=instance_id)
    except Conflict as conflict:
        return leads_to(instance_page(instance_id), Told(text=f"Nothing was changed: {conflict}", mood="bad"))
    told = f"{said}. It is now: {words.state_words(after, words.INSTANCE_WORDS)}."
    return leads_to(instance_page(instance_id), Told(text=told))


@routes.post("/ui/instances/<instance_id>/steps/<step>/resolve")
def resolve(instance_id: str, step: str) -> BaseResponse:
    person = caller("workflows:operate")
    try:
        verdict, result = _verdict()
        engine.resolve(
            system(), tenant=person.tenant, instance_id=instance_id, step=step, verdict=verdict, result=result,
            by=person.subject,
        )  # fmt: skip
    except (Conflict, BadRequest, Invalid, TooLarge) as refused:
        return leads_to(instance_page(instance_id), Told(text=f"Nothing was changed: {refused}", mood="bad"))
    return leads_to(instance_page(instance_id), Told(text=f"{step} is {VERDICTS[verdict]}."))


def _verdict() -> tuple[Verdict, Any]:
    verdict, text = request.form.get("verdict", ""), request.form.get("result", "").strip()
    if verdict not in VERDICTS:
        raise BadRequest("say whether the step has succeeded or failed, or is to be tried again")
    return cast("Verdict", verdict), _result(text)


def _result(text: str) -> Any:
    try:
        return parse_json(text) if text else None
    except OrchestratorError as error:
        raise BadRequest(f"the result is not JSON: text stands in quotation marks ({error})") from error


@routes.get("/ui/graph.css")
def graph_css() -> Response:
    """The pictures' own style sheet: a page may not hold one."""
    return Response(graph_style.CSS, content_type="text/css; charset=utf-8")
