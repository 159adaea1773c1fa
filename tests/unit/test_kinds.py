"""Every kind of step: how it is read, what may be named behind it, and what does not go together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.definition import (
    CONCURRENCY,
    BranchesStep,
    Definition,
    EndStep,
    Expression,
    ForEachStep,
    RepeatStep,
    ServiceStep,
    SwitchStep,
    Template,
    WaitStep,
    WorkflowStep,
)
from orchestrator.language.steps import WRITTEN_KEYS
from orchestrator.loader import cycles, read_document
from tests.unit.loading import EDITORS, found_in, problem, problems, read, steps

EVERY_KIND = """\
id: benefit
steps:
  - {id: check, service: fileSvc.check, onError: continue}
  - id: decide
    title: Fit?
    switch:
      - when: steps.check.error != null
        steps: [{id: sorry, service: notificationSvc.sorry}, {id: stop, fail: not possible}]
      - otherwise: true
        steps: [{id: fine, service: notificationSvc.fine}]
  - id: each
    forEach: payload.documents
    as: doc
    maxConcurrency: 5
    when: size(payload.documents) > 0
    steps: [{id: store, service: fileSvc.store, input: "${doc.name}"}]
  - id: untilComplete
    repeat: {until: steps.ask.result.complete, max: 5}
    onError: continue
    steps: [{id: ask, service: fileSvc.ask}]
  - {id: coolOff, wait: 24h}
  - {id: opening, wait: {until: timestamp(payload.opens)}}
  - {id: inspection, workflow: site-inspection, input: {site: "${payload.site}"}, onError: continue}
  - {id: over, end: done early}
