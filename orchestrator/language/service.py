"""Reading a step that calls a service, waits for a decision, or both."""

from __future__ import annotations

from typing import Any

from orchestrator.definition import Compensation, Escalation, Operation, Retry, ServiceStep, TimeoutAction
from orchestrator.language.reading import Reading
from orchestrator.language.schema import WrittenRetry, WrittenStep
from orchestrator.language.scope import Named, Scope
from orchestrator.language.text import Path


def read(reading: Reading, written: WrittenStep, path: Path, scope: Scope) -> ServiceStep:
    service = reading.operation(written.service, written.id, (*path, "service")) if written.service else None
    on_timeout = written.on_timeout or TimeoutAction()
    _check_keys(reading, path)
    _check_decide(reading, on_timeout, written, (*path, "onTimeout"))
    return ServiceStep(
        id=written.id,
        title=written.title,
        when=reading.condition(written.when, path, scope),
        operation=service,
        input=reading.template(written.input, (*path, "input"), scope),
        compensation=_compensation(reading, written, path, scope),
        retry=_retry(written.retry),
        timeout=written.timeout,
        on_timeout=on_timeout,
        escalation=_escalation(reading, written, service, path),
        pause=written.pause,
        on_reject=written.on_reject or "fail",
        on_error=written.on_error or "fail",
    )


def may_be_skipped(step: ServiceStep) -> bool:
    """By its condition, or when its time is up."""
    actions = [step.on_timeout, *([step.escalation.on_timeout] if step.escalation else [])]
    return step.when is not None or any(action.kind == "skip" for action in actions)


def _check_keys(reading: Reading, path: Path) -> None:
    """What one key asks of the others. It looks at what was written: a key with a problem is there, too."""
    data: dict[str, Any] = reading.composed.data_at(path)
    if "service" not in data:
        for key in sorted(set(data) & {"input", "compensate", "retry"}):
            reading.report((*path, key), f"`{key}` needs a `service`", "this step calls none", at_key=True)
    if "onReject" in data and data.get("pause") is not True:
        reading.report((*path, "onReject"), "`onReject` needs `pause: true`", at_key=True)
    if "onTimeout" in data and "timeout" not in data:
        mend = "add one, as in timeout: 48h"
        reading.report((*path, "onTimeout"), "`onTimeout` needs a `timeout`", mend, at_key=True)
    if "escalate" in data and data.get("onTimeout") != "escalate":
        reading.report((*path, "escalate"), "`escalate` has no effect here", "add onTimeout: escalate", at_key=True)


def _check_decide(reading: Reading, action: TimeoutAction, written: WrittenStep, path: Path) -> None:
    if action.kind == "decide" and not written.pause:
        reading.report(path, "`decide` answers for a person: it needs `pause: true`", "or write fail, skip or retry")


def _compensation(reading: Reading, written: WrittenStep, path: Path, scope: Scope) -> Compensation | None:
    undo = written.compensate
    if undo is None:
        return None
    path = (*path, "compensate")
    # its own step: undone as attempted, it may have left no result
    scope = scope.after({written.id: Named(may_be_skipped=reading.compensate_on == "attempted")})
    return Compensation(
        operation=reading.operation(undo.service, written.id, (*path, "service")),
        input=reading.template(undo.input, (*path, "input"), scope),
        retry=_retry(undo.retry) if undo.retry else None,
        timeout=undo.timeout,
    )


def _escalation(reading: Reading, written: WrittenStep, service: Operation | None, path: Path) -> Escalation | None:
    if written.on_timeout is None or written.on_timeout.kind != "escalate":
        return None
    at, escalate = (*path, "escalate"), written.escalate
    action = (escalate.on_timeout if escalate else None) or TimeoutAction()
    _check_decide(reading, action, written, (*at, "onTimeout"))
    if action.kind == "escalate":
        reading.report((*at, "onTimeout"), "an escalation is not escalated again", "write fail, skip or retry")
    if escalate and escalate.on_timeout and "timeout" not in reading.composed.data_at(at):
        reading.report((*at, "onTimeout"), "`onTimeout` needs a `timeout`", "add one beside it", at_key=True)
    target = _target(reading, written, service, path)
    return Escalation(to=target, timeout=escalate.timeout if escalate else None, on_timeout=action) if target else None


def _target(reading: Reading, written: WrittenStep, service: Operation | None, path: Path) -> Operation | None:
    if written.escalate and written.escalate.to:
        return reading.operation(written.escalate.to, written.id, (*path, "escalate", "to"))
    lane = reading.lanes.get(service.lane) if service else None
    if lane and lane.backup:
        return reading.operation(lane.backup, written.id, (*path, "service"))
    given = reading.composed.data_at((*path, "escalate"))
    if given is None or (isinstance(given, dict) and "to" not in given):  # of any other its shape has been reported
        whose = f"lane `{service.lane}` has no `backup`" if service else "the step has no lane"
        reading.report(
            (*path, "onTimeout"),
            f"there is nobody to escalate to: {whose}",
            "add escalate: {to: lane.operation}, or give the lane a backup in the services file",
        )
    return None


def _retry(written: WrittenRetry | None) -> Retry:
    return Retry(**dict(written)) if written else Retry()
