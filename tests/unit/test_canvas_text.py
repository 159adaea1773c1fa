from __future__ import annotations

from orchestrator.commands.canvas_text import lines
from orchestrator.lane import Lane
from orchestrator.loader import load
from orchestrator.plan import Plan


def printed(steps: str, **queues: str) -> list[str]:
    lanes = {name: Lane(name=name, transport="local", queue=queue) for name, queue in queues.items()}
    return list(lines(Plan(load(f"id: it\nsteps:\n{steps}"), lanes)))


def test_neighbours_on_one_queue_are_one_leg() -> None:
    assert printed("- {id: a, service: s.x}\n- {id: b, service: s.y}") == ["chain([a b])"]


def test_another_queue_is_another_leg_and_is_named() -> None:
    steps = "- {id: a, service: s.x}\n- {id: b, service: pay.y}\n- {id: c, service: pay.z}"
    assert printed(steps, pay="payments") == ["chain([a], [b c]@payments)"]


def test_branches_with_something_after_them_are_a_chord() -> None:
    steps = "- {id: a, service: s.x, parallel: true}\n- {id: b, service: s.x, parallel: true}\n- {id: c, service: s.x}"
    assert printed(steps) == ["chord([a], [b]) → [c]"]


def test_branches_at_the_end_are_a_group() -> None:
    steps = "- {id: o, service: s.x}\n- {id: a, service: s.x, parallel: true}\n- {id: b, service: s.x, parallel: true}"
    assert printed(steps) == ["chain([o], group([a], [b]))"]


def test_a_pause_cuts_and_what_follows_it_has_a_line_of_its_own() -> None:
    steps = "- {id: a, service: s.x}\n- {id: p, pause: true}\n- {id: c, service: s.x}"
    assert printed(steps) == ["chain([a p])", "after the decision on p: chain([c])"]


def test_a_block_at_a_branchs_end_is_left_to_the_dispatcher() -> None:
    steps = """\
- id: outer
  branches:
    one:
      - {id: a, service: s.x}
      - id: inner
        branches: {l: [{id: b, service: s.x}], r: [{id: c, service: s.x}]}
    two: [{id: d, service: s.x}]
- {id: e, service: s.x}
"""
    assert printed(steps) == [
        "chord([a], [d]) → [e]",
        "after a: group([b], [c])",
    ]


def test_a_block_right_after_a_pause_is_a_canvas_of_its_own() -> None:
    steps = """\
- {id: p, pause: true}
- {id: a, service: s.x, parallel: true}
- {id: b, service: s.x, parallel: true}
- {id: c, service: s.x}
"""
    assert printed(steps) == ["chain([p])", "after the decision on p: chord([a], [b]) → [c]"]


def test_what_follows_a_pause_in_a_branch_has_a_line_of_its_own() -> None:
    steps = """\
- id: review
  branches:
    legal: [{id: read, service: s.x}, {id: sign, pause: true}, {id: file, service: s.x}]
    fire: [{id: inspect, service: s.x}]
- {id: done, service: s.x}
"""
    assert printed(steps) == ["chord([read sign], [inspect]) → [done]", "after the decision on sign: chain([file])"]


def test_a_conditional_block_opens_behind_its_gate() -> None:
    steps = """\
- id: review
  when: payload.fee > 0
  branches: {l: [{id: b, service: s.x}], r: [{id: c, service: s.x}]}
- {id: done, service: s.x}
"""
    assert printed(steps) == ["chain([review], chord([b], [c]) → [done])"]


def test_a_switch_cuts_and_each_of_its_ways_has_a_line() -> None:
    steps = """\
- {id: a, service: s.x}
- id: decide
  switch:
    - {when: payload.small, steps: [{id: b, service: s.x}, {id: c, service: s.y}]}
    - {otherwise: true, steps: [{id: d, service: s.x}]}
- {id: e, service: s.x}
"""
    assert printed(steps) == [
        "chain([a decide])",
        "when decide finds payload.small: chain([b c])",
        "when decide finds none of these true: chain([d])",
        "after the join of decide: chain([e])",
    ]


def test_loops_cut_and_show_what_is_sent_for_an_iteration() -> None:
    steps = """\
- id: docs
  forEach: payload.documents
  maxConcurrency: 5
  steps: [{id: scan, service: s.x}, {id: sign, pause: true}, {id: file, service: s.x}]
- id: tries
  repeat: {until: steps.look.result.ok, max: 3}
  steps: [{id: look, service: s.x}]
- {id: done, service: s.x}
"""
    assert printed(steps) == [
        "chain([docs])",
        "for each of payload.documents in docs, 5 at a time: chain([scan sign])",
        "after the decision on sign: chain([file])",
        "after the last item of docs: chain([tries])",
        "in each round of tries, until steps.look.result.ok (at most 3): chain([look])",
        "after the last round of tries: chain([done])",
    ]


def test_a_timer_and_a_sub_workflow_cut() -> None:
    steps = "- {id: w, wait: 24h}\n- {id: visit, workflow: site-inspection}\n- {id: c, service: s.x}"
    assert printed(steps) == [
        "chain([w])",
        "when the time of w has come: chain([visit])",
        "when site-inspection has ended, which visit starts: chain([c])",
    ]


def test_an_end_says_what_becomes_of_the_instance() -> None:
    steps = """\
- {id: a, service: s.x}
- {id: halt, fail: too late, when: payload.late}
- {id: b, service: s.x}
- {id: stop, end: rejected}
"""
    assert printed(steps) == [
        "chain([a halt])",
        "when halt is skipped: chain([b stop])",
        "at halt: the instance fails (too late), and what was done is undone",
        "at stop: the instance completes (rejected)",
    ]


def test_a_control_step_in_a_branch_leaves_the_join_to_postgres() -> None:
    steps = """\
- id: review
  branches:
    legal: [{id: a, service: s.x}, {id: w, wait: 1h}, {id: b, service: s.x}]
    fire: [{id: c, service: s.x}]
- {id: d, service: s.x}
"""
    assert printed(steps) == ["chord([a w], [c]) → [d]", "when the time of w has come: chain([b])"]