"""


def test_every_kind_of_step_is_read() -> None:
    check, decide, each, until, cool_off, opening, inspection, over = read(EVERY_KIND).steps
    assert isinstance(check, ServiceStep)
    assert check.on_error == "continue"
    assert isinstance(decide, SwitchStep)
    assert decide.title == "Fit?"
    assert [(case.when and case.when.steps, [step.id for step in case.steps]) for case in decide.cases] == [
        (("check",), ["sorry", "stop"]),
        (None, ["fine"]),
    ]
    assert decide.cases[0].steps[1] == EndStep(id="stop", kind="fail", reason="not possible")
    assert isinstance(each, ForEachStep)
    assert (each.items.source, each.variable, each.concurrency) == ("payload.documents", "doc", 5)
    assert each.when
    assert isinstance(each.steps[0], ServiceStep)
    assert each.steps[0].input == Template(value="${doc.name}", items=("doc",))
    assert isinstance(until, RepeatStep)
    assert (until.until.steps, until.max, until.on_error, until.steps[0].id) == (("ask",), 5, "continue", "ask")
    assert cool_off == WaitStep(id="coolOff", seconds=86_400)
    assert opening == WaitStep(id="opening", until=Expression(source="timestamp(payload.opens)"))
    assert isinstance(inspection, WorkflowStep)
    assert (inspection.workflow, inspection.on_error) == ("site-inspection", "continue")
    assert inspection.input == Template(value={"site": "${payload.site}"})
    assert over == EndStep(id="over", kind="end", reason="done early")


def test_what_is_left_out_has_its_default() -> None:
    each, until, child = read(
        steps(
            "id: a, forEach: payload.list, steps: [{id: b, service: fileSvc}]",
            "id: c, repeat: {until: payload.ok, max: 2}, steps: [{id: d, service: fileSvc}]",
            "id: e, workflow: other",
        )
    ).steps
    assert isinstance(each, ForEachStep)
    assert (each.variable, each.concurrency) == (None, CONCURRENCY)
    assert isinstance(until, RepeatStep)
    assert until.on_error == "fail"
    assert isinstance(child, WorkflowStep)
    assert (child.input, child.on_error) == (None, "fail")


def test_blocks_and_waits_may_stand_beside_each_other() -> None:
    (together,) = read(
        steps(
            "id: a, parallel: true, wait: 1h",
            "id: b, parallel: true, forEach: payload.list, steps: [{id: c, service: fileSvc}]",
            "id: d, parallel: true, switch: [{when: payload.ok, steps: [{id: e, service: fileSvc}]}]",
        )
    ).steps
    assert isinstance(together, BranchesStep)
    assert [type(branch.steps[0]) for branch in together.branches] == [WaitStep, ForEachStep, SwitchStep]


@pytest.mark.parametrize(
    ("keys", "stray"),
    [
        ("branches: {l: [{id: i, service: fileSvc}]}, timeout: 1h", "timeout"),
        ("switch: [{otherwise: true, steps: [{id: i, service: fileSvc}]}], retry: {max: 1}", "retry"),
        ("forEach: payload.list, steps: [{id: i, service: fileSvc}], compensate: achSvc.refund", "compensate"),
        ("repeat: {until: payload.ok, max: 3}, steps: [{id: i, service: fileSvc}], input: {a: 1}", "input"),
        ("wait: 1h, pause: true", "pause"),
        ("workflow: other, timeout: 1h", "timeout"),
        ("end: done, service: fileSvc", "service"),
        ("fail: broken, as: doc", "as"),
        ("service: fileSvc, wait: 1h", "service"),
        ("service: fileSvc, maxConcurrency: 5", "maxConcurrency"),
    ],
)
def test_a_key_that_does_not_go_with_the_step_is_refused_at_the_key_with_a_mend(keys: str, stray: str) -> None:
    text = steps(f"id: a, {keys}")
    found = problem(text)
    assert found.message.startswith(f"`{stray}` does not go with")
    assert found.hint
    assert found.column
    assert text.splitlines()[2][found.column - 1 :].startswith(f"{stray}:")


def test_a_sub_workflow_has_no_timeout_but_may_have_a_deadline() -> None:
    assert problem(steps("id: a, workflow: other, timeout: 1h")).hint == "give the sub-workflow a `deadline`"


# --- what comes after blocks -------------------------------------------------------------------------

NAMED_AFTERWARDS = [
    # of a loop, lists
    (
        "id: r, forEach: payload.list, steps: [{id: a, service: fileSvc}]",
        "steps.a.map(one, one.result)",
        "steps.a.result.ok",
    ),
    (
        "id: r, repeat: {until: payload.ok, max: 2}, steps: [{id: a, service: fileSvc, when: payload.ok}]",
        "steps.a[0].status == 'SKIPPED'",
        "has(steps.a.result)",
    ),
    (
        "id: r, forEach: payload.list, steps: [{id: s, forEach: payload.list, steps: [{id: a, service: fileSvc}]}]",
        "size(steps.a[0]) > 1",
        "steps.a.result.ok",
    ),
    (
        "id: r, when: payload.ok, forEach: payload.list, steps: [{id: a, service: fileSvc}]",
        "has(steps.a) && steps.a.exists(one, one.result.ok)",
        "steps.a.exists(one, one.result.ok)",
    ),
    # of a switch, perhaps nothing
    (
        "id: r, switch: [{otherwise: true, steps: [{id: a, service: fileSvc}]}]",
        "has(steps.a.result) && steps.a.result.ok",
        "steps.a.result.ok",
    ),
    (
        "id: r, switch: [{when: payload.ok, steps: [{id: s, forEach: payload.l, steps: [{id: a, service: fileSvc}]}]}]",
        "has(steps.a) ? size(steps.a) > 1 : false",
        "size(steps.a) > 1",
    ),
    # a failure that was gone on after leaves a step that can be asked
    ("id: a, service: fileSvc, onError: continue", "steps.a.error != null", "steps.b.error != null"),
    ("id: a, wait: 1h", "steps.a.status == 'SUCCEEDED'", "steps.z.status == ''"),
    ("id: a, workflow: other", "steps.a.result.notify.ok", "steps.a.result ="),
    (
        "id: a, repeat: {until: payload.ok, max: 2}, onError: continue, steps: [{id: b, service: fileSvc}]",
        "steps.a.status == 'FAILED' && size(steps.b) == 2",
        "steps.b.status == 'FAILED'",
    ),
    ("id: a, when: payload.ok, wait: 1h", "has(steps.a.status)", "steps.a.status == ''"),
]


@pytest.mark.parametrize(("line", "sound", "wrong"), NAMED_AFTERWARDS)
def test_what_may_be_named_after_a_step_hangs_on_where_it_ran(line: str, sound: str, wrong: str) -> None:
    text = steps(line, 'id: z, service: fileSvc, input: "${EXPRESSION}"')
    read(text.replace("EXPRESSION", sound))
    assert problem(text.replace("EXPRESSION", wrong)).line == 4


@pytest.mark.parametrize(
    "body",
    [
        "{id: a, service: fileSvc}, {id: b, service: fileSvc, when: steps.a.result.ok}",
        '{id: a, service: fileSvc, input: "${doc.name}", when: doc.wanted}',
        '{id: a, service: fileSvc, compensate: {service: achSvc.refund, input: ["${steps.a.result}", "${doc}"]}}',
        '{id: s, forEach: doc.pages, as: page, steps: [{id: a, workflow: other, input: ["${doc}", "${page}"]}]}',
        "{id: s, switch: [{when: doc.ok, steps: [{id: a, service: fileSvc}]}, {otherwise: true, steps: [{id: b, end: x}]}]}",
        "{id: s, repeat: {until: steps.a.result.name == doc.name, max: 2}, steps: [{id: a, service: fileSvc}]}",
        "{id: a, wait: {until: doc.opens}}",
        "{id: a, service: fileSvc, when: steps.first.result.ok}",
    ],
)
def test_the_body_of_a_loop_names_its_item_and_its_own_iteration(body: str) -> None:
    loop = read(steps("id: first, service: fileSvc", f"id: l, forEach: payload.list, as: doc, steps: [{body}]")).steps[
        1
    ]
    assert isinstance(loop, ForEachStep)


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (("id: a, end: done", "id: b, service: fileSvc"), 4),
        (("id: a, branches: {l: [{id: c, fail: x}], m: [{id: d, service: fileSvc}]}", "id: b, service: fileSvc"), 4),
        (
            (
                "id: a, switch: [{when: payload.ok, steps: [{id: c, end: x}]}, {otherwise: true, steps: [{id: d, fail: y}]}]",
                "id: b, service: fileSvc",
            ),
            4,
        ),
        (("id: a, repeat: {until: payload.ok, max: 2}, steps: [{id: c, end: x}]", "id: b, service: fileSvc"), 4),
        (
            (
                "id: a, end: done, parallel: true",
                "id: c, service: fileSvc, parallel: true",
                "id: b, service: fileSvc",
                "id: d, service: fileSvc",
            ),
            5,
        ),
    ],
)
def test_a_step_that_can_never_run_is_reported(lines: tuple[str, ...], line: int) -> None:
    found = problem(steps(*lines))
    assert "can never run" in found.message
    assert found.line == line


@pytest.mark.parametrize(
    "first",
    [
        "id: a, end: done, when: payload.ok",
        "id: a, when: payload.ok, branches: {l: [{id: c, fail: x}]}",
        "id: a, switch: [{when: payload.ok, steps: [{id: c, end: x}]}]",
        "id: a, forEach: payload.list, steps: [{id: c, end: x}]",
    ],
)
def test_a_step_behind_an_end_that_need_not_come_is_fine(first: str) -> None:
    read(steps(first, "id: b, service: fileSvc"))


# --- cycles ------------------------------------------------------------------------------------------


def calling(name: str, *callees: str) -> Definition:
    return read(
        json.dumps({"id": name, "steps": [{"id": f"s{at}", "workflow": callee} for at, callee in enumerate(callees)]})
    )


def test_a_cycle_of_sub_workflows_is_told_as_a_whole_and_once() -> None:
    (found,) = cycles([calling("c", "a"), calling("a", "b"), calling("b", "c", "d"), calling("d", "elsewhere")])
    assert found.message.endswith("a → b → c → a")
    assert found.hint


def test_two_cycles_are_two_problems() -> None:
    found = cycles([calling("a", "b", "c"), calling("b", "a"), calling("c", "a")])
    assert [one.message.split(": ")[1] for one in found] == ["a → b → a", "a → c → a"]


def test_a_call_inside_blocks_counts() -> None:
    text = steps(
        "id: l, forEach: payload.list, steps: [{id: s, switch: [{otherwise: true, steps: [{id: w, workflow: y}]}]}]"
    )
    (found,) = cycles([read(text), calling("y", "x")])
    assert found.message.endswith("x → y → x")


def test_workflows_that_share_a_sub_workflow_make_no_cycle() -> None:
    assert cycles([calling("a", "b", "c"), calling("b", "d"), calling("c", "d"), calling("d", "e", "e")]) == []


# --- texts that are nearly right ---------------------------------------------------------------------

LIMP = """\
id: limp
steps:
  - {id: a, service: fileSvc, retry: {max: 1}, compensate: {service: achSvc.refund, input: "${steps.a.result}"}}
  - {id: b, pause: true, timeout: 1h, onTimeout: escalate, escalate: {to: fileSvc.b, timeout: 1h, onTimeout: skip}}
