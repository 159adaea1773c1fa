"""What a picture of a definition says about a step, and where the flow goes on. Pure.

`graph_svg` and `graph_mermaid` draw it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from orchestrator.definition import (
    BranchesStep,
    Case,
    Definition,
    EndStep,
    ForEachStep,
    RepeatStep,
    ServiceStep,
    Step,
    SwitchStep,
    TimeoutAction,
    WaitStep,
    WorkflowStep,
)

LONGEST = 60  # characters of a condition
KINDS = {ServiceStep: "service", WaitStep: "wait", WorkflowStep: "workflow", BranchesStep: "branches",
         SwitchStep: "switch", ForEachStep: "forEach", RepeatStep: "repeat"}  # fmt: skip
UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"))

# What there is to say


def details(step: Step) -> tuple[str, ...]:
    """The lines below a step's name: what it calls, when it runs, what it waits for, what undoes it."""
    return tuple(line for line in (calls(step), condition(step), *facts(step)) if line)


def name(step: Step) -> str:
    return f"{step.id}: {step.title}" if step.title else step.id


def name_of(definition: Definition) -> str:
    return f"{definition.id}: {definition.title}" if definition.title else definition.id


def is_shown(step: Step) -> bool:
    """A block that nobody wrote has no name to show."""
    return not isinstance(step, BranchesStep) or step.written


def calls(step: Step) -> str:
    """The operation or the workflow that a step calls; empty where it calls none."""
    if isinstance(step, ServiceStep):
        return str(step.operation or "")
    return f"workflow {step.workflow}" if isinstance(step, WorkflowStep) else ""


def condition(step: Step) -> str:
    return f"when {shortened(step.when.source)}" if step.when else ""


def case_label(case: Case) -> str:
    return shortened(case.when.source) if case.when else "otherwise"


def has_else(step: SwitchStep) -> bool:
    """Whether a switch may go none of its ways."""
    return all(case.when is not None for case in step.cases)


def facts(step: Step) -> tuple[str, ...]:
    """What else there is to say, a line each."""
    return (*_facts(step), *(["goes on when it fails"] if getattr(step, "on_error", "fail") == "continue" else []))


def _facts(step: Step) -> tuple[str, ...]:
    match step:
        case ServiceStep():
            return tuple(_service_facts(step))
        case WaitStep():
            return (_wait(step),)
        case EndStep():
            return (f"{'completes' if step.kind == 'end' else 'fails'}: {step.reason}",)
        case ForEachStep():
            variable = f" as {step.variable}" if step.variable else ""
            return (f"for each {shortened(step.items.source)}{variable}", f"{step.concurrency} at a time")
        case RepeatStep():
            return (f"until {shortened(step.until.source)} (at most {step.max})",)
        case BranchesStep() | SwitchStep() | WorkflowStep():
            return ()
    assert_never(step)


def _service_facts(step: ServiceStep) -> Iterator[str]:
    if step.pause:
        yield "waits for a decision"
    if step.timeout:
        yield _time_limit(step)
    if step.on_reject == "continue":
        yield "goes on when rejected"
    if step.compensation:
        yield f"undo: {step.compensation.operation}"


def _wait(step: WaitStep) -> str:
    return f"waits until {shortened(step.until.source)}" if step.until else f"waits {duration(step.seconds or 0)}"


def _time_limit(step: ServiceStep) -> str:
    limit = f"{duration(step.timeout or 0)}, then "
    if step.on_timeout.kind != "escalate" or step.escalation is None:
        return limit + _action(step.on_timeout)
    then = step.escalation
    more = f" ({duration(then.timeout)}, then {_action(then.on_timeout)})" if then.timeout else ""
    return f"{limit}to {then.to}{more}"


def _action(action: TimeoutAction) -> str:
    return action.decision or action.kind


def duration(seconds: float) -> str:
    """As a person would write it: `48h` is given back as `2d`, `90s` as `90s`."""
    for size, unit in UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"


def shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def kind(step: Step) -> str:
    """What a step is drawn as: `pause` and the key that stands for its kind in a definition, `service` for the rest."""
    if isinstance(step, EndStep):
        return step.kind
    return "pause" if isinstance(step, ServiceStep) and step.pause else KINDS[type(step)]


# Where the flow goes


def goes_on(step: Step) -> bool:
    """Whether anything can follow a step: what ends the instance, whichever way it goes, has no edge to what follows."""
    if step.when is not None:
        return True
    match step:
        case EndStep():
            return False
        case BranchesStep():
            return all(runs_through(branch.steps) for branch in step.branches)
        case SwitchStep():
            return has_else(step) or any(runs_through(case.steps) for case in step.cases)
        case RepeatStep():
            return runs_through(step.steps)
        case ForEachStep() | ServiceStep() | WaitStep() | WorkflowStep():
            return True  # of an empty list, a loop's body is never run
    assert_never(step)


def runs_through(steps: tuple[Step, ...]) -> bool:
    return all(goes_on(step) for step in steps)
