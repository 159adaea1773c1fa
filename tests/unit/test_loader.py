"""Text → definition, and every problem at its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from orchestrator.definition import BranchesStep, Operation, Retry, ServiceStep, TimeoutAction, walk
from orchestrator.errors import Invalid
from orchestrator.lanes import registry
from orchestrator.loader import load, read_document
from tests.unit.loading import EDITORS, found_in, problem, problems, read, steps

ROOT = Path(__file__).parents[2]
SAMPLES = sorted(path for path in (ROOT / "workflows").iterdir() if path.suffix in (".yaml", ".json"))

PERMIT_RENEWAL = """\
id: permit-renewal
steps:
  - id: uploadDocs
    service: fileSvc.upload
  - id: chargeFee
    service: achSvc.charge
    compensate: achSvc.refund
  - id: updatePermitDB
    service: permitSvc.update
"""
BUILDING_PERMIT = """\
{
  "id": "building-permit",
  "steps": [
    { "id": "validate", "service": "validationSvc" },
    { "id": "approve",  "service": "approvalSvc", "timeout": "48h", "onTimeout": "escalate" },
    { "id": "notify",   "service": "notificationSvc" }
  ]
}
"""


def first(line: str) -> ServiceStep:
    step = read(steps(line)).steps[0]
    assert isinstance(step, ServiceStep)
    return step


# --- the seeds' two flight plans -------------------------------------------------------------------


def test_the_permit_renewal_flight_plan_loads() -> None:
    definition = read(PERMIT_RENEWAL)
    assert definition.id == "permit-renewal"
    assert [step.id for step in definition.steps] == ["uploadDocs", "chargeFee", "updatePermitDB"]
    charge = definition.steps[1]
    assert isinstance(charge, ServiceStep)
    assert charge.operation == Operation(lane="achSvc", name="charge")
    assert charge.compensation
    assert charge.compensation.operation == Operation(lane="achSvc", name="refund")
    assert charge.retry == Retry(max=3, backoff=1, factor=2, cap=60, jitter=True)


def test_the_building_permit_flight_plan_escalates_to_its_lane_s_backup() -> None:
    definition = read(BUILDING_PERMIT, file="permitWorkflow.json")
    validate, approve, _ = definition.steps
    assert isinstance(validate, ServiceStep)
    assert isinstance(approve, ServiceStep)
    assert validate.operation == Operation(lane="validationSvc", name="validate")
    assert approve.operation == Operation(lane="approvalSvc", name="decide")
    assert (approve.timeout, approve.on_timeout.kind) == (172_800, "escalate")
    assert approve.escalation
    assert approve.escalation.to == Operation(lane="backupSvc", name="approve")


def test_the_one_line_form_is_refused_with_its_right_form() -> None:
    found = problem("id: x\nsteps:\n  - id: uploadDocs     service: fileSvc.upload\n", file="x.yaml")
    assert (found.file, found.line, found.column) == ("x.yaml", 3, 24)
    assert found.hint
    assert "- {id: uploadDocs, service: fileSvc.upload}" in found.hint


# --- what keys mean --------------------------------------------------------------------------------


def test_the_head_of_a_definition_is_read() -> None:
    definition = read(
        "id: x\ntitle: A title\ninput: {type: object, required: [fee]}\nbusinessKey: payload.permitNo\n"
        "deadline: 30d\ncompensateOn: attempted\nsteps: [{id: a, service: fileSvc, title: First}]\n"
    )
    assert (definition.title, definition.deadline, definition.compensate_on) == ("A title", 30 * 86400, "attempted")
    assert definition.input == {"type": "object", "required": ["fee"]}
    assert definition.business_key
    assert definition.business_key.source == "payload.permitNo"
    assert definition.steps[0].title == "First"


def test_a_service_step_is_read_with_all_its_keys() -> None:
    step = first(
        'id: a, service: achSvc.charge, input: {amount: "${payload.fee}"}, when: payload.ok, timeout: 10m, '
        "retry: {max: 5, backoff: 2s, factor: 3, cap: 5m, jitter: false}, onTimeout: retry, "
        'compensate: {service: achSvc.refund, input: "${steps.a.result.id}", retry: {max: 9}, timeout: 1h}'
    )
    assert step.input
    assert step.input.value == {"amount": "${payload.fee}"}
    assert step.when
    assert step.when.source == "payload.ok"
    assert step.retry == Retry(max=5, backoff=2, factor=3, cap=300, jitter=False)
    assert (step.timeout, step.on_timeout) == (600, TimeoutAction(kind="retry"))
    undo = step.compensation
    assert undo
    assert undo.input
    assert undo.retry
    assert (undo.input.steps, undo.retry.max, undo.retry.backoff, undo.timeout) == (("a",), 9, 1, 3600)


def test_a_compensation_without_a_retry_takes_its_step_s() -> None:
    undo = first("id: a, service: achSvc, retry: {max: 9}, compensate: achSvc.refund").compensation
    assert undo
    assert undo.retry is None
    assert undo.input is None


def test_a_pause_may_leave_its_service_out() -> None:
    step = first("id: a, pause: true, onReject: continue, timeout: 48h, onTimeout: {decide: rejected}")
    assert (step.pause, step.operation, step.on_reject) == (True, None, "continue")
    assert step.on_timeout == TimeoutAction(kind="decide", decision="rejected")


def test_an_escalation_names_whom_how_long_and_what_then() -> None:
    step = first(
        "id: a, service: zoningPortal.approve, pause: true, timeout: 48h, onTimeout: escalate, "
        "escalate: {to: zoningPortal.backup, timeout: 24h, onTimeout: {decide: approved}}"
    )
    assert step.escalation
    assert step.escalation.to == Operation(lane="zoningPortal", name="backup")
    assert (step.escalation.timeout, step.escalation.on_timeout.decision) == (86_400, "approved")


def test_neighbours_marked_parallel_become_branches_that_nobody_wrote() -> None:
    definition = read(
        steps(
            "id: a, service: fileSvc, parallel: true",
            "id: b, service: fileSvc, parallel: true",
            "id: c, service: fileSvc",
            "id: d, service: fileSvc, parallel: true",
        )
    )
    together, alone, lone = definition.steps
    assert isinstance(together, BranchesStep)
    assert (together.id, together.written) == ("a+b", False)
    assert [(branch.name, branch.steps[0].id) for branch in together.branches] == [("a", "a"), ("b", "b")]
    assert (alone.id, lone.id) == ("c", "d")
    assert isinstance(lone, ServiceStep)


def test_branches_hold_whole_sequences_nested() -> None:
    definition = read(
        steps(
            "id: r, branches: {l: [{id: a, service: fileSvc}, {id: b, service: fileSvc}], "
            "m: [{id: s, branches: {n: [{id: c, service: fileSvc}]}}]}"
        )
    )
    assert [step.id for step in walk(definition.steps)] == ["r", "a", "b", "s", "c"]
    block = definition.steps[0]
    assert isinstance(block, BranchesStep)
    assert block.written
    assert [branch.name for branch in block.branches] == ["l", "m"]


def test_blocks_are_nested_only_so_deep() -> None:
    def nested(depth: int) -> dict[str, Any]:
        if not depth:
            return {"id": "leaf", "service": "fileSvc"}
        inside = [nested(depth - 1)]
        kinds: list[dict[str, Any]] = [
            {"branches": {"only": inside}},
            {"switch": [{"otherwise": True, "steps": inside}]},
            {"forEach": "payload.list", "steps": inside},
            {"repeat": {"until": "payload.ok", "max": 2}, "steps": inside},
        ]
        return {"id": f"block{depth}", **kinds[depth % 4]}

    assert read(json.dumps({"id": "x", "steps": [nested(8)]})).steps[0].id == "block8"
    assert "nested deeper than 8" in problem(json.dumps({"id": "x", "steps": [nested(9)]})).message


# --- problems --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("id: a, servce: fileSvc.upload", "unknown key `servce`", "did you mean `service`?"),
        ("id: a, service: fileSvc, ontimeout: fail", "unknown key `ontimeout`", "did you mean `onTimeout`?"),
        ("id: a, service: fileSvc, retry: {backof: 1s}", "unknown key `backof`", "did you mean `backoff`?"),
        ("id: a, service: fileSvc, compensate: {timeout: 1h}", "`service` is missing", "lane.operation"),
        ("id: a, service: filesvc.upload", "unknown service lane `filesvc`", "did you mean `fileSvc`?"),
        (
            "id: a, service: fileSvc, compensate: achSVC.refund",
            "unknown service lane `achSVC`",
            "did you mean `achSvc`?",
        ),
        ("id: a, service: a.b.c", "must be a lane or lane.operation", ""),
        ("service: fileSvc", "`id` is missing", "every step has an id"),
        ("id: 1a, service: fileSvc", "must begin with a letter", ""),
        ("id: a", "a step needs `service`, `pause: true`, `wait`", "lane.operation"),
        ("id: a, service: null", "`service` is empty", "remove the key"),
        ("id: a, service: fileSvc, timeout: 30", "with its unit", ""),
        ("id: a, service: fileSvc, timeout: 5x", "is not a duration", ""),
        ("id: a, service: fileSvc, retry: {max: -1}", "at least 0", ""),
        ("id: a, service: fileSvc, retry: {factor: 0.5}", "at least 1", ""),
        ('id: a, service: fileSvc, retry: {max: "3"}', "must be a whole number", ""),
        ("id: a, service: fileSvc, retry: {jitter: 1}", "must be true or false", ""),
        ("id: a, service: fileSvc, onTimeout: fail", "needs a `timeout`", "timeout: 48h"),
        ("id: a, service: fileSvc, timeout: 1h, onTimeout: explode", "must be one of escalate, fail", ""),
        ("id: a, service: fileSvc, timeout: 1h, onTimeout: {decide: maybe}", "must be one of", ""),
        (
            "id: a, service: fileSvc, timeout: 1h, onTimeout: {decide: approved}",
            "needs `pause: true`",
            "fail, skip or retry",
        ),
        (
            "id: a, service: fileSvc, timeout: 1h, onTimeout: escalate",
            "lane `fileSvc` has no `backup`",
            "services file",
        ),
        (
            "id: a, pause: true, timeout: 1h, onTimeout: escalate",
            "the step has no lane",
            "escalate: {to: lane.operation}",
        ),
        ("id: a, service: fileSvc, timeout: 1h, escalate: {to: backupSvc.x}", "no effect", "onTimeout: escalate"),
        (
            "id: a, service: fileSvc, timeout: 1h, onTimeout: escalate, escalate: {to: backupSvc, timeout: 1h, onTimeout: escalate}",
            "not escalated again",
            "",
        ),
        (
            "id: a, service: fileSvc, timeout: 1h, onTimeout: escalate, escalate: {to: backupSvc, onTimeout: fail}",
            "`onTimeout` needs a `timeout`",
            "",
        ),
        ("id: a, service: fileSvc, onReject: fail", "`onReject` needs `pause: true`", ""),
        ("id: a, pause: true, onReject: maybe", "must be 'fail' or 'continue'", ""),
        ("id: a, pause: true, compensate: achSvc.refund", "`compensate` needs a `service`", ""),
        ("id: a, service: fileSvc, when: true", "`when` must be text", ""),
        ("id: a, service: fileSvc, when: 1 + 1", "gives int", ""),
        ("id: a, service: fileSvc, when: 'payload.fee =='", "column 15: Syntax error", ""),
        ('id: a, service: fileSvc, input: {x: ["${foo}"]}', "undeclared reference to 'foo'", ""),
        ("id: a, branches: {}", "there is no branch here", ""),
        ("id: a, branches: {l: []}", "there is no step here", ""),
        ("id: a, branches: {l: nothing}", "must be a list", ""),
        ("id: a, branches: {l: [{id: b, service: fileSvc}]}, timeout: 5m", "`timeout` does not go with `branches`", ""),
        ("id: a, branches: [b]", "must be a mapping", ""),
    ],
)
def test_a_problem_says_what_where_and_how_to_mend(line: str, message: str, hint: str) -> None:
    found = problem(steps(line), file="x.yaml")
    assert message in found.message
    assert hint in (found.hint or "")
    assert (found.file, found.line) == ("x.yaml", 3)
    assert found.column
    assert found.column >= 5


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("id: Bad_Id", "`id` must be lower-case"),
        ("id: 5", "`id` must be text"),
        ("titel: x\nid: x", "unknown key `titel`"),
        ("id: x\ndeadline: soon", "is not a duration"),
        ("id: x\ncompensateOn: always", "must be 'completed' or 'attempted'"),
        ("id: x\nbusinessKey: steps.a.result", "has not completed"),
        ("id: x\ninput: [1]", "must be a mapping"),
        ("id: x\ninput: {type: objekt}", "not a valid JSON Schema"),
        ('id: x\ninput: {$ref: "http://evil/schema"}', "is not a place in this schema"),
        ('id: x\ninput: {properties: {a: {$ref: "#/$defs/b"}}}', "is not a place in this schema"),
        ("id: x\ninput: {$schema: draft-4}", "remove `$schema`"),
    ],
)
def test_problems_of_the_head_are_reported(head: str, message: str) -> None:
    assert message in problem(head + "\nsteps: [{id: a, service: fileSvc}]\n").message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id: x", "`steps` is missing"),
        ("id: x\nsteps: []", "no step here"),
        ("id: x\nsteps: {a: 1}", "must be a list"),
        ("- a", "a mapping is expected"),
        ("5", "a mapping is expected"),
        ("id: x\nsteps: [a]", "a mapping is expected"),
    ],
)
def test_a_text_of_another_shape_is_refused(text: str, message: str) -> None:
    assert message in problem(text).message


def test_all_problems_come_at_once_in_the_text_s_order() -> None:
    found = problems(
        "id: x\nsteps:\n  - id: a\n    servce: fileSvc\n  - id: b\n    service: nope.x\n    timeout: 5x\n"
        "    when: foo\n"
    )
    assert [(one.line, one.column) for one in found] == [(4, 5), (6, 14), (7, 14), (8, 11)]


def test_a_duplicate_id_is_found_across_branches() -> None:
    found = problem(steps("id: a, service: fileSvc", "id: r, branches: {l: [{id: a, service: fileSvc}]}"))
    assert found.message == "duplicate step id `a`"
    assert found.line == 4
    assert found.hint
    assert "line 3" in found.hint


# --- what an expression may name -------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ("id: a, service: fileSvc", "id: b, service: fileSvc, when: steps.a.result.ok"),
        ("id: a, service: fileSvc", "id: r, branches: {l: [{id: b, service: fileSvc, when: steps.a.result.ok}]}"),
        ("id: r, branches: {l: [{id: a, service: fileSvc}]}", "id: b, service: fileSvc, when: steps.a.result.ok"),
        (
            "id: a, service: fileSvc, parallel: true",
            "id: b, service: fileSvc, parallel: true",
            "id: c, service: fileSvc, when: steps.a.result.ok && steps.b.result.ok",
        ),
        # inside a block its own `when` was true
        (
            "id: r, when: payload.x, branches: {l: [{id: a, service: fileSvc}, {id: b, service: fileSvc, when: steps.a.result.ok}]}",
        ),
        (
            "id: a, service: fileSvc, when: payload.x",
            "id: b, service: fileSvc, when: has(steps.a.result) && steps.a.result.ok",
        ),
    ],
)
def test_a_step_that_has_completed_may_be_named(lines: tuple[str, ...]) -> None:
    read(steps(*lines))


@pytest.mark.parametrize(
    "lines",
    [
        ("id: a, service: fileSvc, when: steps.a.result.ok",),
        ("id: b, service: fileSvc, when: steps.a.result.ok", "id: a, service: fileSvc"),
        ("id: r, branches: {l: [{id: a, service: fileSvc}], m: [{id: b, service: fileSvc, when: steps.a.result.ok}]}",),
        ("id: a, service: fileSvc, parallel: true", "id: b, service: fileSvc, parallel: true, when: steps.a.result.ok"),
        ("id: r, branches: {l: [{id: b, service: fileSvc}]}", "id: c, service: fileSvc, when: steps.r.result.ok"),
    ],
)
def test_a_step_that_may_not_have_completed_is_refused(lines: tuple[str, ...]) -> None:
    assert "has not completed by then" in problem(steps(*lines)).message


@pytest.mark.parametrize(
    "lines",
    [
        ("id: a, service: fileSvc, when: payload.x",),
        ("id: a, service: fileSvc, timeout: 1h, onTimeout: skip",),
        ("id: a, service: approvalSvc, timeout: 1h, onTimeout: escalate, escalate: {timeout: 1h, onTimeout: skip}",),
        ("id: r, when: payload.x, branches: {l: [{id: a, service: fileSvc}]}",),
    ],
)
def test_a_step_that_may_be_skipped_needs_has(lines: tuple[str, ...]) -> None:
    assert "may be skipped" in problem(steps(*lines, "id: z, service: fileSvc, when: steps.a.result.ok")).message
    read(steps(*lines, "id: z, service: fileSvc, when: has(steps.a.result) && steps.a.result.ok"))


def test_an_unknown_step_comes_with_a_suggestion() -> None:
    found = problem(
        steps("id: uploadDocs, service: fileSvc", "id: b, service: fileSvc, when: steps.uploadDoc.result.ok")
    )
    assert "did you mean `uploadDocs`?" in found.message


def test_the_undo_of_an_attempted_step_asks_whether_there_is_a_result() -> None:
    text = steps('id: a, service: achSvc, compensate: {service: achSvc.refund, input: "${steps.a.result.id}"}')
    read(text)
    assert "may be skipped" in problem(text.replace("steps:", "compensateOn: attempted\nsteps:", 1)).message


# --- lanes -----------------------------------------------------------------------------------------


def test_a_stored_version_loads_although_its_lane_has_been_removed() -> None:
    text = steps("id: a, service: goneSvc")
    assert "unknown service lane" in problem(text).message
    step = read(text, strict=False).steps[0]
    assert isinstance(step, ServiceStep)
    assert step.operation == Operation(lane="goneSvc", name="a")


def test_without_lanes_no_lane_is_checked() -> None:
    assert load(PERMIT_RENEWAL).id == "permit-renewal"


def test_an_escalation_that_needs_a_removed_lane_cannot_be_resolved() -> None:
    with pytest.raises(Invalid, match="nobody to escalate to"):
        load(BUILDING_PERMIT, lanes={}, strict=False)


# --- the space of texts ----------------------------------------------------------------------------

WORDS = st.sampled_from([
    "id", "steps", "service", "branches", "switch", "when", "otherwise", "forEach", "as", "maxConcurrency",
    "repeat", "until", "max", "wait", "workflow", "end", "fail", "onError", "pause", "timeout", "onTimeout",
    "escalate", "retry", "compensate", "input", "parallel", "title", "x", "doc", "payload", "continue",
    "fileSvc.up", "${steps.x.result}", "${doc.name}", "steps.x.result", "steps.y.map(one,one.result)", "48h",
    "",
])  # fmt: skip
ANY = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers(-5, 5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=15,
)
STEP = st.dictionaries(WORDS, ANY, max_size=6)


@settings(deadline=None)
@given(st.text() | ANY.map(json.dumps) | st.lists(STEP).map(lambda items: json.dumps({"id": "x", "steps": items})))
def test_any_text_is_a_definition_or_invalid(text: str) -> None:
    found = found_in(text)
    assert all(one.line and one.column for one in found)
    assert found or EDITORS.is_valid(read_document(text).data)


LEAVES = (
    st.fixed_dictionaries({"service": st.just("fileSvc.up")}, optional={"parallel": st.booleans()})
    | st.just({"pause": True})
    | st.sampled_from([{"wait": "1h"}, {"workflow": "other"}, {"end": "done", "when": "payload.ok"}])
)


@st.composite
def sequences(draw: st.DrawFn, depth: int = 3) -> list[dict[str, Any]]:
    """Steps without ids: `numbered` gives them in walk order."""
    return draw(st.lists(LEAVES | blocks(depth - 1) if depth else LEAVES, min_size=1, max_size=3))


def blocks(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    inside = st.deferred(lambda: sequences(depth))
    case = st.fixed_dictionaries({"when": st.just("payload.ok"), "steps": inside})
    return st.one_of(
        st.fixed_dictionaries(
            {"branches": st.dictionaries(st.sampled_from(["l", "m", "n"]), inside, min_size=1, max_size=3)}
        ),
        st.fixed_dictionaries({"switch": st.lists(case, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"forEach": st.just("payload.list"), "steps": inside}),
        st.fixed_dictionaries({"repeat": st.just({"until": "payload.ok", "max": 3}), "steps": inside}),
    )


def numbered(items: list[dict[str, Any]], ids: list[str]) -> list[dict[str, Any]]:
    written = []
    for item in items:
        ids.append(f"s{len(ids)}")
        step = {**item, "id": ids[-1]}
        if "branches" in item:
            step["branches"] = {name: numbered(inner, ids) for name, inner in item["branches"].items()}
        if "switch" in item:
            step["switch"] = [{**case, "steps": numbered(case["steps"], ids)} for case in item["switch"]]
        if "steps" in item:
            step["steps"] = numbered(item["steps"], ids)
        written.append(step)
    return written


@settings(deadline=None)
@given(sequences())
def test_walking_a_definition_meets_its_steps_as_they_are_written(items: list[dict[str, Any]]) -> None:
    ids: list[str] = []
    text = json.dumps({"id": "x", "steps": numbered(items, ids)})
    met = [step.id for step in walk(read(text).steps) if not (isinstance(step, BranchesStep) and not step.written)]
    assert met == ids


def test_the_schema_for_editors_takes_the_seeds_and_refuses_unknown_keys() -> None:
    Draft202012Validator.check_schema(EDITORS.schema)
    assert EDITORS.is_valid(read_document(PERMIT_RENEWAL).data)
    assert EDITORS.is_valid(json.loads(BUILDING_PERMIT))
    assert not EDITORS.is_valid({"id": "x", "steps": [{"id": "a", "servce": "x"}]})


def test_a_thousand_steps_are_within_the_limits() -> None:
    lines = [f"id: s{number}, service: fileSvc" for number in range(1000)]
    assert len(read(steps(*lines)).steps) == 1000
    assert "more than 1000 steps" in problem(steps(*lines, "id: last, service: fileSvc")).message


def test_what_is_too_much_is_reported_once_and_where_it_begins() -> None:
    body = ", ".join(f"{{id: b{number}, service: fileSvc}}" for number in range(1200))
    found = problem(f"id: x\nsteps:\n  - id: a\n    forEach: payload.list\n    steps: [{body}]\n")
    assert (found.message, found.line) == ("more than 1000 steps", 5)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_sample_is_read_and_is_no_error_in_an_editor(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert load(text, file=path.name, lanes=registry.load(ROOT / "services.yaml")).steps
    assert EDITORS.is_valid(read_document(text, path.name).data)