"""
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 5, 1001, 1.5, "", "x", "doc", "payload.ok", "24h", "continue", "steps.store.result", "fileSvc.y",
    [], {}, [{"id": "q", "service": "fileSvc"}], {"until": "payload.ok", "max": 2}, {"l": [{"id": "q", "wait": "1h"}]},
    [{"otherwise": True, "steps": [{"id": "q", "end": "done"}]}],
)  # fmt: skip


def parts(data: Any) -> Iterator[Any]:
    """Every mapping and every list inside."""
    if isinstance(data, dict | list):
        yield data
        for inner in data.values() if isinstance(data, dict) else data:
            yield from parts(inner)


def spoil(data: Any, random: Random) -> None:
    """Take something out, put something in, or put something in the place of something else."""
    part = random.choice(list(parts(data)))
    keys = list(part) if isinstance(part, dict) else list(range(len(part)))
    if isinstance(part, dict) and random.random() < 0.4:
        part[random.choice(sorted(WRITTEN_KEYS))] = deepcopy(random.choice(VALUES))
    elif keys and random.random() < 0.5:
        del part[random.choice(keys)]
    elif keys:
        part[random.choice(keys)] = deepcopy(random.choice(VALUES))


@settings(deadline=None, max_examples=400)
@given(st.sampled_from([EVERY_KIND, LIMP]), st.randoms(use_true_random=False), st.integers(1, 3))
def test_a_text_that_is_nearly_right_is_read_or_told_where_it_is_wrong(text: str, random: Random, times: int) -> None:
    data = read_document(text).data
    for _ in range(times):
        spoil(data, random)
    found = found_in(json.dumps(data))
    assert all(one.line and one.column for one in found)
    assert found or EDITORS.is_valid(data)


def test_of_a_step_whose_every_key_is_wrong_each_is_told() -> None:
    text = "id: x\nsteps:\n  - id: 1\n    escalate: 5\n    repeat: {max: x}\n    onError: no way\n    switch: 3\n    as: 9\n"
    assert {one.line for one in problems(text)} == {3, 4, 5, 6, 7, 8}
